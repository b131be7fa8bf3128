//! Lookahead HEFT: a processor is judged by what it does to the children.
//!
//! Tasks by decreasing `rank_u`. For every processor the task is placed tentatively, then each child in rank
//! order by HEFT, counting those of its parents that are placed; the processor with the least maximal `EFT` of
//! the children is taken, by the task's own completion where that ties (Bittencourt, Sakellariou and Madeira,
//! "DAG scheduling using a lookahead variant of the heterogeneous earliest finish time algorithm", PDP 2010).
//!
//! # Complexity
//! O(edges · processors · (in-degree · memories + processors)).

use crate::Problem;
use crate::partial::{Channels, Partial, Watch};
use crate::rank::{Means, decreasing, upward};
use crate::schedule::Schedule;

/// The schedule of lookahead HEFT.
pub(crate) fn lookahead(problem: &Problem, channels: Channels, watch: Watch) -> Option<Schedule> {
    let rank = upward(problem, &Means::new(problem));
    let order = decreasing(problem, &rank);
    let mut position = vec![0; order.len()];
    for (i, &t) in order.iter().enumerate() {
        position[t as usize] = i;
    }
    let mut partial = Partial::new(problem, channels).watching(watch);
    let mut candidates = Vec::new();
    let mut children: Vec<u32> = Vec::new();
    let mut placed = Vec::new();
    for &t in &order {
        let t = t as usize;
        children.clear();
        children.extend(problem.writes.row(t).iter().flat_map(|&x| problem.readers.row(x as usize)));
        children.sort_unstable_by_key(|&c| position[c as usize]);
        children.dedup();
        candidates.clear();
        for m in 0..problem.memory_count() {
            partial.candidates(t, m, |c| candidates.push(c));
        }
        let mut best: Option<(f64, f64, usize)> = None;
        for &c in &candidates {
            let mark = partial.transfers.len();
            if partial.place(t, c.processor).is_none() {
                continue;
            }
            let mut worst = c.complete;
            for &child in &children {
                let child = child as usize;
                let mark = partial.transfers.len();
                let run = partial.best(child).and_then(|b| {
                    worst = worst.max(b.complete);
                    partial.place(child, b.processor)
                });
                if run.is_none() {
                    worst = f64::INFINITY;
                    break;
                }
                placed.push((child, mark));
            }
            while let Some((child, mark)) = placed.pop() {
                partial.unplace(child, mark);
            }
            partial.unplace(t, mark);
            let key = (worst, c.complete, c.processor);
            if best.is_none_or(|b| key < b) {
                best = Some(key);
            }
        }
        partial.place(t, best?.2)?;
    }
    Some(partial.finish())
}
