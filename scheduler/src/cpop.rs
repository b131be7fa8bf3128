//! CPOP, critical path on a processor.
//!
//! Priority `rank_u + rank_d`; the tasks of one critical path, followed from the entry task of the highest
//! priority through the successors of the highest priority, all go to the processor that minimises the sum of
//! their costs; the others, taken from a ready queue by priority, to the least `EFT` (Topcuoglu, Hariri and Wu,
//! 2002). A task of the path that its processor cannot run or be reached from is placed like the others.
//!
//! # Complexity
//! O(edges · memories + tasks · (processors + log tasks)).

use std::collections::BinaryHeap;

use crate::Problem;
use crate::partial::{Channels, Partial, Watch};
use crate::problem::NONE;
use crate::rank::{Means, downward, upward};
use crate::schedule::Schedule;

/// The schedule of CPOP.
pub(crate) fn cpop(problem: &Problem, channels: Channels, watch: Watch) -> Option<Schedule> {
    let means = Means::new(problem);
    let up = upward(problem, &means);
    let down = downward(problem, &means);
    let priority: Vec<f64> = up.iter().zip(&down).map(|(u, d)| u + d).collect();
    let path = critical_path(problem, &priority);
    let home = path_processor(problem, &path);
    let mut partial = Partial::new(problem, channels).watching(watch);
    let mut queue = ReadyQueue::new(problem, &priority, &up);
    while let Some(t) = queue.pop() {
        let on_path = home.filter(|&p| path[t] && problem.cost(t, p).is_finite());
        if on_path.and_then(|p| partial.place(t, p)).is_none() {
            let best = partial.best(t)?;
            partial.place(t, best.processor)?;
        }
        queue.release(problem, t);
    }
    Some(partial.finish())
}

/// Which tasks lie on the path of the highest priorities.
fn critical_path(problem: &Problem, priority: &[f64]) -> Vec<bool> {
    let mut on = vec![false; problem.task_count()];
    let highest = |best: Option<usize>, t: usize| match best {
        Some(b) if priority[b] >= priority[t] => Some(b),
        _ => Some(t),
    };
    let written = |t: usize| problem.reads.row(t).iter().any(|&x| problem.writer[x as usize] != NONE);
    let mut at = (0..problem.task_count()).filter(|&t| !written(t)).fold(None, highest);
    while let Some(t) = at {
        on[t] = true;
        let next = problem.writes.row(t).iter().flat_map(|&x| problem.readers.row(x as usize));
        at = next.map(|&r| r as usize).fold(None, highest);
    }
    on
}

/// The processor that can run the whole path and takes the least time for it.
fn path_processor(problem: &Problem, path: &[bool]) -> Option<usize> {
    let total = |p: usize| (0..path.len()).filter(|&t| path[t]).map(|t| problem.cost(t, p)).sum::<f64>();
    let sums: Vec<f64> = (0..problem.processor_count()).map(total).collect();
    let best = (0..sums.len()).min_by(|&a, &b| sums[a].total_cmp(&sums[b]))?;
    sums[best].is_finite().then_some(best)
}

/// Tasks whose predecessors have all been taken, highest priority first; among equals the highest second priority,
/// then the smallest index.
pub(crate) struct ReadyQueue {
    heap: BinaryHeap<(Key, Key, std::cmp::Reverse<u32>)>,
    waiting: Vec<u32>,
    priority: Vec<f64>,
    second: Vec<f64>,
}

/// A priority with the order of `total_cmp`.
#[derive(PartialEq)]
struct Key(f64);
impl Eq for Key {}
impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl ReadyQueue {
    pub(crate) fn new(problem: &Problem, priority: &[f64], second: &[f64]) -> Self {
        let count = |t: usize| {
            let written = problem.reads.row(t).iter().filter(|&&x| problem.writer[x as usize] != NONE);
            written.count() as u32
        };
        let waiting: Vec<u32> = (0..problem.task_count()).map(count).collect();
        let (priority, second) = (priority.to_vec(), second.to_vec());
        let mut queue = Self { heap: BinaryHeap::new(), priority, second, waiting };
        for t in 0..problem.task_count() {
            if queue.waiting[t] == 0 {
                queue.push(t);
            }
        }
        queue
    }

    fn push(&mut self, t: usize) {
        self.heap.push((Key(self.priority[t]), Key(self.second[t]), std::cmp::Reverse(t as u32)));
    }

    pub(crate) fn pop(&mut self) -> Option<usize> {
        self.heap.pop().map(|(_, _, t)| t.0 as usize)
    }

    /// Counts `t` as done for its successors.
    pub(crate) fn release(&mut self, problem: &Problem, t: usize) {
        for &x in problem.writes.row(t) {
            for &r in problem.readers.row(x as usize) {
                self.waiting[r as usize] -= 1;
                if self.waiting[r as usize] == 0 {
                    self.push(r as usize);
                }
            }
        }
    }
}
