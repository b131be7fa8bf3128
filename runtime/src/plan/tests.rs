//! Orders become phases, phases promise what the orders had, and what promises less is refused.

use super::causality::Causality;
use super::instruction::{Instruction, Lane, Phase, phases};
use super::memory::{Lifetimes, assign};
use super::moves::{Move, Moves};
use super::predict::{Launching, Within, predict};
use super::random::random_order;
use super::{Plan, PlanError};
use crate::exec::{Access, Accesses, Space};
use crate::testing::Gen;
use std::time::Duration;

/// A random graph: each step needs up to three earlier ones.
fn graph(g: &mut Gen) -> Vec<Vec<usize>> {
    let steps = g.size(1, 24);
    (0..steps)
        .map(|step| {
            let mut needs: Vec<usize> = (0..g.size(0, 3).min(step)).map(|_| g.size(0, step - 1)).collect();
            needs.sort_unstable();
            needs.dedup();
            needs
        })
        .collect()
}

fn reachable(needs: &[Vec<usize>], causality: &Causality) -> bool {
    needs.iter().enumerate().all(|(step, of)| of.iter().all(|&n| causality.before(n, step)))
}

#[test]
fn every_need_is_kept_and_every_wait_is_needed() {
    let mut g = Gen::new(3);
    let mut waits = 0;
    for _ in 0..400 {
        let needs = graph(&mut g);
        let workers = g.size(1, 4);
        let order = random_order(&mut g, &needs, workers);
        let (made, flags) = phases(&order, &needs, workers).expect("an order that needs allow");
        let causality = Causality::of(&made, needs.len(), workers).expect("valid");
        assert_eq!(causality.flags, flags);
        assert!(reachable(&needs, &causality));
        // Without any one of the waits something is no longer promised.
        for (p, phase) in made.iter().enumerate() {
            let Phase::Apart { lists } = phase else { continue };
            for (w, list) in lists.iter().enumerate() {
                for (i, instruction) in list.iter().enumerate() {
                    if matches!(instruction, Instruction::Wait(_)) {
                        let mut fewer = made.clone();
                        let Phase::Apart { lists } = &mut fewer[p] else { continue };
                        lists[w].remove(i);
                        let causality = Causality::of(&fewer, needs.len(), workers).expect("still ends");
                        assert!(!reachable(&needs, &causality));
                        waits += 1;
                    }
                }
            }
        }
    }
    assert!(waits > 500, "{waits} waits were drawn");
}

#[test]
fn an_order_against_the_needs_is_refused() {
    let order = [(1, Lane::Worker(0)), (0, Lane::Worker(1))];
    assert!(phases(&order, &[vec![], vec![0]], 2).is_err());
}

#[test]
fn lists_that_cannot_be_followed_are_refused() {
    use Instruction::{Lead, Lend, Run, Signal, Wait};
    let apart =
        |a: &[Instruction], b: &[Instruction]| vec![Phase::Apart { lists: vec![a.to_vec(), b.to_vec()] }];
    let problem = |phases: &[Phase], workers: usize| match Causality::of(phases, 2, workers) {
        Err(PlanError::Invalid { what }) => what,
        other => panic!("{other:?}"),
    };
    let good = apart(&[Run(0), Signal(0)], &[Wait(0), Run(1)]);
    assert!(Causality::of(&good, 2, 2).is_ok_and(|c| c.before(0, 1) && !c.before(1, 0)));
    for (phases, what) in [
        (apart(&[Wait(1), Run(0), Signal(0)], &[Wait(0), Run(1), Signal(1)]), "for ever"),
        (apart(&[Run(0)], &[Wait(0), Run(1)]), "nobody raises"),
        (apart(&[Run(0), Signal(9)], &[Wait(9), Run(1)]), "nobody raises"),
        (apart(&[Run(0), Signal(0), Signal(0)], &[Run(1)]), "raised twice"),
        (apart(&[Run(0)], &[Run(0)]), "runs twice"),
        (apart(&[Run(0)], &[]), "never runs"),
        (apart(&[Run(0), Run(7)], &[Run(1)]), "there is no step"),
        (apart(&[Lead { step: 0, threads: 2 }], &[Run(1)]), "for ever"),
        (apart(&[Run(0)], &[Lend(1), Run(1)]), "for ever"),
        (apart(&[Lead { step: 0, threads: 2 }, Run(1)], &[Lend(1)]), "for ever"),
        (apart(&[Run(1)], &[Lead { step: 0, threads: 2 }]), "is led with 2 threads by 1"),
        (apart(&[Lead { step: 0, threads: 1 }], &[Run(1)]), "is led with 1 threads"),
        (apart(&[Lead { step: 0, threads: usize::MAX }], &[Run(1)]), "is led with"),
        (apart(&[Run(0), Lead { step: 7, threads: 2 }], &[Lend(7), Run(1)]), "there is no step"),
        (vec![Phase::Together { step: 0 }], "never runs"),
        (vec![Phase::Apart { lists: vec![vec![Run(0), Run(1)]] }], "1 lists for 2 workers"),
    ] {
        let told = problem(&phases, 2);
        assert!(told.contains(what), "{told} instead of {what}");
    }
    assert!(problem(&good, 0).contains("0 workers"));
    assert!(problem(&good, usize::MAX).contains("workers"));
}

#[test]
fn a_flag_of_an_earlier_phase_promises_nothing_more() {
    use Instruction::{Run, Signal, Wait};
    let phases = [
        Phase::Apart { lists: vec![vec![Run(0), Signal(0)], vec![]] },
        Phase::Apart { lists: vec![vec![Run(1)], vec![Wait(0), Run(2)]] },
    ];
    let causality = Causality::of(&phases, 3, 2).expect("valid");
    assert!(causality.before(0, 2) && !causality.before(1, 2) && !causality.before(2, 1));
}

#[test]
fn tenants_that_may_be_alive_together_never_overlap() {
    let mut g = Gen::new(11);
    let mut shared = 0;
    for _ in 0..200 {
        let needs = graph(&mut g);
        let workers = g.size(1, 3);
        let order = random_order(&mut g, &needs, workers);
        let (made, _) = phases(&order, &needs, workers).expect("an order");
        let causality = Causality::of(&made, needs.len(), workers).expect("valid");
        // Step `i` writes tenant `i`; whoever needs it reads it.
        let access = |tenant: usize| Access { space: Space::Tenant(tenant), bytes: 0..1 };
        let accesses: Vec<Accesses> = needs
            .iter()
            .enumerate()
            .map(|(step, of)| Accesses {
                reads: of.iter().map(|&n| access(n)).collect(),
                writes: vec![access(step)],
            })
            .collect();
        let bytes: Vec<usize> = needs.iter().map(|_| g.size(1, 300)).collect();
        let lifetimes = Lifetimes::new(&causality, &accesses, bytes.len(), workers);
        let (offsets, total) = assign(&bytes, &lifetimes).expect("small");
        let touches = |tenant: usize| -> Vec<usize> {
            let reads = needs.iter().enumerate().filter(|(_, of)| of.contains(&tenant)).map(|(step, _)| step);
            reads.chain([tenant]).collect()
        };
        for a in 0..bytes.len() {
            assert!(offsets[a] + bytes[a] <= total);
            for b in 0..a {
                let apart = |x: usize, y: usize| {
                    touches(x).iter().all(|&s| touches(y).iter().all(|&t| causality.before(s, t)))
                };
                let one_by_one = apart(a, b) || apart(b, a);
                assert_eq!(lifetimes.conflict(a, b), !one_by_one, "{a} and {b}");
                let overlap = offsets[a] < offsets[b] + bytes[b] && offsets[b] < offsets[a] + bytes[a];
                assert!(one_by_one || !overlap, "{a} and {b}");
                shared += usize::from(overlap);
            }
        }
    }
    assert!(shared > 100, "{shared} pairs share bytes");
}

#[test]
fn a_prediction_is_the_longest_way_through_the_lists() {
    let needs = [vec![], vec![], vec![0, 1], vec![2]];
    let order = [(0, Lane::Worker(0)), (1, Lane::Worker(1)), (2, Lane::Worker(0)), (3, Lane::All)];
    let (made, _) = phases(&order, &needs, 2).expect("an order");
    let cost = |step: usize, lane: Lane| match lane {
        Lane::All => 4.0,
        Lane::Some { threads, .. } => 3.0 * threads as f64,
        Lane::Worker(_) => [10.0, 30.0, 5.0, 8.0][step],
    };
    let prediction = predict(&made, cost, (4, 0), (None, Duration::ZERO), None);
    assert_eq!(prediction.total_us, 30.0 + 5.0 + 4.0);
    assert_eq!(prediction.starts, [0.0, 0.0, 30.0, 35.0]);
}

#[test]
fn who_lends_a_thread_meets_the_others_and_goes_on_behind_the_step() {
    use Instruction::{Lead, Lend, Run};
    // Step 2 needs both others, and is led by the second of three workers.
    let needs = [vec![], vec![], vec![0, 1], vec![2]];
    let led = Lane::Some { first: 1, threads: 2 };
    let order = [(0, Lane::Worker(1)), (1, Lane::Worker(2)), (2, led), (3, Lane::Worker(2))];
    let (made, flags) = phases(&order, &needs, 3).expect("an order");
    let lists = vec![vec![], vec![Run(0), Lead { step: 2, threads: 2 }], vec![Run(1), Lend(2), Run(3)]];
    assert_eq!((made, flags), (vec![Phase::Apart { lists: lists.clone() }], 0), "nobody waits for a flag");
    let made = [Phase::Apart { lists }];
    let causality = Causality::of(&made, 4, 3).expect("valid");
    assert!(reachable(&needs, &causality) && !causality.before(1, 0) && !causality.before(3, 2));
    let cost = |step: usize, lane: Lane| if lane == led { 7.0 } else { [10.0, 30.0, 0.0, 8.0][step] };
    let prediction = predict(&made, cost, (4, 0), (None, Duration::ZERO), None);
    assert_eq!((prediction.starts, prediction.total_us), (vec![0.0, 0.0, 30.0, 37.0], 45.0));
    let beyond = [(0, Lane::Some { first: 2, threads: 2 })];
    assert!(phases(&beyond, &[vec![]], 3).is_err());
}

#[test]
fn copies_are_predicted_beside_kernels_and_kernels_beside_who_launches() {
    use Instruction::{Copy, Run, Signal, Wait};
    // Steps 0 and 1 run on the device, 1 on what the CPU's step 2 makes; copy 0 brings that, copy 1 what step 0 made, which
    // step 3 reads on the CPU.
    let copy = |tenant: usize, up: bool| Move { space: Space::Tenant(tenant), bytes: 0..1, up };
    let moves = Moves {
        copies: vec![copy(0, true), copy(1, false)],
        needs: vec![vec![], vec![4], vec![], vec![5], vec![2], vec![0]],
        host: Vec::new(),
        device: Vec::new(),
        rooms: Vec::new(),
        workspaces: Vec::new(),
        beside: Vec::new(),
    };
    let lists = vec![
        vec![Run(2), Signal(0), Wait(1), Run(3)],
        vec![Run(0), Wait(0), Copy(0), Run(1), Copy(1), Signal(1)],
    ];
    let phases = [Phase::Apart { lists }];
    let us = |action: usize, _: Lane| [50.0, 40.0, 10.0, 5.0, 20.0, 8.0][action];
    let streams = [Some(0), Some(0), None, None];
    let device =
        Launching { moves: &moves, streams: &streams, shares: &[1.0; 4], within: &[], event_us: 0.0 };
    let made = predict(&phases, us, (4, 2), (None, Duration::ZERO), Some(device));
    // The copy to the device ends at 30, beside step 0, which ends at 50 and is copied from beside step 1.
    assert_eq!(made.starts, [0.0, 50.0, 0.0, 58.0, 10.0, 50.0]);
    assert_eq!(made.total_us, 90.0);
}

#[test]
fn streams_are_predicted_side_by_side_as_far_as_the_device_has_room() {
    use Instruction::Run;
    // Steps 1 and 2 need step 0, step 3 both; 4 needs nothing.
    let moves = Moves {
        copies: Vec::new(),
        needs: vec![vec![], vec![0], vec![0], vec![1, 2], vec![]],
        host: Vec::new(),
        device: Vec::new(),
        rooms: Vec::new(),
        workspaces: Vec::new(),
        beside: Vec::new(),
    };
    let phases = [Phase::Apart { lists: vec![(0..5).map(Run).collect()] }];
    let us = |action: usize, _: Lane| [10.0, 40.0, 30.0, 5.0, 20.0][action];
    let predicted = |streams: [usize; 5], shares: [f64; 5]| {
        let streams = streams.map(Some);
        let device =
            Launching { moves: &moves, streams: &streams, shares: &shares, within: &[], event_us: 2.0 };
        let made = predict(&phases, us, (5, 0), (None, Duration::ZERO), Some(device));
        (made.starts, made.total_us)
    };
    let (starts, total) = predicted([0, 0, 1, 0, 2], [0.25; 5]);
    assert_eq!((starts, total), (vec![0.0, 10.0, 12.0, 50.0, 0.0], 55.0));
    assert_eq!(predicted([0; 5], [0.25; 5]).1, 105.0);
    // Two that take more than half each go one behind the other, whatever streams they are in; 4 has room behind them alone.
    let (starts, total) = predicted([0, 0, 1, 0, 2], [0.5, 0.6, 0.6, 0.5, 0.5]);
    assert_eq!((starts, total), (vec![0.0, 10.0, 50.0, 82.0, 80.0], 100.0));
}

#[test]
fn what_steps_are_brought_between_their_launches_is_predicted_behind_other_copies_and_ahead_of_them() {
    use Instruction::{Copy, Run};
    // Steps 0 and 1 have streams of their own, and their first weights copied ahead by copies 0 and 1; the rest of them takes
    // 20 of the 50 of step 0 and 10 of the 30 of step 1.
    let copy = |step: usize| Move { space: Space::Weights(step), bytes: 0..1, up: true };
    let moves = Moves {
        copies: vec![copy(0), copy(1)],
        needs: vec![vec![2], vec![3], vec![], vec![]],
        host: Vec::new(),
        device: Vec::new(),
        rooms: Vec::new(),
        workspaces: Vec::new(),
        beside: Vec::new(),
    };
    let us = |action: usize, _: Lane| [50.0, 30.0, 8.0, 8.0][action];
    let streams = [Some(0), Some(1)];
    let predicted = |within: &[f64], list: [Instruction; 4]| {
        let shares = &[0.25; 2];
        let within: Vec<Within> = within.iter().map(|&us| Within { us, ahead_of_last: 0.5 }).collect();
        let device = Launching { moves: &moves, streams: &streams, shares, within: &within, event_us: 0.0 };
        let phases = [Phase::Apart { lists: vec![list.into()] }];
        let made = predict(&phases, us, (2, 2), (None, Duration::ZERO), Some(device));
        (made.starts, made.total_us)
    };
    let each = [Copy(0), Run(0), Copy(1), Run(1)];
    // With nothing between their launches copies are done at 8 and 16.
    assert_eq!(predicted(&[0.0, 0.0], each), (vec![8.0, 16.0, 0.0, 8.0], 58.0));
    // The second copy waits until those of step 0 have ended at 28.
    assert_eq!(predicted(&[20.0, 10.0], each), (vec![8.0, 36.0, 0.0, 28.0], 66.0));
    // Both first: those between the launches of step 0 begin at 16, 8 later than they could.
    let first = [Copy(0), Copy(1), Run(0), Run(1)];
    assert_eq!(predicted(&[20.0, 0.0], first), (vec![8.0, 16.0, 0.0, 8.0], 66.0));
    // And those of step 1 behind them, at 36 instead of 16.
    assert_eq!(predicted(&[20.0, 10.0], first), (vec![8.0, 16.0, 0.0, 8.0], 66.0));
}

#[test]
fn a_copy_beside_a_step_is_predicted_behind_the_last_between_its_launches() {
    use Instruction::{Copy, Run};
    // Steps 0 and 1 in one stream; 20 of the 50 of step 0 are copied between its launches, half of the others ahead of that.
    let copy = |step: usize| Move { space: Space::Weights(step), bytes: 0..1, up: true };
    let of = |beside: Option<usize>| Moves {
        copies: vec![copy(0), copy(1)],
        needs: vec![vec![2], vec![0, 3], vec![], vec![]],
        host: Vec::new(),
        device: Vec::new(),
        rooms: Vec::new(),
        workspaces: Vec::new(),
        beside: vec![None, beside],
    };
    let predicted = |moves: &Moves, last: f64, copied: f64| {
        let us = |action: usize, _: Lane| [50.0, 30.0, 8.0, copied][action];
        let within = [Within { us: 20.0, ahead_of_last: 0.5 }, Within { us: last, ahead_of_last: 0.5 }];
        let (streams, shares) = ([Some(0), Some(0)], &[0.25; 2]);
        let device = Launching { moves, streams: &streams, shares, within: &within, event_us: 0.0 };
        let phases = [Phase::Apart { lists: vec![vec![Copy(0), Copy(1), Run(0), Run(1)]] }];
        let made = predict(&phases, us, (2, 2), (None, Duration::ZERO), Some(device));
        (made.starts, made.total_us)
    };
    // Ahead of it all, it keeps the copy within step 0 waiting until 16.
    assert_eq!(predicted(&of(None), 0.0, 8.0), (vec![8.0, 66.0, 0.0, 8.0], 96.0));
    // Beside step 0, which lasts from 8 to 58, it begins 15 before that ends, at 43.
    assert_eq!(predicted(&of(Some(0)), 0.0, 8.0), (vec![8.0, 58.0, 0.0, 43.0], 88.0));
    // Where it takes longer than what is left of step 0, step 1 waits for it.
    assert_eq!(predicted(&of(Some(0)), 0.0, 40.0), (vec![8.0, 83.0, 0.0, 43.0], 113.0));
    assert_eq!(of(Some(0)).ahead(), [vec![2, 3], vec![0, 3, 0], vec![], vec![]]);
}

#[test]
fn what_is_no_plan_is_told() {
    for text in ["", "{", "[]", r#"{"version": 1}"#] {
        assert!(matches!(Plan::from_json(text), Err(PlanError::Malformed { .. })), "{text}");
    }
    // The version is told, whatever fields another one has.
    let error = Plan::from_json(r#"{"version": 1, "stages": []}"#).expect_err("another version");
    assert!(error.to_string().contains("version 1"), "{error}");
}
