//! How a schedule fares when costs are not what was planned.
//!
//! Every task and transfer takes its length times a factor uniform in `[1 − spread, 1 + spread]`, independently;
//! the decisions stay. Reported are percentiles of the makespan over `runs` replays.
//!
//! # Complexity
//! One replay per run.

use crate::Problem;
use crate::random::Random;
use crate::schedule::Schedule;

/// Percentiles of the makespan under disturbed costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of the runs take at most so long.
    pub p50: f64,
    /// 95 of 100 runs take at most so long.
    pub p95: f64,
}

impl Schedule {
    /// Replays the schedule `runs` times with lengths off by up to `spread`, at least once.
    pub fn perturbed(&self, problem: &Problem, spread: f64, runs: usize, seed: u64) -> Spread {
        let mut random = Random::new(seed);
        let mut makespans: Vec<f64> = (0..runs.max(1))
            .map(|_| {
                let mut factors = |n: usize| -> Vec<f64> {
                    (0..n).map(|_| random.between(1.0 - spread, 1.0 + spread)).collect()
                };
                let (tasks, transfers) = (factors(self.runs.len()), factors(self.transfers.len()));
                self.replay_with(problem, |t, c| c * tasks[t], |i, c| c * transfers[i]).makespan
            })
            .collect();
        makespans.sort_by(f64::total_cmp);
        let at = |part: f64| makespans[((makespans.len() - 1) as f64 * part).round() as usize];
        Spread { p50: at(0.5), p95: at(0.95) }
    }
}
