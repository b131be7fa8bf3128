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
use crate::objective::{Archive, Objective};
use crate::partial::{Channels, Watch};
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

/// A chain's start, seed, budget and objective.
pub(crate) struct Chain<'c> {
    pub(crate) start: &'c Schedule,
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    pub(crate) objective: Objective,
    /// Tasks that also move together.
    pub(crate) groups: &'c [Vec<u32>],
    /// A value at which to stop.
    pub(crate) enough: f64,
}

impl<'c> Chain<'c> {
    /// A chain without groups that runs until its budget ends.
    pub(crate) fn new(start: &'c Schedule, seed: u64, clock: Clock, objective: Objective) -> Self {
        Self { start, seed, clock, objective, groups: &[], enough: f64::NEG_INFINITY }
    }
}

/// Anneals in cycles: the first from the start, later ones from the best schedule or from HEFT with disturbed
/// costs, at various temperatures.
///
/// # Returns
/// The best schedule met, which is the start where nothing better was, and the number of evaluations.
pub(crate) fn anneal(problem: &Problem, chain: Chain<'_>, archive: &mut Archive) -> (Schedule, u64) {
    let Chain { start, seed, mut clock, objective, groups, enough } = chain;
    let mut random = Random::new(seed);
    let mut s = Sequence::new(problem, start);
    let first = objective.of(problem, start);
    if s.order.is_empty() {
        return (start.clone(), 0);
    }
    let mut best = Best { value: first, to: s.to.clone(), order: s.order.clone() };
    let mut value = first;
    let tasks = problem.task_count() as u64;
    let length = (CYCLE * tasks * tasks.min(50) / 50).max(200);
    let mut hot = HOT;
    while best.value > enough {
        let before = clock.evaluations;
        let mut walk = Cycle { objective, groups, hot, length, enough };
        walk.fall(&mut s, value, &mut best, &mut clock, &mut random, archive);
        // A cycle that evaluated nothing met an instance without moves.
        if clock.progress() >= 1.0 || clock.evaluations == before {
            break;
        }
        hot = REHEAT[random.below(REHEAT.len())];
        value = best.value;
        match (random.below(2) == 0).then(|| disturbed(problem, &mut random)).flatten() {
            Some(other) if objective.of(problem, &other) < f64::INFINITY => {
                value = objective.of(problem, &other);
                s.load(&other);
            }
            _ => s.restore(&best.to, &best.order),
        }
    }
    if best.value >= first {
        return (start.clone(), clock.evaluations);
    }
    s.restore(&best.to, &best.order);
    (s.schedule(), clock.evaluations)
}

/// The best sequence met.
struct Best {
    value: f64,
    to: Vec<u32>,
    order: Vec<u32>,
}

/// One fall of the temperature, over `length` evaluations or the rest of the budget, whichever is less.
struct Cycle<'c> {
    objective: Objective,
    groups: &'c [Vec<u32>],
    hot: f64,
    length: u64,
    enough: f64,
}

impl Cycle<'_> {
    fn fall(
        &mut self,
        s: &mut Sequence<'_>,
        mut value: f64,
        best: &mut Best,
        clock: &mut Clock,
        random: &mut Random,
        archive: &mut Archive,
    ) {
        let mut neighbourhood = Neighbourhood::new();
        neighbourhood.look(s, random);
        let (began, first) = (clock.progress(), clock.evaluations);
        let scale = value.min(best.value);
        let mut temperature = self.hot * scale;
        let mut stale = false;
        for draw in 0u64.. {
            if draw % 32 == 0 {
                let rest = (clock.progress() - began) / (1.0 - began).max(f64::MIN_POSITIVE);
                let part = ((clock.evaluations - first) as f64 / self.length as f64).max(rest);
                let idle = draw > 100 * (self.length + clock.evaluations - first);
                if part >= 1.0 || idle || best.value <= self.enough {
                    break;
                }
                temperature = scale * self.hot * (COLD / self.hot).powf(part);
            }
            if stale && draw % 4 == 0 {
                neighbourhood.look(s, random);
                stale = false;
            }
            let limit = value - temperature * (1.0 - random.unit()).ln();
            let change = match self.groups {
                [] => neighbourhood.draw(s, random),
                groups if random.below(4) == 0 => neighbourhood.draw_group(s, groups, random),
                _ => neighbourhood.draw(s, random),
            };
            let Some(change) = change else { continue };
            clock.evaluations += 1;
            let makespan = s.attempt(change, self.objective.cutoff(limit));
            let reached = makespan.map(|m| self.objective.value(s, m, archive)).filter(|v| *v <= limit);
            match reached {
                Some(reached) => {
                    s.keep();
                    value = reached;
                    stale = true;
                    if value < best.value {
                        best.value = value;
                        best.to.clone_from(&s.to);
                        best.order.clone_from(&s.order);
                    }
                }
                None => s.undo(),
            }
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
    contended(problem, Watch::Nothing, &heft(&seen, Channels::Queue, Watch::Nothing)?)
}

impl Schedule {
    /// Draws `moves` moves, evaluates each to its exact makespan, none cut short, and keeps those that lengthen the
    /// schedule by at most a thousandth: the work of the search at a fixed temperature, for measuring.
    ///
    /// # Returns
    /// The sum of the makespans.
    pub fn evaluate_moves(&self, problem: &Problem, moves: u64, seed: u64) -> f64 {
        let mut random = Random::new(seed);
        let mut s = Sequence::new(problem, self);
        let mut neighbourhood = Neighbourhood::new();
        let (mut sum, mut done, mut stale) = (0.0, 0, true);
        while done < moves {
            if stale && done % 4 == 0 {
                neighbourhood.look(&s, &mut random);
                stale = false;
            }
            let limit = s.makespan * (1.0 + 1.0 / 1024.0);
            let Some(change) = neighbourhood.draw(&s, &mut random) else { continue };
            done += 1;
            let makespan = s.attempt(change, f64::INFINITY);
            sum += makespan.unwrap_or(0.0);
            if makespan.is_some_and(|m| m <= limit) {
                s.keep();
                stale = true;
            } else {
                s.undo();
            }
        }
        sum
    }
}
