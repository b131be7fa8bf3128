//! Moves on a sequence and their exact incremental evaluation.
//!
//! A move gives tasks other processors and may take one item to another position. The transfers that it makes
//! needless go, those that it makes necessary come, and only the part of the sequence behind the first change is
//! computed again, in one pass ([`crate::evaluation`]). What a move overwrites of the sequence is journalled, so that
//! it can be undone.
//!
//! # Complexity
//! O(items, reads and writes behind the first change).

use crate::Problem;
use crate::problem::NONE;
use crate::sequence::{Item, Sequence, Step};

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
    pub(crate) stamp: u32,
    /// Items that leave their position, and tensors seen in this trial, by stamp.
    pub(crate) gone: Vec<u32>,
    seen: Vec<u32>,
    touched: Vec<u32>,
    /// Items that come: position before which, rank there, item.
    pub(crate) inserts: Vec<(u32, u8, Item)>,
    removed: Vec<Item>,
    /// The present order holds before `low`, and again from `high` on.
    pub(crate) low: usize,
    pub(crate) high: usize,
    /// The new order between them, as far as it was evaluated.
    pub(crate) order: Vec<Item>,
    /// Where the evaluation ended in the present order, from `high` on.
    pub(crate) stop: usize,
    /// What the trial overwrote, latest last.
    to: Vec<(u32, u32)>,
    home: Vec<(u32, u32)>,
    moved: Vec<(u32, u64)>,
    steps: Vec<(u32, Step)>,
    sources: Vec<(u32, Item)>,
    /// Finish of the latest item on every unit, then on every channel.
    pub(crate) free: Vec<f64>,
    pub(crate) makespan: f64,
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

    /// The order of the trial in three parts, of which it shares the first and the last with the present `order`.
    pub(crate) fn order_in<'o>(&'o self, order: &'o [Item]) -> (&'o [Item], &'o [Item], &'o [Item]) {
        (&order[..self.low], &self.order, &order[self.high..])
    }

    /// Forgets the trial before.
    pub(crate) fn clear(&mut self, end: usize) {
        self.stamp += 1;
        self.order.clear();
        self.stop = 0;
        self.touched.clear();
        self.inserts.clear();
        self.removed.clear();
        self.to.clear();
        self.home.clear();
        self.moved.clear();
        self.steps.clear();
        self.sources.clear();
        (self.low, self.high) = (end, 0);
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
            self.high = self.high.max(position as usize + 1);
        }
    }

    /// Puts an item before a position.
    fn come(&mut self, item: usize, (position, rank): (u32, u8)) {
        self.low = self.low.min(position as usize);
        self.high = self.high.max(position as usize);
        self.inserts.push((position, rank, item as u32));
    }

    /// Sets one entry of the sources.
    #[inline]
    fn redirect(&mut self, sources: &mut [Item], place: u32, source: Item) {
        let known = std::mem::replace(&mut sources[place as usize], source);
        if known != source {
            self.sources.push((place, known));
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
        trial.clear(self.order.len());
        for &(t, p) in change.reassign {
            let old = std::mem::replace(&mut self.to[t as usize], p);
            trial.to.push((t, old));
            self.seat(t as usize, p);
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
        self.redirect_uses(trial, x);
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
            let (step, source) = self.leg(x, b);
            let known = std::mem::replace(&mut self.steps[item], step);
            trial.steps.push((item as u32, known));
            trial.redirect(&mut self.sources, step.first, source);
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

    /// Sets the sources of all that uses tensor `x`.
    fn redirect_uses(&mut self, trial: &mut Trial, x: usize) {
        let problem = self.problem;
        for (i, &r) in problem.readers.row(x).iter().enumerate() {
            let source = self.filler(x, self.memory(r as usize));
            trial.redirect(&mut self.sources, self.uses.row(x)[i], source);
        }
        for (i, &m) in problem.needed.row(x).iter().enumerate() {
            let source = self.filler(x, m as usize);
            trial.redirect(&mut self.sources, self.last_uses.row(x)[i], source);
        }
    }

    /// Makes the move that was tried last the new sequence.
    pub(crate) fn keep(&mut self) {
        let Trial { low, high, order, removed, .. } = &mut self.trial;
        for &item in &*removed {
            self.position[item as usize] = NONE;
        }
        order.extend_from_slice(&self.order[*high..]);
        self.order.truncate(*low);
        self.order.extend_from_slice(order);
        for (i, &item) in self.order.iter().enumerate().skip(*low) {
            self.position[item as usize] = i as u32;
            self.kept[item as usize] = self.finish[item as usize];
        }
        self.makespan = self.trial.makespan;
    }

    /// Takes the move that was tried last back.
    pub(crate) fn undo(&mut self) {
        let trial = std::mem::take(&mut self.trial);
        for &item in trial.order.iter().chain(&self.order[trial.high..trial.stop.max(trial.high)]) {
            self.finish[item as usize] = self.kept[item as usize];
        }
        for &(place, source) in trial.sources.iter().rev() {
            self.sources[place as usize] = source;
        }
        for &(item, step) in trial.steps.iter().rev() {
            self.steps[item as usize] = step;
        }
        for &(x, moved) in trial.moved.iter().rev() {
            self.moved[x as usize] = moved;
        }
        for &(x, home) in trial.home.iter().rev() {
            self.home[x as usize] = home;
        }
        for &(t, p) in trial.to.iter().rev() {
            self.to[t as usize] = p;
            self.seat(t as usize, p);
        }
        self.trial = trial;
    }
}
