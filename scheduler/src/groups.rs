//! Groups of tasks that share weights, and the problem with some of them kept out of a memory.
//!
//! A weight is held once per memory, so moving one of its users saves nothing: groups are the connected
//! components of "uses the same weight". Tasks without weights are in no group. O(tasks + uses of weights).

use crate::Problem;

/// The groups, each with its tasks in order, in the order of their first tasks.
pub(crate) fn groups(problem: &Problem) -> Vec<Vec<u32>> {
    let n = problem.task_count();
    let mut parent: Vec<usize> = (0..n).collect();
    fn root(parent: &mut [usize], mut t: usize) -> usize {
        while parent[t] != t {
            parent[t] = parent[parent[t]];
            t = parent[t];
        }
        t
    }
    let mut first: Vec<Option<usize>> = vec![None; problem.names.weights.len()];
    for t in 0..n {
        for &w in problem.weights.row(t) {
            let other = *first[w as usize].get_or_insert(t);
            let (a, b) = (root(&mut parent, t), root(&mut parent, other));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut groups: Vec<Vec<u32>> = vec![Vec::new(); n];
    for t in (0..n).filter(|&t| !problem.weights.row(t).is_empty()) {
        let r = root(&mut parent, t);
        groups[r].push(t as u32);
    }
    groups.retain(|g| !g.is_empty());
    groups
}

/// The problem with the chosen groups out of `memory` and the others nowhere else. `None` where a task is left
/// without a processor.
pub(crate) fn placed(problem: &Problem, groups: &[Vec<u32>], memory: usize, out: &[bool]) -> Option<Problem> {
    let p = problem.processor_count();
    let mut part = problem.clone();
    for (group, &out) in groups.iter().zip(out) {
        for &t in group {
            let t = t as usize;
            for q in (0..p).filter(|&q| (problem.memory_of(q) == memory) == out) {
                part.cost[t * p + q] = f64::INFINITY;
            }
            if part.least_cost(t) == f64::INFINITY {
                return None;
            }
        }
    }
    Some(part)
}
