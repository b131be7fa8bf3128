//! Simulated annealing over sequences.
//!
//! A move is kept when the makespan grows by at most `−T · ln u`, `u` uniform in (0, 1]; that limit is drawn
//! before the move is evaluated, so that an evaluation can end as soon as it is certain to exceed it, without
//! changing what is accepted. `T` falls geometrically from `HOT` to `COLD` times the start's makespan as the
//! budget is used up (Kirkpatrick, Gelatt and Vecchi, "Optimization by simulated annealing", Science 220, 1983).

use std::time::{Duration, Instant};

use crate::Problem;
use crate::heft::{contended, heft};
use crate::neighbourhood::Neighbourhood;
use crate::partial::Channels;
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

/// Start of the temperature in the first cycle, and its end, in parts of the makespan.
const HOT: f64 = 0.01;
const COLD: f64 = 0.001;
/// Starts of the temperature in later cycles.
const REHEAT: [f64; 4] = [0.01, 0.03, 0.1, 0.3];
/// Evaluations of a cycle per task from 50 tasks on; fewer tasks have shorter cycles, so that there are more.
const CYCLE: u64 = 200;

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

/// Anneals in cycles: the first from `start`, later ones from the best schedule or from HEFT with disturbed costs,
/// at various temperatures.
///
/// # Returns
/// The best schedule met, which is the start where nothing better was, and the number of evaluations.
pub(crate) fn anneal(problem: &Problem, start: &Schedule, seed: u64, mut clock: Clock) -> (Schedule, u64) {
    let mut random = Random::new(seed);
    let mut s = Sequence::new(problem, start);
    if s.order.is_empty() {
        return (start.clone(), 0);
    }
    let mut best = Best { makespan: s.makespan, to: s.to.clone(), order: s.order.clone() };
    let tasks = problem.task_count() as u64;
    let length = (CYCLE * tasks * tasks.min(50) / 50).max(200);
    let mut hot = HOT;
    loop {
        let progress = clock.progress();
        let before = clock.evaluations;
        cycle(&mut s, &mut best, hot, length, &mut clock, &mut random);
        // A cycle that evaluated nothing met an instance without moves.
        if clock.progress() >= 1.0 || (clock.evaluations == before && progress >= 0.0) {
            break;
        }
        hot = REHEAT[random.below(REHEAT.len())];
        match (random.below(2) == 0).then(|| disturbed(problem, &mut random)).flatten() {
            Some(other) => s.load(&other),
            None => s.restore(&best.to, &best.order),
        }
    }
    if best.makespan >= start.makespan {
        return (start.clone(), clock.evaluations);
    }
    s.restore(&best.to, &best.order);
    (s.schedule(), clock.evaluations)
}

/// The best sequence met.
struct Best {
    makespan: f64,
    to: Vec<u32>,
    order: Vec<u32>,
}

/// One fall of the temperature, over `length` evaluations or the rest of the budget, whichever is less.
fn cycle(
    s: &mut Sequence<'_>,
    best: &mut Best,
    hot: f64,
    length: u64,
    clock: &mut Clock,
    random: &mut Random,
) {
    let mut neighbourhood = Neighbourhood::new();
    neighbourhood.look(s, random);
    let (began, first) = (clock.progress(), clock.evaluations);
    let scale = s.makespan.min(best.makespan);
    let mut temperature = hot * scale;
    let mut stale = false;
    for draw in 0u64.. {
        if draw % 32 == 0 {
            let rest = (clock.progress() - began) / (1.0 - began).max(f64::MIN_POSITIVE);
            let part = ((clock.evaluations - first) as f64 / length as f64).max(rest);
            if part >= 1.0 || draw > 100 * (length + clock.evaluations - first) {
                break;
            }
            temperature = scale * hot * (COLD / hot).powf(part);
        }
        if stale && draw % 4 == 0 {
            neighbourhood.look(s, random);
            stale = false;
        }
        let limit = s.makespan - temperature * (1.0 - random.unit()).ln();
        let Some(change) = neighbourhood.draw(s, random) else { continue };
        clock.evaluations += 1;
        match s.attempt(change, limit) {
            Some(makespan) => {
                s.keep();
                stale = true;
                if makespan < best.makespan {
                    best.makespan = makespan;
                    best.to.clone_from(&s.to);
                    best.order.clone_from(&s.order);
                }
            }
            None => s.undo(),
        }
    }
}

/// HEFT that sees every cost off by a random factor: another rank, another placement.
fn disturbed(problem: &Problem, random: &mut Random) -> Option<Schedule> {
    let mut seen = problem.clone();
    let width = random.between(0.2, 2.0);
    for cost in seen.cost.iter_mut().filter(|c| c.is_finite()) {
        *cost *= random.between(-width, width).exp2();
    }
    contended(problem, &heft(&seen, Channels::Queue)?)
}
