//! Lower bounds of the makespan, each valid for every schedule.
//!
//! * **Path**: the longest path of least costs; a tensor between two memories that share no processor for its
//!   writer and reader costs its least transfer, one needed elsewhere likewise.
//! * **Area**: for any weights `y ≥ 0` of the units with `Σ y = 1`, the makespan is at least
//!   `Σ over tasks of min over processors p of cost(t, p) · Σ over units u of p of y_u` (linear-programming
//!   duality of the fractional assignment). Units with equal columns of costs get equal weights; the weights of
//!   the kinds are found by golden section where there are two, else by subgradient steps. Any weights are
//!   valid, so the bound does not depend on convergence.
//! * **Channel**: transfers that no placement avoids, per channel.
//!
//! Rounding could lift a sum over the true value: bounds are lowered by `2⁻⁴⁰` of themselves.
//!
//! # Complexity
//! O(edges · memories²) for paths and channels, O(tasks · processors) per step of the area bound.

use crate::Problem;
use crate::problem::NONE;

/// The lower bounds of a problem.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Longest path of least costs.
    pub path: f64,
    /// Fractional work per kind of unit.
    pub area: f64,
    /// Unavoidable load of the busiest channel.
    pub channel: f64,
}

/// Keeps a bound below the value that exact arithmetic would give.
const MARGIN: f64 = 1.0 - 1.0 / (1u64 << 40) as f64;

impl Bounds {
    /// Computes all bounds.
    pub fn new(problem: &Problem) -> Self {
        let moves = Moves::new(problem);
        Self {
            path: path(problem, &moves) * MARGIN,
            area: area(problem) * MARGIN,
            channel: channel(problem, &moves) * MARGIN,
        }
    }

    /// The largest of the bounds.
    pub fn best(&self) -> f64 {
        self.path.max(self.area).max(self.channel)
    }
}

/// For each task the set of memories in which it can run, and least transfer times between such sets.
pub(crate) struct Moves {
    pub(crate) possible: Vec<u64>,
}

impl Moves {
    pub(crate) fn new(problem: &Problem) -> Self {
        let set = |t: usize| {
            let able = (0..problem.processor_count()).filter(|&p| problem.cost(t, p).is_finite());
            able.fold(0u64, |s, p| s | 1 << problem.memory_of(p))
        };
        Self { possible: (0..problem.task_count()).map(set).collect() }
    }

    fn sources(&self, problem: &Problem, x: usize) -> u64 {
        match problem.writer[x] {
            NONE => 1 << problem.home[x],
            w => self.possible[w as usize],
        }
    }

    /// Least time for tensor `x` from any of `from` to any of `to`.
    pub(crate) fn least(problem: &Problem, x: usize, from: u64, to: u64) -> f64 {
        if from & to != 0 {
            return 0.0;
        }
        let m = problem.memory_count();
        let mut least = f64::INFINITY;
        for a in (0..m).filter(|&a| from >> a & 1 == 1) {
            for b in (0..m).filter(|&b| to >> b & 1 == 1) {
                least = least.min(problem.haul(x, a, b));
            }
        }
        least
    }
}

fn path(problem: &Problem, moves: &Moves) -> f64 {
    let mut finish = vec![0.0f64; problem.task_count()];
    let mut end = 0.0f64;
    let there = |x: usize, to: u64, finish: &[f64]| {
        let from = match problem.writer[x] {
            NONE => 0.0,
            w => finish[w as usize],
        };
        from + Moves::least(problem, x, moves.sources(problem, x), to)
    };
    for &t in &problem.topological {
        let t = t as usize;
        let reads = problem.reads.row(t).iter();
        let ready = reads.map(|&x| there(x as usize, moves.possible[t], &finish)).fold(0.0, f64::max);
        finish[t] = ready + problem.least_cost(t);
        end = end.max(finish[t]);
    }
    for x in 0..problem.tensor_count() {
        for &b in problem.needed.row(x) {
            end = end.max(there(x, 1 << b, &finish));
        }
    }
    end
}

/// Transfers that happen wherever tasks are placed, summed per channel: a tensor with fixed source and target and
/// a direct link between them.
fn channel(problem: &Problem, moves: &Moves) -> f64 {
    let mut load = vec![0.0f64; problem.channel_count];
    for x in 0..problem.tensor_count() {
        let from = moves.sources(problem, x);
        let needed = problem.needed.row(x).iter().map(|&b| 1u64 << b);
        let read = problem.readers.row(x).iter().map(|&r| moves.possible[r as usize]);
        let targets: Vec<u64> = needed.chain(read).filter(|s| s.is_power_of_two() && s & from == 0).collect();
        // With more than two memories another copy may serve as the source.
        let Some(&to) = targets.first().filter(|_| from.is_power_of_two() && problem.memory_count() == 2)
        else {
            continue;
        };
        let (a, b) = (from.trailing_zeros() as usize, to.trailing_zeros() as usize);
        let c = problem.routes.channel(a, b);
        if c != NONE {
            load[c as usize] += problem.hop(x, a, b);
        }
    }
    load.into_iter().fold(0.0, f64::max)
}

/// Kinds of units: those whose only processors are single lanes of one memory with equal costs.
fn kinds(problem: &Problem) -> Vec<Vec<usize>> {
    let p = problem.processor_count();
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); problem.unit_count];
    for q in 0..p {
        for &u in problem.units.row(q) {
            users[u as usize].push(q);
        }
    }
    let alike = |a: usize, b: usize| {
        let (&[p], &[q]) = (&users[a][..], &users[b][..]) else { return false };
        problem.units.row(p).len() == 1
            && problem.units.row(q).len() == 1
            && (0..problem.task_count()).all(|t| problem.cost(t, p) == problem.cost(t, q))
    };
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    for u in 0..problem.unit_count {
        match kinds.iter_mut().find(|k| alike(k[0], u)) {
            Some(kind) => kind.push(u),
            None => kinds.push(vec![u]),
        }
    }
    kinds
}

/// The area bound.
fn area(problem: &Problem) -> f64 {
    let kinds = kinds(problem);
    let (k, p) = (kinds.len(), problem.processor_count());
    if k == 0 {
        return 0.0;
    }
    let mut kind_of = vec![0; problem.unit_count];
    for (i, kind) in kinds.iter().enumerate() {
        for &u in kind {
            kind_of[u] = i;
        }
    }
    // `y[k]` is the weight of the whole kind, shared equally by its units.
    let mut price = vec![0.0; p];
    let mut load = vec![0.0; k];
    let mut bound = |y: &[f64], load: &mut [f64]| {
        load.fill(0.0);
        for (q, price) in price.iter_mut().enumerate() {
            let units = problem.units.row(q).iter().map(|&u| kind_of[u as usize]);
            *price = units.map(|i| y[i] / kinds[i].len() as f64).sum();
        }
        let mut sum = 0.0;
        for t in 0..problem.task_count() {
            let mut least = (f64::INFINITY, 0);
            for (q, &c) in problem.costs(t).iter().enumerate() {
                // Not `0 · ∞`.
                if c.is_finite() && c * price[q] < least.0 {
                    least = (c * price[q], q);
                }
            }
            sum += least.0;
            for &u in problem.units.row(least.1) {
                let i = kind_of[u as usize];
                load[i] += problem.cost(t, least.1) / kinds[i].len() as f64;
            }
        }
        sum
    };
    if k == 1 {
        return bound(&[1.0], &mut load);
    }
    if k == 2 {
        let (mut low, mut high) = (0.0f64, 1.0f64);
        let mut best = 0.0f64;
        for _ in 0..64 {
            let (a, b) = (low + (high - low) * 0.381_966, high - (high - low) * 0.381_966);
            let (fa, fb) = (bound(&[a, 1.0 - a], &mut load), bound(&[b, 1.0 - b], &mut load));
            best = best.max(fa).max(fb);
            if fa < fb { low = a } else { high = b }
        }
        return best;
    }
    let mut y = vec![1.0 / k as f64; k];
    let mut best = 0.0f64;
    for step in 0..400 {
        let value = bound(&y, &mut load);
        best = best.max(value);
        // Multiplicative steps towards the kinds whose load exceeds the bound.
        let scale = load.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let rate = 2.0 / (1.0 + f64::from(step)).sqrt();
        for (y, l) in y.iter_mut().zip(&load) {
            *y *= (rate * (l / scale - 0.5)).exp2();
        }
        let sum: f64 = y.iter().sum();
        for y in &mut y {
            *y /= sum;
        }
    }
    best
}
