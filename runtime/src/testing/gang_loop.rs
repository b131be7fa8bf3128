//! A gang of threads that meet at a barrier time and again and compute nothing in between: what of a recurrence's spread
//! of times is the machine's.

use crate::cpu::relay::Relay;
use crate::error::OpError;
use crate::exec::{Stop, Team};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Steps of one barrier each, as a recurrence on these threads has them.
#[derive(Debug)]
pub struct GangLoop {
    team: Team,
    steps: usize,
    /// Turns of an empty loop in each step.
    turns: usize,
}

impl GangLoop {
    /// A loop of `steps` steps on `threads` threads that takes about `length`.
    pub fn new(threads: usize, steps: usize, length: Duration) -> Result<Self, OpError> {
        const TRIALS: usize = 5;
        let mut made = Self { team: Team::new(threads, true), steps: steps.max(1), turns: 1 << 10 };
        for _ in 0..TRIALS {
            let times: Result<Vec<Duration>, OpError> = (0..TRIALS).map(|_| made.run()).collect();
            let took = times?.into_iter().min().unwrap_or(length);
            let scale = length.as_secs_f64() / took.as_secs_f64().max(1e-9);
            made.turns = ((made.turns as f64 * scale) as usize).max(1);
        }
        Ok(made)
    }

    /// Runs the loop once, and tells how long it took.
    pub fn run(&self) -> Result<Duration, OpError> {
        let start = Instant::now();
        let stop = Stop::default();
        let gang = self.team.gang(self.team.threads(), &stop);
        let size = gang.size();
        let (mut front, mut back) = (vec![0u8; size], vec![0u8; size]);
        let mut relay = Relay::new(size, &stop);
        let mut members = Vec::with_capacity(size);
        let fits = relay.members([&mut front, &mut back], size, (0..size).map(|i| i..i + 1), |member| {
            members.push((member, 0));
        });
        if !fits {
            return Err(OpError::internal("members of a gang overlap"));
        }
        gang.run(&mut members, &|(member, met)| {
            while *met < self.steps && member.advance().is_ok() {
                *met += 1;
                for turn in 0..self.turns {
                    black_box(turn);
                }
            }
        });
        let took = start.elapsed();
        let all_met = members.iter().all(|(_, met)| *met == self.steps);
        if all_met { Ok(took) } else { Err(OpError::internal("a gang ended early")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_meets_the_others_at_every_step() {
        for threads in [1, 2] {
            // Calibrated on whatever else the machine does: the length is the machine's, the steps are not.
            let gang = GangLoop::new(threads, 10, Duration::from_millis(1)).expect("a loop");
            assert!(gang.turns >= 1 && gang.run().expect("nobody ends early") > Duration::ZERO, "{gang:?}");
        }
    }

    #[test]
    fn a_loop_that_is_to_be_longer_turns_more_often() {
        let turns = |ms| GangLoop::new(1, 4, Duration::from_millis(ms)).expect("a loop").turns;
        assert!(turns(64) > turns(1));
    }
}
