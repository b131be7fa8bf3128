//! HEFT, heterogeneous earliest finish time, with insertion; and HEFT that decides with the channels.
//!
//! Tasks by decreasing `rank_u`, each on the processor with the least `EFT` (Topcuoglu, Hariri and Wu, 2002).
//! A task whose output is needed elsewhere is judged by when that output has arrived there.
//! With queues on the channels every transfer is inserted into its channel as part of the decision
//! (Sinnen and Sousa, 2005).
//!
//! # Complexity
//! O(edges · memories + tasks · processors · log), plus the gaps passed over.

use crate::Problem;
use crate::partial::{Channels, Partial, Watch};
use crate::rank::{Means, decreasing, upward};
use crate::schedule::Schedule;

/// HEFT in the order of `rank_u`.
pub(crate) fn heft(problem: &Problem, channels: Channels, watch: Watch) -> Option<Schedule> {
    let rank = upward(problem, &Means::new(problem));
    in_order(problem, channels, watch, &decreasing(problem, &rank))
}

/// Each task of a topological order on the processor that completes it first.
pub(crate) fn in_order(
    problem: &Problem,
    channels: Channels,
    watch: Watch,
    order: &[u32],
) -> Option<Schedule> {
    let mut partial = Partial::new(problem, channels).watching(watch);
    for &t in order {
        let best = partial.best(t as usize)?;
        partial.place(t as usize, best.processor)?;
    }
    Some(partial.finish())
}

/// Each task of a topological order on the processor it is assigned to, with queues on the channels.
pub(crate) fn assigned(problem: &Problem, watch: Watch, order: &[u32], to: &[u32]) -> Option<Schedule> {
    let mut partial = Partial::new(problem, Channels::Queue).watching(watch);
    for &t in order {
        partial.place(t as usize, to[t as usize] as usize)?;
    }
    Some(partial.finish())
}

/// Makes a schedule that was decided without queues valid for the channels: its placement is kept, tasks are
/// taken in the order of their starts, and every transfer and task goes into the first gap that holds it.
pub(crate) fn contended(problem: &Problem, watch: Watch, decided: &Schedule) -> Option<Schedule> {
    let mut order = problem.topological.clone();
    // Stable: tasks of no length stay behind their predecessors.
    order.sort_by(|&a, &b| decided.runs[a as usize].start.total_cmp(&decided.runs[b as usize].start));
    assigned(problem, watch, &order, &decided.processors())
}
