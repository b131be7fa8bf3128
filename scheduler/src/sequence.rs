//! A schedule as a sequence: every task and transfer once, in an order that respects all dependencies.
//!
//! Each item starts at the latest of the finish of the items that bring its inputs and the finish of the item
//! before it on each of its units, or on its channel. Every schedule that idles nowhere by choice is such a
//! sequence, in the order of its starts; so local search over sequences and processors loses no optimum of the
//! makespan.
//!
//! The copy of tensor `x` in memory `m` has slot `x · 2^shift + m`. Items are numbered: task `t` is `t`, the
//! transfer that fills a slot is `tasks + slot`, and one last item that finishes at 0 brings all inputs that are at
//! home.

use crate::Problem;
use crate::csr::Csr;
use crate::problem::NONE;
use crate::schedule::{Run, Schedule, Transfer};

/// An item: task or transfer.
pub(crate) type Item = u32;

/// The resource of a task on several units.
pub(crate) const GANG: u32 = NONE - 1;

/// What an item does with time, all that its evaluation needs beside its sources.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) length: f64,
    /// Least time from its finish to the end.
    pub(crate) tail: f64,
    /// Its single unit, or `units +` its channel; [`GANG`]; `NONE` for what occupies nothing.
    pub(crate) resource: u32,
    /// Its row of [`Sequence::sources`].
    pub(crate) first: u32,
    pub(crate) end: u32,
}

/// A sequence with its times. Moves are tried and kept or undone by [`crate::incremental`].
#[derive(Debug, Clone)]
pub(crate) struct Sequence<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) tasks: usize,
    pub(crate) shift: u32,
    /// Tensor → places in `sources` of its readers, in the order of `Problem::readers`.
    pub(crate) uses: Csr,
    /// Tensor → places in `sources` of the copies needed at the end, in the order of `Problem::needed`.
    pub(crate) last_uses: Csr,
    /// Whether some task may take no time, so that the units do not tell the end of all tasks.
    pub(crate) instant_tasks: bool,
    /// Processor of each task.
    pub(crate) to: Vec<u32>,
    /// Step of each item.
    pub(crate) steps: Vec<Step>,
    /// The items that bring what items read: rows of the tasks in the order of `Problem::reads`, one entry
    /// for each slot, and from `needed` on what the end waits for.
    pub(crate) sources: Vec<Item>,
    pub(crate) needed: usize,
    /// The items in order.
    pub(crate) order: Vec<Item>,
    /// Position of each item, `NONE` for transfers that do not happen.
    pub(crate) position: Vec<u32>,
    /// Finish of each item, and 0 for inputs.
    pub(crate) finish: Vec<f64>,
    /// The same before the move that is being tried.
    pub(crate) kept: Vec<f64>,
    /// First memory of each tensor.
    pub(crate) home: Vec<u32>,
    /// Memories to which each tensor is moved.
    pub(crate) moved: Vec<u64>,
    pub(crate) makespan: f64,
    pub(crate) trial: crate::incremental::Trial,
}

impl<'a> Sequence<'a> {
    /// The sequence of a schedule, in the order of its starts.
    pub(crate) fn new(problem: &'a Problem, schedule: &Schedule) -> Self {
        let (n, x) = (problem.task_count(), problem.tensor_count());
        let shift = problem.memory_count().max(1).next_power_of_two().trailing_zeros();
        let slots = x << shift;
        let (mut steps, mut uses, mut last_uses) = (Vec::with_capacity(n + slots), Vec::new(), Vec::new());
        let mut entries = 0;
        for (t, tail) in tails(problem).into_iter().enumerate() {
            let first = entries;
            for &x in problem.reads.row(t) {
                uses.push((x, entries));
                entries += 1;
            }
            steps.push(Step { length: 0.0, tail, resource: NONE, first, end: entries });
        }
        for _ in 0..slots {
            let first = entries;
            entries += 1;
            steps.push(Step { length: 0.0, tail: 0.0, resource: NONE, first, end: entries });
        }
        let needed = entries as usize;
        for i in 0..x {
            for _ in problem.needed.row(i) {
                last_uses.push((i as u32, entries));
                entries += 1;
            }
        }
        let input = n + slots;
        let mut sequence = Self {
            problem,
            tasks: n,
            shift,
            uses: Csr::from_pairs(x, &uses),
            last_uses: Csr::from_pairs(x, &last_uses),
            instant_tasks: problem.cost.contains(&0.0),
            to: Vec::new(),
            steps,
            sources: vec![input as u32; entries as usize],
            needed,
            order: Vec::new(),
            position: vec![NONE; n + slots],
            finish: vec![0.0; input + 1],
            kept: vec![0.0; input + 1],
            home: vec![0; x],
            moved: vec![0; x],
            makespan: 0.0,
            trial: crate::incremental::Trial::new(problem, n + slots),
        };
        sequence.load(schedule);
        sequence
    }

    /// Takes over a schedule of the same problem.
    pub(crate) fn load(&mut self, schedule: &Schedule) {
        let (problem, n) = (self.problem, self.tasks);
        let x = problem.tensor_count();
        let mut moves_of: Vec<Vec<u32>> = vec![Vec::new(); x];
        let mut start = vec![0.0f64; self.position.len()];
        for v in &schedule.transfers {
            moves_of[v.tensor as usize].push(v.to);
            start[self.transfer(v.tensor as usize, v.to as usize)] = v.start;
        }
        for (t, run) in schedule.runs.iter().enumerate() {
            start[t] = run.start;
        }
        let mut order: Vec<Item> = Vec::with_capacity(n + schedule.transfers.len());
        let transfers = |order: &mut Vec<Item>, i: usize| {
            order.extend(moves_of[i].iter().map(|&b| self.transfer(i, b as usize) as u32));
        };
        for i in (0..x).filter(|&i| problem.writer[i] == NONE) {
            transfers(&mut order, i);
        }
        for &t in &problem.topological {
            order.push(t);
            for &i in problem.writes.row(t as usize) {
                transfers(&mut order, i as usize);
            }
        }
        // Stable from a topological order: items of no length keep behind what they depend on.
        order.sort_by(|&a, &b| start[a as usize].total_cmp(&start[b as usize]));
        self.restore(&schedule.processors(), &order);
    }

    /// Takes over processors and an order that belong together.
    pub(crate) fn restore(&mut self, to: &[u32], order: &[Item]) {
        self.to.clear();
        self.to.extend_from_slice(to);
        self.order.clear();
        self.order.extend_from_slice(order);
        self.position.fill(NONE);
        self.moved.fill(0);
        for x in 0..self.home.len() {
            self.home[x] = self.problem.first_memory(x, |w| to[w] as usize) as u32;
        }
        for (t, &p) in to.iter().enumerate() {
            self.seat(t, p);
        }
        for i in 0..self.order.len() {
            let item = self.order[i] as usize;
            self.position[item] = i as u32;
            if item >= self.tasks {
                let (x, m) = self.moves(item);
                self.moved[x] |= 1 << m;
                let (step, source) = self.leg(x, m);
                self.sources[step.first as usize] = source;
                self.steps[item] = step;
            }
        }
        for x in 0..self.home.len() {
            for (&place, &r) in self.uses.row(x).iter().zip(self.problem.readers.row(x)) {
                self.sources[place as usize] = self.filler(x, self.memory(r as usize));
            }
            for (&place, &m) in self.last_uses.row(x).iter().zip(self.problem.needed.row(x)) {
                self.sources[place as usize] = self.filler(x, m as usize);
            }
        }
        self.recompute();
    }

    /// Sets what a processor means for a task.
    #[inline]
    pub(crate) fn seat(&mut self, task: usize, p: u32) {
        let p = p as usize;
        let step = &mut self.steps[task];
        step.length = self.problem.cost(task, p);
        step.resource = match self.problem.units.row(p) {
            _ if step.length == 0.0 => NONE,
            &[unit] => unit,
            _ => GANG,
        };
    }

    /// The item number of a transfer.
    #[inline]
    pub(crate) fn transfer(&self, tensor: usize, memory: usize) -> usize {
        self.tasks + (tensor << self.shift) + memory
    }

    /// Tensor and memory of a transfer.
    #[inline]
    pub(crate) fn moves(&self, item: usize) -> (usize, usize) {
        let slot = item - self.tasks;
        (slot >> self.shift, slot & ((1 << self.shift) - 1))
    }

    /// The memory in which a task runs.
    #[inline]
    pub(crate) fn memory(&self, task: usize) -> usize {
        self.problem.memory_of(self.to[task] as usize)
    }

    /// The memory from which tensor `x` is moved to `m`.
    #[inline]
    pub(crate) fn source(&self, x: usize, m: usize) -> usize {
        // A tensor is only ever moved along a route that exists.
        self.problem.routes.before(self.home[x] as usize, m).unwrap_or(m)
    }

    /// How tensor `x` gets to `m` from its present home, and the item that brings what is read.
    pub(crate) fn leg(&self, x: usize, m: usize) -> (Step, Item) {
        let from = self.source(x, m);
        let length = self.problem.hop(x, from, m);
        let channel = if length > 0.0 { self.problem.routes.channel(from, m) } else { NONE };
        let resource = if channel == NONE { NONE } else { self.problem.unit_count as u32 + channel };
        (Step { length, resource, ..self.steps[self.transfer(x, m)] }, self.filler(x, from))
    }

    /// The item that brings tensor `x` into `m`: a transfer, the writer, or the one for inputs at home.
    #[inline]
    pub(crate) fn filler(&self, x: usize, m: usize) -> Item {
        match self.problem.writer[x] {
            _ if self.home[x] as usize != m => self.transfer(x, m) as u32,
            NONE => self.position.len() as u32,
            writer => writer,
        }
    }

    /// The items that bring what an item reads.
    #[inline]
    pub(crate) fn sources_of(&self, item: usize) -> &[Item] {
        let Step { first, end, .. } = self.steps[item];
        &self.sources[first as usize..end as usize]
    }

    /// The schedule of the sequence, with all times computed afresh.
    pub(crate) fn schedule(&self) -> Schedule {
        self.schedule_of(self.order.iter())
    }

    /// The schedule of the move that was tried last.
    pub(crate) fn tried(&self) -> Schedule {
        let (before, changed, behind) = self.trial.order_in(&self.order);
        self.schedule_of(before.iter().chain(changed).chain(behind))
    }

    fn schedule_of<'o>(&self, order: impl Iterator<Item = &'o Item>) -> Schedule {
        let problem = self.problem;
        let mut free = vec![0.0f64; problem.unit_count];
        let mut queue = vec![0.0f64; problem.channel_count];
        let mut there = vec![0.0f64; self.position.len() - self.tasks];
        let mut runs = vec![crate::partial::UNPLACED; self.tasks];
        let mut transfers = Vec::new();
        for &item in order {
            let item = item as usize;
            if item < self.tasks {
                let p = self.to[item] as usize;
                let (cost, m) = (problem.cost(item, p), problem.memory_of(p));
                let slot = |&x: &u32| ((x as usize) << self.shift) + m;
                let reads = problem.reads.row(item).iter().map(slot);
                let mut start = reads.map(|slot| there[slot]).fold(0.0, f64::max);
                let units = if cost > 0.0 { problem.units.row(p) } else { &[] };
                start = units.iter().map(|&u| free[u as usize]).fold(start, f64::max);
                let finish = start + cost;
                for &u in units {
                    free[u as usize] = finish;
                }
                problem.writes.row(item).iter().map(slot).for_each(|slot| there[slot] = finish);
                runs[item] = Run { processor: p as u32, start, finish };
            } else {
                let (x, m) = self.moves(item);
                let from = self.source(x, m);
                let length = problem.hop(x, from, m);
                let channel = problem.routes.channel(from, m);
                let mut start = there[(x << self.shift) + from];
                if length > 0.0 && channel != NONE {
                    start = start.max(queue[channel as usize]);
                    queue[channel as usize] = start + length;
                }
                let finish = start + length;
                there[item - self.tasks] = finish;
                transfers.push(Transfer { tensor: x as u32, from: from as u32, to: m as u32, start, finish });
            }
        }
        Schedule::new(problem, runs, transfers)
    }
}

/// Least time from the finish of each task to the end: the longest path of least costs behind it.
fn tails(problem: &Problem) -> Vec<f64> {
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
    for t in &mut tail {
        *t *= 1.0 - 1.0 / (1u64 << 40) as f64;
    }
    tail
}
