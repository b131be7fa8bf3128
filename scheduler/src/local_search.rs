//! Simulated annealing over sequences.
//!
//! A move is kept when the makespan grows by at most `−T · ln u`, `u` uniform in (0, 1]; that limit is drawn
//! before the move is evaluated, so that an evaluation can end as soon as it is certain to exceed it, without
//! changing what is accepted. `T` falls geometrically from `HOT` to `COLD` times the start's makespan as the
//! budget is used up (Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated annealing", Science 220, 1983).

use std::time::{Duration, Instant};

use crate::Problem;
use crate::neighbourhood::Neighbourhood;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::sequence::Sequence;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// After so many evaluated moves; the result depends on the seed alone.
    Evaluations(u64),
    /// After so much time.
    Time(Duration),
}

/// Start and end of the temperature, in parts of the makespan.
const HOT: f64 = 0.01;
const COLD: f64 = 0.001;

/// How far a budget is used up.
pub(crate) struct Clock {
    budget: Budget,
    began: Instant,
    pub(crate) evaluations: u64,
}

impl Clock {
    pub(crate) fn new(budget: Budget, began: Instant) -> Self {
        Self { budget, began, evaluations: 0 }
    }

    /// From 0 to 1.
    pub(crate) fn progress(&self) -> f64 {
        match self.budget {
            Budget::Evaluations(0) => 1.0,
            Budget::Evaluations(n) => self.evaluations as f64 / n as f64,
            Budget::Time(t) => self.began.elapsed().as_secs_f64() / t.as_secs_f64().max(1e-9),
        }
    }
}

/// Anneals from a schedule.
///
/// # Returns
/// The best schedule met, which is the start where nothing better was, and the number of evaluations.
pub(crate) fn anneal(problem: &Problem, start: &Schedule, seed: u64, mut clock: Clock) -> (Schedule, u64) {
    let mut random = Random::new(seed);
    let mut s = Sequence::new(problem, start);
    let mut neighbourhood = Neighbourhood::new();
    neighbourhood.look(&s, &mut random);
    let scale = s.makespan;
    let mut best = (s.makespan, s.to.clone(), s.order.clone());
    let mut temperature = HOT * scale;
    let mut draws = 0u64;
    let mut stale = false;
    if s.order.is_empty() || problem.processor_count() == 0 {
        return (start.clone(), 0);
    }
    loop {
        if draws % 32 == 0 {
            let progress = clock.progress();
            // Draws without a move count a little, so that an instance without moves ends.
            if progress >= 1.0 || draws > 1000 + 100 * (clock.evaluations + 1) {
                break;
            }
            temperature = scale * HOT * (COLD / HOT).powf(progress);
        }
        draws += 1;
        if stale && draws % 4 == 0 {
            neighbourhood.look(&s, &mut random);
            stale = false;
        }
        let limit = s.makespan - temperature * (1.0 - random.unit()).ln();
        let Some(change) = neighbourhood.draw(&s, &mut random) else { continue };
        clock.evaluations += 1;
        match s.attempt(change, limit) {
            Some(makespan) => {
                s.keep();
                stale = true;
                if makespan < best.0 {
                    best.0 = makespan;
                    best.1.clone_from(&s.to);
                    best.2.clone_from(&s.order);
                }
            }
            None => s.undo(),
        }
    }
    if best.0 >= start.makespan {
        return (start.clone(), clock.evaluations);
    }
    s.restore(&best.1, &best.2);
    (s.schedule(), clock.evaluations)
}
