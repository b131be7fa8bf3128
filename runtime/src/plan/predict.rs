//! How long the phases of a plan take, by the costs of steps and hand-overs.

use super::instruction::{Instruction, Lane, Phase};
use crate::cost::Handover;
use std::time::Duration;

/// What a run of a plan is expected to take.
#[derive(Debug)]
pub(crate) struct Prediction {
    pub(crate) total_us: f64,
    /// When each step begins, and each copy behind them.
    pub(crate) starts: Vec<f64>,
}

/// Of phases whose flags let everyone go on, with the cost of a step on a lane. A wait that is longer than `spin` ends
/// with the waking of a parked thread.
pub(crate) fn predict(
    phases: &[Phase],
    cost: impl Fn(usize, Lane) -> f64,
    (steps, copies): (usize, usize),
    handover: Option<&Handover>,
    spin: Duration,
) -> Prediction {
    let (flag_us, wake_us, phase_us) =
        handover.map_or((0.0, 0.0, 0.0), |h| (h.flag.median_us, h.wake.median_us, h.phase.median_us));
    let spin_us = spin.as_secs_f64() * 1e6;
    let mut starts = vec![0.0; steps + copies];
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
                                    starts[step] = clocks[worker];
                                    clocks[worker] += cost(step, Lane::Worker(worker));
                                }
                                Instruction::Signal(flag) => raised.push((flag, clocks[worker])),
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
    Prediction { total_us: now, starts }
}
