//! The times of a sequence from one position on.
//!
//! `finish(i) = max(free(r), finish(s) for every source s of i) + length(i)`, where `free(r)` is the finish of the
//! item before `i` on its unit or channel `r`. Tasks and transfers are evaluated alike, in one pass over the order
//! without searches, and each writes its own finish alone: who reads a tensor knows the item that brings it. The
//! times are the same `max` and `+` of the same operands as in a full evaluation, so they are equal to the last bit.

use crate::incremental::Trial;
use crate::problem::Problem;
use crate::sequence::{GANG, Item, Sequence, Step};

/// What a pass reads and writes of a sequence.
struct Pass<'p> {
    problem: &'p Problem,
    to: &'p [u32],
    steps: &'p [Step],
    sources: &'p [Item],
    finish: &'p mut [f64],
    /// Finish of the latest item on every unit, then on every channel.
    free: &'p mut [f64],
    cutoff: f64,
}

/// The later of two times, which are numbers.
#[inline]
fn later(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

impl Pass<'_> {
    /// Computes an item. False once the end must exceed the cutoff.
    #[inline]
    fn step(&mut self, item: Item) -> bool {
        let step = self.steps[item as usize];
        let mut start = 0.0;
        for &source in &self.sources[step.first as usize..step.end as usize] {
            start = later(start, self.finish[source as usize]);
        }
        let finish = if let Some(free) = self.free.get_mut(step.resource as usize) {
            *free = later(start, *free) + step.length;
            *free
        } else if step.resource == GANG {
            let units = self.problem.units.row(self.to[item as usize] as usize);
            let finish = units.iter().fold(start, |s, &u| later(s, self.free[u as usize])) + step.length;
            for &u in units {
                self.free[u as usize] = finish;
            }
            finish
        } else {
            start + step.length
        };
        self.finish[item as usize] = finish;
        finish + step.tail <= self.cutoff
    }
}

impl Sequence<'_> {
    /// Computes all times of the present sequence.
    pub(crate) fn recompute(&mut self) {
        self.trial.clear(0);
        self.pass(f64::INFINITY);
        self.kept.copy_from_slice(&self.finish);
        self.makespan = self.trial.makespan;
    }

    /// Passes over the sequence from the first change on.
    ///
    /// # Returns
    /// The makespan, or `None` as soon as it is certain to exceed `cutoff`.
    pub(crate) fn pass(&mut self, cutoff: f64) -> Option<f64> {
        let mut trial = std::mem::take(&mut self.trial);
        trial.high = trial.high.max(trial.low);
        self.resources_before(&mut trial.free, trial.low);
        let within = self.pass_over(&mut trial, cutoff);
        if within {
            trial.makespan = self.end(&trial.free);
        }
        let makespan = trial.makespan;
        self.trial = trial;
        (within && makespan <= cutoff).then_some(makespan)
    }

    /// Computes the items from the first change on. False once the end must exceed `cutoff`.
    fn pass_over(&mut self, trial: &mut Trial, cutoff: f64) -> bool {
        let Trial { low, high, stamp, .. } = *trial;
        let mut pass = Pass {
            problem: self.problem,
            to: &self.to,
            steps: &self.steps,
            sources: &self.sources,
            finish: &mut self.finish,
            free: &mut trial.free,
            cutoff,
        };
        trial.stop = high;
        let mut inserts = trial.inserts.iter().peekable();
        for i in low..=high {
            while let Some(&(_, _, item)) = inserts.next_if(|insert| insert.0 as usize == i) {
                trial.order.push(item);
                if !pass.step(item) {
                    return false;
                }
            }
            if i == high {
                break;
            }
            let item = self.order[i];
            if trial.gone[item as usize] != stamp {
                trial.order.push(item);
                if !pass.step(item) {
                    return false;
                }
            }
        }
        for &item in &self.order[high..] {
            trial.stop += 1;
            if !pass.step(item) {
                return false;
            }
        }
        true
    }

    /// Finish of the last item before `low` on every unit and channel.
    fn resources_before(&self, free: &mut [f64], low: usize) {
        free.fill(-1.0);
        let mut open = free.len();
        for &item in self.order[..low].iter().rev() {
            if open == 0 {
                break;
            }
            let (resource, finish) = (self.steps[item as usize].resource, self.finish[item as usize]);
            let mut see = |free: &mut f64| {
                if *free < 0.0 {
                    *free = finish;
                    open -= 1;
                }
            };
            if let Some(free) = free.get_mut(resource as usize) {
                see(free);
            } else if resource == GANG {
                let units = self.problem.units.row(self.to[item as usize] as usize);
                units.iter().for_each(|&u| see(&mut free[u as usize]));
            }
        }
        for f in free {
            *f = f.max(0.0);
        }
    }

    /// End of the last task or needed transfer.
    fn end(&self, free: &[f64]) -> f64 {
        let ends =
            if self.instant_tasks { &self.finish[..self.tasks] } else { &free[..self.problem.unit_count] };
        let end = ends.iter().copied().fold(0.0, later);
        self.sources[self.needed..].iter().map(|&item| self.finish[item as usize]).fold(end, later)
    }
}
