//! PEFT, predict earliest finish time.
//!
//! `OCT(t, p) = max over successors s of min over q of (OCT(s, q) + w(s, q) + c(t→s, p→q))`, 0 for exit tasks;
//! priority is the mean of `OCT(t, ·)`, the ready task of the highest priority goes to the processor with the
//! least `EFT + OCT` (Arabnejad and Barbosa, "List scheduling algorithm for heterogeneous systems by an
//! optimistic cost table", IEEE TPDS 25(3), 2014). Transfers take the time of the link between the two memories,
//! where the paper, without memories, has a mean; so tasks that share a reader often tie, and the upward rank
//! decides. A tensor needed elsewhere is a successor of no length there.
//!
//! # Complexity
//! O(edges · processors · memories) for the table, then as HEFT.

use crate::Problem;
use crate::cpop::ReadyQueue;
use crate::partial::{Channels, Partial, Watch};
use crate::rank::{Means, upward};
use crate::schedule::Schedule;

/// The schedule of PEFT.
pub(crate) fn peft(problem: &Problem, channels: Channels, watch: Watch) -> Option<Schedule> {
    let p = problem.processor_count();
    let table = optimistic_costs(problem);
    let mean = |t: usize| {
        let able = (0..p).filter(|&q| problem.cost(t, q).is_finite()).map(|q| table[t * p + q]);
        let (sum, count) = able.fold((0.0, 0u32), |(s, k), o| (s + o, k + 1));
        sum / f64::from(count.max(1))
    };
    let priority: Vec<f64> = (0..problem.task_count()).map(mean).collect();
    let mut queue = ReadyQueue::new(problem, &priority, &upward(problem, &Means::new(problem)));
    let mut partial = Partial::new(problem, channels).watching(watch);
    while let Some(t) = queue.pop() {
        let mut best: Option<(f64, f64, usize)> = None;
        for m in 0..problem.memory_count() {
            partial.candidates(t, m, |c| {
                let key = (c.finish + table[t * p + c.processor], c.finish, c.processor);
                if best.is_none_or(|b| key < b) {
                    best = Some(key);
                }
            });
        }
        partial.place(t, best?.2)?;
        queue.release(problem, t);
    }
    Some(partial.finish())
}

/// `OCT[task · processors + processor]`.
fn optimistic_costs(problem: &Problem) -> Vec<f64> {
    let (p, m) = (problem.processor_count(), problem.memory_count());
    let mut table = vec![0.0f64; problem.task_count() * p];
    let mut cheapest = vec![f64::INFINITY; m];
    for &t in problem.topological.iter().rev() {
        let t = t as usize;
        for &x in problem.writes.row(t) {
            let x = x as usize;
            for &s in problem.readers.row(x) {
                let s = s as usize;
                cheapest.fill(f64::INFINITY);
                for q in 0..p {
                    let b = problem.memory_of(q);
                    cheapest[b] = cheapest[b].min(table[s * p + q] + problem.cost(s, q));
                }
                for a in 0..m {
                    let ways = (0..m).filter(|&b| cheapest[b] < f64::INFINITY);
                    let least =
                        ways.map(|b| cheapest[b] + problem.haul(x, a, b)).fold(f64::INFINITY, f64::min);
                    for &q in problem.lanes.row(a) {
                        let entry = &mut table[t * p + q as usize];
                        *entry = entry.max(least);
                    }
                }
            }
            for &b in problem.needed.row(x) {
                for q in 0..p {
                    let haul = problem.haul(x, problem.memory_of(q), b as usize);
                    table[t * p + q] = table[t * p + q].max(haul);
                }
            }
        }
    }
    table
}
