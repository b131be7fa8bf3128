//! Moves on a sequence and their exact incremental evaluation.
//!
//! A move gives tasks other processors and may take one item to another position. The transfers that it makes
//! needless go, those that it makes necessary come, and only the part of the sequence behind the first change is
//! passed over; in it, only items whose inputs or whose units' previous finish changed are computed again. The
//! finish times are the same `max` and `+` of the same operands as in a full evaluation, so they are equal to
//! the last bit.
//!
//! # Complexity
//! O(items behind the first change + reads of the items that change), with a constant of a few nanoseconds for
//! an item that does not.

use crate::Problem;
use crate::problem::NONE;
use crate::sequence::{Item, Sequence};

/// Where new transfers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eagerness {
    /// Right behind the item that makes the tensor available.
    Eager,
    /// Right before the first item that uses the copy.
    Lazy,
}

/// What to try.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move<'m> {
    /// Tasks and their new processors.
    pub(crate) reassign: &'m [(u32, u32)],
    /// An item and the position in the present order before which it goes; within its window.
    pub(crate) shift: Option<(Item, u32)>,
    pub(crate) eagerness: Eagerness,
}

/// Scratch memory and the journal of the move being tried.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trial {
    stamp: u32,
    /// Items to compute again, transfers that go, and tensors seen in this trial, by stamp.
    dirty: Vec<u32>,
    gone: Vec<u32>,
    seen: Vec<u32>,
    touched: Vec<u32>,
    /// Items that come: position before which, rank there, item.
    inserts: Vec<(u32, u8, Item)>,
    removed: Vec<Item>,
    low: usize,
    /// The new order from `low` on.
    order: Vec<Item>,
    finish_journal: Vec<(Item, f64, f64)>,
    to_journal: Vec<(u32, u32)>,
    home_journal: Vec<(u32, u32)>,
    moved_journal: Vec<(u32, u64)>,
    free: Vec<f64>,
    makespan: f64,
    /// Single unit of each processor, or `NONE` for gangs.
    unit: Vec<u32>,
    /// Least time from the finish of a task to the end.
    pub(crate) tail: Vec<f64>,
}

impl Trial {
    pub(crate) fn new(problem: &Problem, items: usize) -> Self {
        let single = |p: usize| match problem.units.row(p) {
            &[u] => u,
            _ => NONE,
        };
        let mut tail = vec![0.0f64; problem.task_count()];
        for &t in problem.topological.iter().rev() {
            for &x in problem.writes.row(t as usize) {
                for &r in problem.readers.row(x as usize) {
                    let through = problem.least_cost(r as usize) + tail[r as usize];
                    tail[t as usize] = tail[t as usize].max(through);
                }
            }
        }
        // Below any sum that an evaluation could round down to.
        tail.iter_mut().for_each(|t| *t *= 1.0 - 1.0 / (1u64 << 40) as f64);
        Self {
            dirty: vec![0; items],
            gone: vec![0; items],
            seen: vec![0; problem.tensor_count()],
            free: vec![0.0; problem.unit_count + problem.channel_count],
            unit: (0..problem.processor_count()).map(single).collect(),
            tail,
            ..Self::default()
        }
    }
}

impl Sequence<'_> {
    /// Tries a move.
    ///
    /// # Returns
    /// The makespan, or `None` as soon as it is certain to exceed `cutoff` or where a route is missing.
    /// [`keep`](Self::keep) (only after a makespan) or [`undo`](Self::undo) must follow.
    pub(crate) fn attempt(&mut self, change: Move<'_>, cutoff: f64) -> Option<f64> {
        self.prepare(change)?;
        self.pass(cutoff)
    }

    /// Applies the placement and finds the items that go and come.
    fn prepare(&mut self, change: Move<'_>) -> Option<()> {
        let problem = self.problem;
        let mut trial = std::mem::take(&mut self.trial);
        trial.stamp += 1;
        let stamp = trial.stamp;
        trial.touched.clear();
        trial.inserts.clear();
        trial.removed.clear();
        trial.finish_journal.clear();
        trial.to_journal.clear();
        trial.home_journal.clear();
        trial.moved_journal.clear();
        trial.low = self.order.len();
        let touch = |trial: &mut Trial, x: u32| {
            if trial.seen[x as usize] != stamp {
                trial.seen[x as usize] = stamp;
                trial.touched.push(x);
            }
        };
        for &(t, p) in change.reassign {
            let old = std::mem::replace(&mut self.to[t as usize], p);
            trial.to_journal.push((t, old));
            trial.dirty[t as usize] = stamp;
            trial.low = trial.low.min(self.position[t as usize] as usize);
            let (a, b) = (problem.memory_of[old as usize], problem.memory_of[p as usize]);
            if a != b {
                for &x in problem.writes.row(t as usize) {
                    trial.home_journal.push((x, a));
                    self.home[x as usize] = b;
                    touch(&mut trial, x);
                    for &r in problem.readers.row(x as usize) {
                        trial.dirty[r as usize] = stamp;
                    }
                }
                problem.reads.row(t as usize).iter().for_each(|&x| touch(&mut trial, x));
            }
        }
        if let Some((item, to)) = change.shift {
            trial.gone[item as usize] = stamp;
            trial.dirty[item as usize] = stamp;
            trial.removed.push(item);
            trial.inserts.push((to, 1, item));
            trial.low = trial.low.min(self.position[item as usize].min(to) as usize);
            if (item as usize) < self.tasks {
                problem.reads.row(item as usize).iter().for_each(|&x| touch(&mut trial, x));
                problem.writes.row(item as usize).iter().for_each(|&x| touch(&mut trial, x));
            }
        }
        let mut routed = true;
        for i in 0..trial.touched.len() {
            let x = trial.touched[i] as usize;
            routed &= self.reroute(&mut trial, x, change);
        }
        trial.inserts.sort_by_key(|&(position, rank, _)| (position, rank));
        self.trial = trial;
        routed.then_some(())
    }

    /// Lets the transfers of tensor `x` that are no longer needed go and those that are come.
    fn reroute(&mut self, trial: &mut Trial, x: usize, change: Move<'_>) -> bool {
        let problem = self.problem;
        let stamp = trial.stamp;
        let home = self.home[x] as usize;
        // Positions as pairs (position, rank): 1 for the shifted item, 3 for items that stay.
        let at = |task: u32| match change.shift {
            Some((item, to)) if item == task => (to, 1u8),
            _ => (self.position[task as usize], 3u8),
        };
        let mut required = 0u64;
        for &r in problem.readers.row(x) {
            required |= 1 << problem.memory_of[self.to[r as usize] as usize];
        }
        for &b in problem.needed.row(x) {
            required |= 1 << b;
        }
        required &= !(1 << home);
        let mut relayed = false;
        let mut open = required;
        while open != 0 {
            let b = open.trailing_zeros() as usize;
            open &= open - 1;
            match problem.routes.before(home, b) {
                None => return false,
                Some(a) if a != home => {
                    relayed = true;
                    if required >> a & 1 == 0 {
                        required |= 1 << a;
                        open |= 1 << a;
                    }
                }
                Some(_) => {}
            }
        }
        let old = self.moved[x];
        if old == 0 && required == 0 {
            return true;
        }
        trial.moved_journal.push((x as u32, old));
        self.moved[x] = required;
        let written = match problem.writer[x] {
            NONE => (0, 0),
            w => at(w),
        };
        // The first place behind the writer: before the next position, or right behind a shifted writer.
        let behind = match (problem.writer[x], written) {
            (NONE, _) => (0, 0),
            (_, (p, 1)) => (p, 2),
            (_, (p, _)) => (p + 1, 0),
        };
        let gone = |trial: &mut Trial, position: u32, item: usize| {
            if trial.gone[item] != stamp {
                trial.gone[item] = stamp;
                trial.removed.push(item as u32);
                trial.low = trial.low.min(position as usize);
            }
        };
        let mut all = old | required;
        let mut come: Vec<usize> = Vec::new();
        while all != 0 {
            let b = all.trailing_zeros() as usize;
            all &= all - 1;
            let item = self.transfer(x, b);
            let position = self.position[item];
            if required >> b & 1 == 0 {
                gone(trial, position, item);
                continue;
            }
            trial.dirty[item] = stamp;
            if relayed {
                if position != NONE {
                    gone(trial, position, item);
                }
                come.push(b);
                continue;
            }
            let mut first = (self.order.len() as u32, 0u8);
            for &r in problem.readers.row(x) {
                if problem.memory_of[self.to[r as usize] as usize] as usize == b {
                    first = first.min(at(r));
                }
            }
            if position != NONE && (position, 3) > written && (position, 3) < first {
                trial.low = trial.low.min(position as usize);
                continue;
            }
            if position != NONE {
                gone(trial, position, item);
            }
            let place = match change.eagerness {
                Eagerness::Eager => behind,
                Eagerness::Lazy => (first.0, 0).max(behind),
            };
            trial.low = trial.low.min(place.0 as usize);
            trial.inserts.push((place.0, place.1, item as u32));
        }
        // Relayed copies all go behind the writer, in the order of their hops.
        let mut left = come;
        let mut have = 1u64 << home;
        while let Some(i) = left.iter().position(|&b| have >> self.source(x, b) & 1 == 1) {
            let b = left.swap_remove(i);
            have |= 1 << b;
            trial.low = trial.low.min(behind.0 as usize);
            trial.inserts.push((behind.0, behind.1, self.transfer(x, b) as u32));
        }
        left.is_empty()
    }

    /// Passes over the sequence from the first change on.
    fn pass(&mut self, cutoff: f64) -> Option<f64> {
        let mut trial = std::mem::take(&mut self.trial);
        let low = trial.low;
        self.resources_before(&mut trial.free, low);
        trial.order.clear();
        let mut insert = 0;
        let mut within = true;
        'pass: for i in low..=self.order.len() {
            while insert < trial.inserts.len() && trial.inserts[insert].0 as usize == i {
                let item = trial.inserts[insert].2;
                insert += 1;
                trial.order.push(item);
                within = self.step(&mut trial, item as usize, cutoff);
                if !within {
                    break 'pass;
                }
            }
            let Some(&item) = self.order.get(i) else { break };
            if trial.gone[item as usize] == trial.stamp {
                continue;
            }
            trial.order.push(item);
            within = self.step(&mut trial, item as usize, cutoff);
            if !within {
                break;
            }
        }
        if within {
            trial.makespan = self.end(&trial.free);
        }
        let makespan = trial.makespan;
        self.trial = trial;
        (within && makespan <= cutoff).then_some(makespan)
    }

    /// Finish of the last item before `low` on every unit and channel.
    fn resources_before(&self, free: &mut [f64], low: usize) {
        let problem = self.problem;
        free.fill(-1.0);
        let mut open = free.len();
        for &item in self.order[..low].iter().rev() {
            if open == 0 {
                break;
            }
            let item = item as usize;
            let mut see = |r: usize| {
                if free[r] < 0.0 {
                    free[r] = self.finish[item];
                    open -= 1;
                }
            };
            if item < self.tasks {
                let p = self.to[item] as usize;
                if !self.instant_tasks || problem.cost(item, p) > 0.0 {
                    problem.units.row(p).iter().for_each(|&u| see(u as usize));
                }
            } else {
                let (x, m) = self.moves(item);
                let from = self.source(x, m);
                let channel = problem.routes.channel(from, m);
                if channel != NONE && problem.hop(x, from, m) > 0.0 {
                    see(problem.unit_count + channel as usize);
                }
            }
        }
        for f in free {
            *f = f.max(0.0);
        }
    }

    /// Computes an item where something that it depends on changed. False once the end must exceed `cutoff`.
    #[inline]
    fn step(&mut self, trial: &mut Trial, item: usize, cutoff: f64) -> bool {
        let problem = self.problem;
        let old = self.finish[item];
        let dirty = trial.dirty[item] == trial.stamp;
        if item < self.tasks {
            let p = self.to[item] as usize;
            let cost = problem.cost(item, p);
            let before = match trial.unit[p] {
                _ if cost == 0.0 => 0.0,
                NONE => problem.units.row(p).iter().map(|&u| trial.free[u as usize]).fold(0.0, f64::max),
                u => trial.free[u as usize],
            };
            if dirty || before != self.before[item] {
                let m = problem.memory_of(p);
                let mut start = before;
                for &x in problem.reads.row(item) {
                    start = start.max(self.arrival(x as usize, m));
                }
                let finish = start + cost;
                trial.finish_journal.push((item as u32, old, self.before[item]));
                self.before[item] = before;
                if finish != old {
                    self.finish[item] = finish;
                    if finish + trial.tail[item] > cutoff {
                        return false;
                    }
                    for &x in problem.writes.row(item) {
                        self.mark(trial, x as usize);
                    }
                }
            }
            if cost > 0.0 {
                let finish = self.finish[item];
                match trial.unit[p] {
                    NONE => problem.units.row(p).iter().for_each(|&u| trial.free[u as usize] = finish),
                    u => trial.free[u as usize] = finish,
                }
            }
        } else {
            let (x, m) = self.moves(item);
            let from = self.source(x, m);
            let channel = problem.routes.channel(from, m);
            let length = problem.hop(x, from, m);
            let queues = channel != NONE && length > 0.0;
            let r = problem.unit_count + channel as usize;
            let before = if queues { trial.free[r] } else { 0.0 };
            if dirty || before != self.before[item] {
                let finish = before.max(self.arrival(x, from)) + length;
                trial.finish_journal.push((item as u32, old, self.before[item]));
                self.before[item] = before;
                if finish != old {
                    self.finish[item] = finish;
                    if finish > cutoff {
                        return false;
                    }
                    self.mark(trial, x);
                }
            }
            if queues {
                trial.free[r] = self.finish[item];
            }
        }
        true
    }

    /// Marks the readers and the copies of a tensor.
    #[inline]
    fn mark(&self, trial: &mut Trial, x: usize) {
        for &r in self.problem.readers.row(x) {
            trial.dirty[r as usize] = trial.stamp;
        }
        let mut moved = self.moved[x];
        while moved != 0 {
            let b = moved.trailing_zeros() as usize;
            moved &= moved - 1;
            trial.dirty[self.transfer(x, b)] = trial.stamp;
        }
    }

    /// End of the last task or needed transfer.
    fn end(&self, free: &[f64]) -> f64 {
        let ends =
            if self.instant_tasks { &self.finish[..self.tasks] } else { &free[..self.problem.unit_count] };
        let mut end = ends.iter().copied().fold(0.0, f64::max);
        for &(x, b) in &self.needed {
            end = end.max(self.arrival(x as usize, b as usize));
        }
        end
    }

    /// Makes the move that was tried last the new sequence.
    pub(crate) fn keep(&mut self) {
        let trial = &self.trial;
        for &item in &trial.removed {
            self.position[item as usize] = NONE;
        }
        self.order.truncate(trial.low);
        self.order.extend_from_slice(&trial.order);
        for (i, &item) in self.order.iter().enumerate().skip(trial.low) {
            self.position[item as usize] = i as u32;
        }
        self.makespan = trial.makespan;
    }

    /// Takes the move that was tried last back.
    pub(crate) fn undo(&mut self) {
        let trial = &self.trial;
        for &(item, finish, before) in trial.finish_journal.iter().rev() {
            self.finish[item as usize] = finish;
            self.before[item as usize] = before;
        }
        for &(x, moved) in trial.moved_journal.iter().rev() {
            self.moved[x as usize] = moved;
        }
        for &(x, home) in trial.home_journal.iter().rev() {
            self.home[x as usize] = home;
        }
        for &(t, p) in trial.to_journal.iter().rev() {
            self.to[t as usize] = p;
        }
    }
}
