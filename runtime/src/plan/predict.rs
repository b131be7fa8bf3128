//! How long the phases of a plan take, by the costs of steps and hand-overs. What a device is given goes on beside the worker
//! that launches, copies beside kernels.

use super::causality::met;
use super::instruction::{Instruction, Lane, Phase};
use super::moves::Moves;
use super::streams::MOST_STREAMS;
use crate::cost::Handover;
use crate::exec::Space;
use std::time::Duration;

/// What a run of a plan is expected to take.
#[derive(Debug)]
pub(crate) struct Prediction {
    pub(crate) total_us: f64,
    /// When each step begins, and each copy behind them.
    pub(crate) starts: Vec<f64>,
}

/// A device in a plan, which the last worker launches for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launching<'a> {
    /// What is copied.
    pub(crate) moves: &'a Moves,
    /// By step, the stream that it is given to, where it runs there.
    pub(crate) streams: &'a [Option<usize>],
    /// By step, how much of the device it takes: what takes more than all of it does not go on side by side.
    pub(crate) shares: &'a [f64],
    /// By step, what it is brought between its launches.
    pub(crate) within: &'a [Within],
    /// How long it takes until a stream goes on that waited for another.
    pub(crate) event_us: f64,
}

/// What a step is brought between its launches: one copy to the device goes on at a time.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Within {
    /// How long it takes, as part of the cost of the step.
    pub(crate) us: f64,
    /// How much of what is left of that cost is over by the last of it.
    pub(crate) ahead_of_last: f64,
}

/// The device's kernels and copies of one run, which go on while the worker that gave them does other things: each
/// direction of copies and each stream of kernels have a queue of their own.
#[derive(Debug, Default)]
struct Queues {
    kernels: [f64; MOST_STREAMS],
    up: f64,
    down: f64,
    /// Kernels of all streams: begin, end and share.
    running: Vec<(f64, f64, f64)>,
    /// Copies that go on beside a step which was not given yet, with that.
    kept: Vec<(usize, usize)>,
}

impl Queues {
    /// Sets when the action begins and ends that the worker gives at `now`, and tells when the worker goes on: behind a copy,
    /// of which it writes or reads the bytes, and at once behind a kernel or a copy of weights. A copy that goes on beside a
    /// step is given with that.
    fn give(
        &mut self,
        of: Launching<'_>,
        (action, steps): (usize, usize),
        now: f64,
        us: &dyn Fn(usize) -> f64,
        (starts, ends): (&mut [f64], &mut [f64]),
    ) -> f64 {
        let beside = action.checked_sub(steps).and_then(|copy| of.moves.beside.get(copy).copied().flatten());
        if let Some(step) = beside {
            self.kept.push((action, step));
            return now;
        }
        let (begin, end, goes_on) = self.times(of, (action, steps), (now, us(action)), ends);
        (starts[action], ends[action]) = (begin, end);
        let kept: Vec<usize> =
            self.kept.extract_if(.., |(_, step)| *step == action).map(|(copy, _)| copy).collect();
        if !kept.is_empty() {
            let within = of.within.get(action).copied().unwrap_or_default();
            let head = end - (us(action) - within.us) * (1.0 - within.ahead_of_last);
            for copy in kept {
                let (begin, end, _) = self.times(of, (copy, steps), (now.max(head), us(copy)), ends);
                (starts[copy], ends[copy]) = (begin, end);
            }
        }
        goes_on
    }

    /// When the action begins and ends that is given at `now`, by when all actions end, and when the worker goes on.
    fn times(
        &mut self,
        of: Launching<'_>,
        (action, steps): (usize, usize),
        (now, us): (f64, f64),
        ends: &[f64],
    ) -> (f64, f64, f64) {
        let stream = |action: usize| of.streams.get(action).copied().flatten();
        let own = stream(action);
        let needs = of.moves.needs.get(action).into_iter().flatten();
        let ready = needs.fold(now, |ready, &needed| {
            let waits = own.is_some() && stream(needed).is_some() && stream(needed) != own;
            ready.max(ends[needed] + if waits { of.event_us } else { 0.0 })
        });
        let copy = action.checked_sub(steps).and_then(|at| of.moves.copies.get(at));
        let Some(copy) = copy else {
            let queue = &mut self.kernels[own.unwrap_or(0).min(MOST_STREAMS - 1)];
            let share = of.shares.get(action).copied().unwrap_or(1.0);
            let begin = room(&self.running, ready.max(*queue), us, share);
            let mut end = begin + us;
            let within = of.within.get(action).copied().unwrap_or_default().us;
            if within > 0.0 {
                // Behind the copies that are under way when it begins.
                let copied = self.up.max(begin);
                end += copied - begin;
                self.up = copied + within;
            }
            self.running.push((begin, end, share));
            *queue = end;
            return (begin, end, now);
        };
        let queue = if copy.up { &mut self.up } else { &mut self.down };
        let begin = ready.max(*queue);
        *queue = begin + us;
        // Weights lie where they are copied from.
        let waits = !matches!(copy.space, Space::Weights(_));
        (begin, *queue, if waits { *queue } else { now })
    }
}

/// The first time from `ready` on at which so much of the device is free for so long.
fn room(running: &[(f64, f64, f64)], ready: f64, us: f64, share: f64) -> f64 {
    // Shares are sums of parts that need not be exact.
    let full = 1.0 + 1e-9;
    let fits = |begin: f64| {
        let beside = || running.iter().filter(|(from, to, _)| *from < begin + us && begin < *to);
        let at = |time: f64| -> f64 {
            beside().filter(|(from, to, _)| *from <= time && time < *to).map(|(.., share)| share).sum()
        };
        let starts = beside().map(|(from, ..)| from.max(begin));
        starts.chain([begin]).all(|time| at(time) + share <= full)
    };
    let mut ends: Vec<f64> = running.iter().map(|(_, to, _)| *to).filter(|to| *to > ready).collect();
    ends.sort_by(f64::total_cmp);
    let last = ends.last().copied().unwrap_or(ready);
    std::iter::once(ready).chain(ends).find(|begin| fits(*begin)).unwrap_or(last)
}

/// Of phases whose flags let everyone go on, with the cost of a step on a lane. A wait that is longer than `spin` ends
/// with the waking of a parked thread.
pub(crate) fn predict(
    phases: &[Phase],
    cost: impl Fn(usize, Lane) -> f64,
    (steps, copies): (usize, usize),
    (handover, spin): (Option<&Handover>, Duration),
    device: Option<Launching<'_>>,
) -> Prediction {
    let (flag_us, wake_us, phase_us) =
        handover.map_or((0.0, 0.0, 0.0), |h| (h.flag.median_us, h.wake.median_us, h.phase.median_us));
    let spin_us = spin.as_secs_f64() * 1e6;
    let mut starts = vec![0.0; steps + copies];
    let mut ends = vec![0.0; steps + copies];
    let mut queues = Queues::default();
    let mut now = 0.0;
    for phase in phases {
        match phase {
            Phase::Together { step } => {
                starts[*step] = now;
                now += cost(*step, Lane::All);
            }
            Phase::Apart { lists } => {
                let mut clocks = vec![now; lists.len()];
                let mut next = vec![0; lists.len()];
                let mut raised: Vec<(usize, f64)> = Vec::new();
                loop {
                    let mut moved = false;
                    for (worker, list) in lists.iter().enumerate() {
                        while let Some(instruction) = list.get(next[worker]) {
                            match *instruction {
                                Instruction::Wait(flag) => {
                                    let found = raised.iter().find(|(f, _)| *f == flag);
                                    let Some(&(_, time)) = found else { break };
                                    if time > clocks[worker] {
                                        let slow = time - clocks[worker] > spin_us;
                                        clocks[worker] = time + if slow { wake_us } else { flag_us };
                                    }
                                }
                                Instruction::Run(_) | Instruction::Copy(_) => {
                                    let Some(step) = instruction.action(steps) else { break };
                                    let now = clocks[worker];
                                    let us = |action: usize| cost(action, Lane::Worker(worker));
                                    let there =
                                        |d: &Launching<'_>| d.streams.get(step).is_none_or(Option::is_some);
                                    clocks[worker] = if let Some(of) = device.filter(there) {
                                        let times = (&mut starts[..], &mut ends[..]);
                                        queues.give(of, (step, steps), now, &us, times)
                                    } else {
                                        (starts[step], ends[step]) = (now, now + us(step));
                                        ends[step]
                                    };
                                }
                                Instruction::Signal(flag) => raised.push((flag, clocks[worker])),
                                Instruction::Lead { step, threads } => {
                                    let met = met(lists, &next, worker, (step, threads));
                                    let Ok(Some(lenders)) = met else { break };
                                    let all = lenders.clone().map(|lender| clocks[lender]);
                                    // By a flag each, to begin and to end.
                                    let begin = all.fold(clocks[worker], f64::max) + flag_us;
                                    let end = begin + cost(step, Lane::Some { first: worker, threads });
                                    (starts[step], ends[step]) = (begin, end);
                                    clocks[worker] = end;
                                    for lender in lenders {
                                        clocks[lender] = end + flag_us;
                                        next[lender] += 1;
                                    }
                                }
                                Instruction::Lend(_) => break,
                            }
                            next[worker] += 1;
                            moved = true;
                        }
                    }
                    if !moved {
                        break;
                    }
                }
                now = clocks.into_iter().fold(now, f64::max);
                if lists.iter().skip(1).any(|list| !list.is_empty()) {
                    now += phase_us;
                }
            }
        }
    }
    let ends = queues.kernels.into_iter().chain([queues.up, queues.down]);
    Prediction { total_us: ends.fold(now, f64::max), starts }
}
