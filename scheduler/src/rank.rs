//! Priorities of tasks: upward and downward ranks, and the order they give.
//!
//! `w̄` is the mean cost over the processors that can run a task, `c̄` the mean transfer time over all ordered
//! pairs of distinct processors, 0 within a memory (Topcuoglu, Hariri and Wu, "Performance-effective and
//! low-complexity task scheduling for heterogeneous computing", IEEE TPDS 13(3), 2002):
//!
//! `rank_u(i) = w̄_i + max over successors j of (c̄_ij + rank_u(j))`,
//! `rank_d(i) = max over predecessors j of (rank_d(j) + w̄_j + c̄_ji)`.
//!
//! A tensor that is needed elsewhere at the end counts like a successor of no length.

use crate::problem::{NONE, Problem};

/// Mean costs and mean transfer times.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    pub(crate) cost: Vec<f64>,
    pub(crate) transfer: Vec<f64>,
}

impl Means {
    /// O(tasks · processors + tensors · memories²).
    pub(crate) fn new(problem: &Problem) -> Self {
        let (p, m) = (problem.processor_count(), problem.memory_count());
        let cost = (0..problem.task_count())
            .map(|t| {
                let able = problem.costs(t).iter().filter(|c| c.is_finite());
                let (sum, count) = able.fold((0.0, 0u32), |(s, k), c| (s + c, k + 1));
                sum / f64::from(count.max(1))
            })
            .collect();
        let lanes: Vec<f64> = (0..m).map(|a| problem.lanes.row(a).len() as f64).collect();
        let pairs = (p * p.saturating_sub(1)) as f64;
        let transfer = (0..problem.tensor_count())
            .map(|x| {
                let mut sum = 0.0;
                for a in 0..m {
                    for b in (0..m).filter(|&b| b != a && problem.routes.reaches(a, b)) {
                        sum += lanes[a] * lanes[b] * problem.haul(x, a, b);
                    }
                }
                if pairs > 0.0 { sum / pairs } else { 0.0 }
            })
            .collect();
        Self { cost, transfer }
    }
}

/// `rank_u` of every task. O(tasks + edges).
pub(crate) fn upward(problem: &Problem, means: &Means) -> Vec<f64> {
    let mut rank = vec![0.0; problem.task_count()];
    for &t in problem.topological.iter().rev() {
        let mut longest = 0.0f64;
        for &x in problem.writes.row(t as usize) {
            let x = x as usize;
            let c = means.transfer[x];
            for &r in problem.readers.row(x) {
                longest = longest.max(c + rank[r as usize]);
            }
            if !problem.needed.row(x).is_empty() {
                longest = longest.max(c);
            }
        }
        rank[t as usize] = means.cost[t as usize] + longest;
    }
    rank
}

/// `rank_d` of every task. O(tasks + edges).
pub(crate) fn downward(problem: &Problem, means: &Means) -> Vec<f64> {
    let mut rank = vec![0.0f64; problem.task_count()];
    for &t in &problem.topological {
        for &x in problem.reads.row(t as usize) {
            let w = problem.writer[x as usize];
            if w != NONE {
                let through = rank[w as usize] + means.cost[w as usize] + means.transfer[x as usize];
                rank[t as usize] = rank[t as usize].max(through);
            }
        }
    }
    rank
}

/// Tasks by decreasing rank; equal ranks in topological order, so that costs of 0 cannot break it.
pub(crate) fn decreasing(problem: &Problem, rank: &[f64]) -> Vec<u32> {
    let mut order = problem.topological.clone();
    // The sort is stable and starts from a topological order.
    order.sort_by(|&a, &b| rank[b as usize].total_cmp(&rank[a as usize]));
    order
}
