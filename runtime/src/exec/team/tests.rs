//! Teams of threads: that each does its part, and how they end.

use super::*;

#[test]
fn runs_every_part_once_from_several_callers() {
    let team = Team::new(3, false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for parts in 0..200 {
                    let hits: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                    team.for_each(parts, &|i| {
                        hits[i].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(hits.iter().all(|h| h.load(Ordering::Relaxed) == 1));
                }
            });
        }
    });
}

#[test]
fn own_parts_run_on_their_threads() {
    let team = Team::new(3, false);
    let names = || {
        let names: Vec<Mutex<String>> = (0..3).map(|_| Mutex::default()).collect();
        team.for_each_own(3, &|i| {
            *lock(&names[i]) = std::thread::current().name().unwrap_or_default().to_string();
        });
        names.into_iter().map(|n| n.into_inner().expect("no panic")).collect::<Vec<_>>()
    };
    let first = names();
    assert_eq!(first[1..], ["recurve-1", "recurve-2"]);
    assert!((0..50).all(|_| names() == first));
}

#[test]
fn a_panic_reaches_the_caller_and_the_team_stays_usable() {
    let team = Team::new(2, false);
    for _ in 0..20 {
        let raised = catch_unwind(AssertUnwindSafe(|| team.for_each(8, &|i| assert!(i != 5, "planted"))));
        assert!(raised.is_err());
        let sum = AtomicUsize::new(0);
        team.for_each(8, &|i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 28);
    }
}

#[test]
fn gang_members_run_at_the_same_time() {
    let team = Team::new(3, false);
    for _ in 0..50 {
        let stop = Stop::default();
        let gang = team.gang(3, &stop);
        assert_eq!((gang.size(), team.gang(2, &stop).size()), (3, 1), "a held team gives a gang of one");
        let arrived = AtomicUsize::new(0);
        let mut members = [0usize; 3];
        gang.run(&mut members, &|m| {
            arrived.fetch_add(1, Ordering::AcqRel);
            while arrived.load(Ordering::Acquire) < 3 {
                std::thread::yield_now();
            }
            *m += 1;
        });
        assert_eq!(members, [1; 3]);
    }
}

#[test]
fn a_panicking_member_frees_those_that_wait() {
    let team = Team::new(2, false);
    for planted in [0usize, 1] {
        let stop = Stop::default();
        let gang = team.gang(2, &stop);
        let raised = catch_unwind(AssertUnwindSafe(|| {
            gang.run(&mut [0, 1], &|m| {
                assert!(*m != planted, "planted");
                while !stop.is_raised() {
                    std::thread::yield_now();
                }
            });
        }));
        assert!(raised.is_err());
        assert_eq!(team.gang(2, &stop).size(), 2, "the team is free again");
    }
}

#[test]
fn a_worker_leaves_the_core_of_its_caller() {
    let team = Team::new(2, true);
    let Some(cores) = core_affinity::get_core_ids().filter(|cores| cores.len() >= 2) else { return };
    let worker_core = || {
        let core = Mutex::new(None);
        team.for_each_own(2, &|part| {
            if part == 1 {
                *lock(&core) = super::super::cores::current();
            }
        });
        core.into_inner().expect("no panic")
    };
    // The first loop ends when the worker has started.
    worker_core();
    // A thread of its own, which ends with the test, is the caller that moves.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for &core in cores.iter().cycle().take(3 * cores.len()) {
                assert!(core_affinity::set_for_current(core));
                let found = worker_core();
                assert!(found.is_none_or(|found| found != core.id), "the worker shares core {}", core.id);
            }
        });
    });
}

#[test]
fn wakes_after_parking() {
    let team = Team::new(2, false);
    for _ in 0..5 {
        std::thread::sleep(4 * SPIN);
        let sum = AtomicUsize::new(0);
        team.for_each(2, &|_| {
            sum.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(sum.load(Ordering::Relaxed), 2);
    }
}
