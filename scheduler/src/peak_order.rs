//! An order of tasks for least peak: the other end from the order by rank.
//!
//! Of the ready tasks the one is taken that adds least to what lives in the memory: outputs written there and
//! inputs brought there, less the tensors of which it is the last reader there; among equals the one of highest
//! rank. A greedy form of the minimum-peak traversals that memory-aware HEFT variants use (Kulagina, Meyerhenke
//! and Benoit, "Mapping large memory-constrained workflows onto heterogeneous platforms", 2024).
//!
//! # Complexity
//! O(tasks · ready tasks · degree).

use crate::Problem;
use crate::problem::NONE;
use crate::rank::{Means, upward};

/// A topological order for an assignment of tasks to processors.
pub(crate) fn peak_order(problem: &Problem, to: &[u32], memory: usize) -> Vec<u32> {
    let n = problem.task_count();
    let rank = upward(problem, &Means::new(problem));
    let here = |t: u32| problem.memory_of(to[t as usize] as usize) == memory;
    let mut waiting: Vec<usize> = (0..n)
        .map(|t| problem.reads.row(t).iter().filter(|&&x| problem.writer[x as usize] != NONE).count())
        .collect();
    let mut unread: Vec<usize> = (0..problem.tensor_count())
        .map(|x| problem.readers.row(x).iter().filter(|&&r| here(r)).count())
        .collect();
    let mut present: Vec<bool> = (0..problem.tensor_count())
        .map(|x| problem.writer[x] == NONE && problem.home[x] as usize == memory)
        .collect();
    let mut ready: Vec<u32> = (0..n as u32).filter(|&t| waiting[t as usize] == 0).collect();
    let mut order = Vec::with_capacity(n);
    while !ready.is_empty() {
        let growth = |t: u32| {
            let bytes = |x: u32| problem.tensor_bytes[x as usize] as i128;
            let stays = |x: u32| problem.needed.row(x as usize).contains(&(memory as u32));
            let mut sum = 0i128;
            if here(t) {
                sum += problem.writes.row(t as usize).iter().map(|&x| bytes(x)).sum::<i128>();
                for &x in problem.reads.row(t as usize) {
                    sum += if present[x as usize] { 0 } else { bytes(x) };
                    sum -= if unread[x as usize] == 1 && !stays(x) { bytes(x) } else { 0 };
                }
            }
            sum
        };
        let key = |&t: &u32| (growth(t), -rank[t as usize], t);
        let mut best = (0, key(&ready[0]));
        for (i, t) in ready.iter().enumerate().skip(1) {
            let other = key(t);
            if other < best.1 {
                best = (i, other);
            }
        }
        let t = ready.swap_remove(best.0);
        order.push(t);
        if here(t) {
            for &x in problem.reads.row(t as usize) {
                present[x as usize] = true;
                unread[x as usize] -= 1;
            }
        }
        for &x in problem.writes.row(t as usize) {
            present[x as usize] |= here(t);
            for &r in problem.readers.row(x as usize) {
                waiting[r as usize] -= 1;
                if waiting[r as usize] == 0 {
                    ready.push(r);
                }
            }
        }
    }
    order
}
