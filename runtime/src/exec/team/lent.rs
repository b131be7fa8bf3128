//! Teams of threads that workers lend for one step of a plan.
//!
//! Every worker of the gang comes to the step on its own list. Those that lend say by a flag that they are there, wait until the
//! one that leads says that it begins, and then take part in its loops until it tells them that there are no more. Who
//! waits stops waiting where the run ends early. What has begun has all of its threads until whoever leads ends it, whatever
//! becomes of the step: by the number of those that are there, from which one that goes takes itself, and which the one that
//! leads exchanges for [`BEGUN`], both see whether it has.

use super::{Shared, Team, lock};
use crate::exec::flags::{Ended, Flags};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A step that one worker leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Led {
    /// The worker; those right behind it lend their threads.
    pub(crate) leader: usize,
    /// On how many threads the step runs.
    pub(crate) threads: usize,
    /// The first of as many flags: of each that lends, and behind them of the one that leads.
    pub(crate) first_flag: usize,
}

/// In the place of the number of threads that are there: nobody may go any more.
const BEGUN: usize = usize::MAX;

/// The threads of one step, and the flags by which they meet.
#[derive(Debug)]
pub(crate) struct Lent {
    of: Led,
    team: Team,
    /// Threads that are there to be lent, or [`BEGUN`].
    there: AtomicUsize,
}

impl Lent {
    /// Who has nothing to do polls for `spin`.
    pub(crate) fn new(of: Led, spin: Duration) -> Self {
        let shared = Arc::new(Shared { spin, ..Shared::default() });
        let helpers = of.threads.saturating_sub(1);
        let team = Team { helpers, workers: Vec::new(), shared, turn: Mutex::default() };
        Self { of, team, there: AtomicUsize::new(0) }
    }

    /// Lends the thread of `worker` until the step has ended.
    pub(crate) fn lend(&self, worker: usize, flags: &Flags, run: u64) -> Result<(), Ended> {
        let (Led { leader, threads, first_flag }, shared) = (self.of, &self.team.shared);
        let which = worker.checked_sub(leader).filter(|which| (1..threads).contains(which)).ok_or(Ended)?;
        // What is published from here on is seen, since nothing is before all are there.
        let seen = shared.post.epoch.load(Ordering::Acquire);
        self.there.fetch_add(1, Ordering::AcqRel);
        flags.raise(first_flag + which - 1, run);
        if flags.wait(first_flag + threads - 1, run).is_err() {
            let goes = |there: usize| if there == BEGUN { None } else { there.checked_sub(1) };
            if self.there.fetch_update(Ordering::AcqRel, Ordering::Acquire, goes).is_ok() {
                return Err(Ended);
            }
        }
        shared.serve(which, seen);
        Ok(())
    }

    /// Runs `body` with the team, once all threads are there.
    pub(crate) fn lead<R>(&self, flags: &Flags, run: u64, body: impl FnOnce(&Team) -> R) -> Result<R, Ended> {
        let (Team { helpers, shared, .. }, first_flag) = (&self.team, self.of.first_flag);
        (first_flag..first_flag + helpers).try_for_each(|flag| flags.wait(flag, run))?;
        let begins = self.there.compare_exchange(*helpers, BEGUN, Ordering::AcqRel, Ordering::Acquire);
        // One has gone where they are fewer.
        begins.map_err(|_| Ended)?;
        shared.stop.store(false, Ordering::Release);
        let ends = LetsGo(self);
        flags.raise(first_flag + helpers, run);
        let made = body(&self.team);
        drop(ends);
        Ok(made)
    }
}

/// Tells the threads that lend that there are no more loops, though the step panics.
struct LetsGo<'a>(&'a Lent);

impl Drop for LetsGo<'_> {
    fn drop(&mut self) {
        let Lent { team, there, .. } = self.0;
        there.store(0, Ordering::Release);
        team.shared.stop.store(true, Ordering::Release);
        team.shared.post.epoch.fetch_add(1, Ordering::Release);
        drop(lock(&team.shared.parked));
        team.shared.wake.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn lent(threads: usize, first_flag: usize, spin: Duration) -> Lent {
        Lent::new(Led { leader: 4, threads, first_flag }, spin)
    }

    #[test]
    fn loops_of_a_step_run_on_the_threads_that_are_lent_and_end_with_it() {
        for spin in [Duration::ZERO, Duration::from_micros(50)] {
            let (lent, flags) = (lent(3, 2, spin), Flags::new(5, spin));
            for run in 1..=200 {
                let parts = AtomicUsize::new(0);
                std::thread::scope(|scope| {
                    for worker in 5..7 {
                        let (lent, flags) = (&lent, &flags);
                        scope.spawn(move || lent.lend(worker, flags, run).expect("nobody ends the run"));
                    }
                    let body = |team: &Team| {
                        assert_eq!(team.threads(), 3);
                        for _ in 0..3 {
                            team.for_each(7, &|_| {
                                parts.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                        team.for_each_own(3, &|_| {
                            parts.fetch_add(1, Ordering::Relaxed);
                        });
                    };
                    lent.lead(&flags, run, body).expect("nobody ends the run");
                });
                assert_eq!(parts.into_inner(), 24);
            }
        }
    }

    #[test]
    fn a_run_that_ends_while_they_meet_leaves_nobody_waiting() {
        let (mut begun, mut gone) = (0, 0);
        let (lent, flags) = (lent(3, 0, Duration::ZERO), Flags::new(3, Duration::ZERO));
        for run in 1..=3000 {
            std::thread::scope(|scope| {
                let lenders = [5, 6].map(|worker| {
                    let (lent, flags) = (&lent, &flags);
                    scope.spawn(move || lent.lend(worker, flags, run))
                });
                let ends = scope.spawn(|| {
                    (0..run % 200 * 20).for_each(|_| std::hint::spin_loop());
                    flags.end(run);
                });
                let body = |team: &Team| team.for_each_own(3, &|_| ());
                let led = lent.lead(&flags, run, body);
                ends.join().expect("no panic");
                let lent = lenders.map(|lender| lender.join().expect("no panic"));
                // All of them or none.
                assert_eq!(lent, [led, led]);
                begun += usize::from(led.is_ok());
                gone += usize::from(led.is_err());
            });
        }
        assert!(begun > 0 && gone > 0, "{begun} began and {gone} did not");
    }

    #[test]
    fn who_waits_for_a_step_that_never_begins_or_panics_goes_on() {
        let (lent, flags) = (lent(2, 0, Duration::ZERO), Flags::new(2, Duration::ZERO));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| lent.lend(5, &flags, 1));
            flags.end(1);
            assert_eq!(waits.join().expect("no panic"), Err(Ended));
        });
        let ended = Flags::new(2, Duration::ZERO);
        ended.end(1);
        assert_eq!(lent.lead(&ended, 1, |_| ()), Err(Ended), "nobody lends");
        for run in 2..20 {
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| lent.lend(5, &flags, run));
                // A part of a loop panics, on either thread, or the step itself.
                let body =
                    |team: &Team| team.for_each_own(2, &|part| assert!(part as u64 != run % 3, "planted"));
                let led = catch_unwind(AssertUnwindSafe(|| lent.lead(&flags, run, body)));
                assert_eq!(led.is_err(), run % 3 < 2);
                assert_eq!(waits.join().expect("it goes on"), Ok(()));
            });
        }
    }
}
