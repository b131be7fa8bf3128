//! Baselines: everything on one processor, everything in one memory.
//!
//! A single memory may use all its processors (HEFT within it). These are the plans that no other answer of
//! the portfolio may be worse than.
//!
//! # Complexity
//! As HEFT, once per processor and once per memory.

use crate::Problem;
use crate::heft::in_order;
use crate::partial::{Channels, Watch};
use crate::rank::{Means, decreasing, upward};
use crate::schedule::Schedule;

/// The schedule that uses the processors that `allowed` admits, by HEFT with channels.
fn restricted(problem: &Problem, watch: Watch, allowed: impl Fn(usize) -> bool) -> Option<Schedule> {
    let p = problem.processor_count();
    let mut part = problem.clone();
    for t in 0..problem.task_count() {
        for q in (0..p).filter(|&q| !allowed(q)) {
            part.cost[t * p + q] = f64::INFINITY;
        }
        if part.least_cost(t) == f64::INFINITY {
            return None;
        }
    }
    let rank = upward(&part, &Means::new(&part));
    in_order(&part, Channels::Queue, watch, &decreasing(&part, &rank))
}

/// Everything on processor `p`, where it can run everything.
pub(crate) fn one_processor(problem: &Problem, watch: Watch, p: usize) -> Option<Schedule> {
    restricted(problem, watch, |q| q == p)
}

/// Everything on the processors of memory `m`, where they can run everything.
pub(crate) fn one_memory(problem: &Problem, watch: Watch, m: usize) -> Option<Schedule> {
    restricted(problem, watch, |q| problem.memory_of(q) == m)
}
