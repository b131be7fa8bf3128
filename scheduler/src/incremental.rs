//! Moves on a sequence and their exact incremental evaluation.
//!
//! A move gives tasks other processors and may take one item to another position. The transfers that it makes
//! needless go, those that it makes necessary come, and only the part of the sequence behind the first change is
//! computed again, in one pass without searches. The times are the same `max` and `+` of the same operands as in a
//! full evaluation, so they are equal to the last bit. Overwritten values are journalled, so that a move that is
//! not kept costs its pass once more at most.
//!
//! # Complexity
//! O(items, reads and writes behind the first change).

use crate::Problem;
use crate::problem::NONE;
use crate::sequence::{Item, Leg, Sequence};

/// Where new transfers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eagerness {
    /// Right behind the item that makes the tensor available.
    Eager,
    /// Right before the first item that uses the copy.
    Lazy,
}

/// Ranks of what is put before one position, in the order in which it comes to lie.
const BEFORE: u8 = 0;
const SHIFTED: u8 = 1;
const AFTER: u8 = 2;
/// The item that has the position.
const STAYS: u8 = 3;

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
    /// Items that leave their position, and tensors seen in this trial, by stamp.
    gone: Vec<u32>,
    seen: Vec<u32>,
    touched: Vec<u32>,
    /// Items that come: position before which, rank there, item.
    inserts: Vec<(u32, u8, Item)>,
    removed: Vec<Item>,
    low: usize,
    /// The new order from `low` on.
    order: Vec<Item>,
    /// What the trial overwrote, latest last.
    slots: Vec<(u32, f64)>,
    finishes: Vec<(u32, f64)>,
    to: Vec<(u32, u32)>,
    home: Vec<(u32, u32)>,
    moved: Vec<(u32, u64)>,
    legs: Vec<(u32, Leg)>,
    /// Finish of the latest item on every unit, then on every channel.
    free: Vec<f64>,
    makespan: f64,
}

impl Trial {
    pub(crate) fn new(problem: &Problem, items: usize) -> Self {
        Self {
            gone: vec![0; items],
            seen: vec![0; problem.tensor_count()],
            free: vec![0.0; problem.unit_count + problem.channel_count],
            ..Self::default()
        }
    }

    /// Where the order of the trial departs from the sequence's, and how it goes on.
    pub(crate) fn tail_order(&self) -> (usize, &[Item]) {
        (self.low, &self.order)
    }

    /// Forgets the trial before.
    fn clear(&mut self, end: usize) {
        self.stamp += 1;
        self.touched.clear();
        self.inserts.clear();
        self.removed.clear();
        self.slots.clear();
        self.finishes.clear();
        self.to.clear();
        self.home.clear();
        self.moved.clear();
        self.legs.clear();
        self.low = end;
    }

    fn touch(&mut self, x: u32) {
        if self.seen[x as usize] != self.stamp {
            self.seen[x as usize] = self.stamp;
            self.touched.push(x);
        }
    }

    /// Takes an item out of its position.
    fn leave(&mut self, item: usize, position: u32) {
        if self.gone[item] != self.stamp {
            self.gone[item] = self.stamp;
            self.removed.push(item as u32);
            self.low = self.low.min(position as usize);
        }
    }

    /// Puts an item before a position.
    fn come(&mut self, item: usize, (position, rank): (u32, u8)) {
        self.low = self.low.min(position as usize);
        self.inserts.push((position, rank, item as u32));
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
        trial.clear(self.order.len());
        for &(t, p) in change.reassign {
            let old = std::mem::replace(&mut self.to[t as usize], p);
            trial.to.push((t, old));
            self.seats[t as usize] = self.seat(t as usize, p);
            trial.low = trial.low.min(self.position[t as usize] as usize);
            let (a, b) = (problem.memory_of[old as usize], problem.memory_of[p as usize]);
            if a != b {
                for &x in problem.writes.row(t as usize) {
                    trial.home.push((x, a));
                    self.home[x as usize] = b;
                    trial.touch(x);
                }
                problem.reads.row(t as usize).iter().for_each(|&x| trial.touch(x));
            }
        }
        if let Some((item, to)) = change.shift {
            trial.leave(item as usize, self.position[item as usize]);
            trial.come(item as usize, (to, SHIFTED));
            if (item as usize) < self.tasks {
                problem.reads.row(item as usize).iter().for_each(|&x| trial.touch(x));
                problem.writes.row(item as usize).iter().for_each(|&x| trial.touch(x));
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

    /// Memories to which tensor `x` must be moved, and whether some only by relay. `None` without a route.
    fn required(&self, x: usize) -> Option<(u64, bool)> {
        let problem = self.problem;
        let home = self.home[x] as usize;
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
            let a = problem.routes.before(home, b)?;
            if a != home {
                relayed = true;
                open |= (1 << a) & !required;
                required |= 1 << a;
            }
        }
        Some((required, relayed))
    }

    /// Lets the transfers of tensor `x` that are no longer needed go and those that are come.
    fn reroute(&mut self, trial: &mut Trial, x: usize, change: Move<'_>) -> bool {
        let problem = self.problem;
        let Some((required, relayed)) = self.required(x) else { return false };
        let old = self.moved[x];
        if old == 0 && required == 0 {
            return true;
        }
        trial.moved.push((x as u32, old));
        self.moved[x] = required;
        // Where a task will be: before a position, with a rank among all that is put there.
        let at = |task: u32| match change.shift {
            Some((item, to)) if item == task => (to, SHIFTED),
            _ => (self.position[task as usize], STAYS),
        };
        // The writer's place, and the first place behind it.
        let (written, behind) = match problem.writer[x] {
            NONE => ((0, BEFORE), (0, BEFORE)),
            w => match at(w) {
                (p, SHIFTED) => ((p, SHIFTED), (p, AFTER)),
                (p, rank) => ((p, rank), (p + 1, BEFORE)),
            },
        };
        let mut all = old | required;
        let mut relays = 0u64;
        while all != 0 {
            let b = all.trailing_zeros() as usize;
            all &= all - 1;
            let item = self.transfer(x, b);
            let position = self.position[item];
            if required >> b & 1 == 0 {
                trial.leave(item, position);
                continue;
            }
            let leg = self.leg(x, b);
            let known = std::mem::replace(&mut self.legs[item - self.tasks], leg);
            trial.legs.push(((item - self.tasks) as u32, known));
            if relayed {
                if position != NONE {
                    trial.leave(item, position);
                }
                relays |= 1 << b;
                continue;
            }
            let mut first = (self.order.len() as u32, BEFORE);
            for &r in problem.readers.row(x) {
                if problem.memory_of[self.to[r as usize] as usize] as usize == b {
                    first = first.min(at(r));
                }
            }
            if position != NONE {
                if (position, STAYS) > written && (position, STAYS) < first {
                    // Its length or source may be new.
                    trial.low = trial.low.min(position as usize);
                    continue;
                }
                trial.leave(item, position);
            }
            let place = match change.eagerness {
                Eagerness::Eager => behind,
                Eagerness::Lazy => (first.0, BEFORE).max(behind),
            };
            trial.come(item, place);
        }
        // Relayed copies all go behind the writer, in the order of their hops.
        let mut have = 1u64 << self.home[x];
        while relays != 0 {
            let ready = |b: &usize| relays >> b & 1 == 1 && have >> self.source(x, *b) & 1 == 1;
            let Some(b) = (0..problem.memory_count()).find(ready) else { return false };
            relays &= !(1 << b);
            have |= 1 << b;
            trial.come(self.transfer(x, b), behind);
        }
        true
    }

    /// Computes all times of the present sequence.
    pub(crate) fn recompute(&mut self) {
        self.trial.clear(0);
        self.pass(f64::INFINITY);
        self.makespan = self.trial.makespan;
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
            let mut see = |r: usize, finish: f64| {
                if free[r] < 0.0 {
                    free[r] = finish;
                    open -= 1;
                }
            };
            if item >= self.tasks {
                let slot = item - self.tasks;
                let channel = self.legs[slot].channel;
                if channel != NONE {
                    see(problem.unit_count + channel as usize, self.there[slot]);
                }
                continue;
            }
            let p = self.to[item] as usize;
            if !self.instant_tasks || problem.cost(item, p) > 0.0 {
                problem.units.row(p).iter().for_each(|&u| see(u as usize, self.finish[item]));
            }
        }
        for f in free {
            *f = f.max(0.0);
        }
    }

    /// Computes an item. False once the end must exceed `cutoff`.
    #[inline]
    fn step(&mut self, trial: &mut Trial, item: usize, cutoff: f64) -> bool {
        if item >= self.tasks {
            let slot = item - self.tasks;
            let leg = self.legs[slot];
            let mut finish = self.there[leg.source as usize];
            if leg.channel == NONE {
                finish += leg.length;
            } else {
                let free = &mut trial.free[self.problem.unit_count + leg.channel as usize];
                finish = finish.max(*free) + leg.length;
                *free = finish;
            }
            trial.slots.push((slot as u32, self.there[slot]));
            self.there[slot] = finish;
            return finish <= cutoff;
        }
        let seat = self.seats[item];
        let m = seat.memory as usize;
        let mut start = 0.0f64;
        for &x in self.reads.row(item) {
            start = start.max(self.there[x as usize + m]);
        }
        let finish;
        if seat.cost == 0.0 {
            finish = start;
        } else if seat.unit == NONE {
            let units = self.problem.units.row(self.to[item] as usize);
            finish = units.iter().fold(start, |s, &u| s.max(trial.free[u as usize])) + seat.cost;
            for &u in units {
                trial.free[u as usize] = finish;
            }
        } else {
            let free = &mut trial.free[seat.unit as usize];
            finish = start.max(*free) + seat.cost;
            *free = finish;
        }
        trial.finishes.push((item as u32, self.finish[item]));
        self.finish[item] = finish;
        for &x in self.writes.row(item) {
            let slot = x as usize + m;
            trial.slots.push((slot as u32, self.there[slot]));
            self.there[slot] = finish;
        }
        finish + self.tail[item] <= cutoff
    }

    /// End of the last task or needed transfer.
    fn end(&self, free: &[f64]) -> f64 {
        let ends = if self.instant_tasks { &self.finish[..] } else { &free[..self.problem.unit_count] };
        let end = ends.iter().copied().fold(0.0, f64::max);
        self.needed.iter().map(|&slot| self.there[slot as usize]).fold(end, f64::max)
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
        let trial = std::mem::take(&mut self.trial);
        for &(slot, there) in trial.slots.iter().rev() {
            self.there[slot as usize] = there;
        }
        for &(t, finish) in trial.finishes.iter().rev() {
            self.finish[t as usize] = finish;
        }
        for &(slot, leg) in trial.legs.iter().rev() {
            self.legs[slot as usize] = leg;
        }
        for &(x, moved) in trial.moved.iter().rev() {
            self.moved[x as usize] = moved;
        }
        for &(x, home) in trial.home.iter().rev() {
            self.home[x as usize] = home;
        }
        for &(t, p) in trial.to.iter().rev() {
            self.to[t as usize] = p;
            self.seats[t as usize] = self.seat(t as usize, p);
        }
        self.trial = trial;
    }
}
