//! A schedule as a sequence: every task and transfer once, in an order that respects all dependencies.
//!
//! Each item starts at the latest of the arrival of its inputs and the finish of the item before it on each of
//! its units, or on its channel. Every schedule that idles nowhere by choice is such a sequence, in the order of
//! its starts; so local search over sequences and processors loses no optimum of the makespan.
//!
//! The copy of tensor `x` in memory `m` has slot `x · 2^shift + m`, which holds its arrival. Items are numbered:
//! task `t` is `t`, the transfer that fills a slot is `tasks + slot`.

use crate::Problem;
use crate::csr::Csr;
use crate::problem::NONE;
use crate::schedule::{Run, Schedule, Transfer};

/// An item: task or transfer.
pub(crate) type Item = u32;

/// How a slot is filled by a transfer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Leg {
    /// The slot of the copy that is read.
    pub(crate) source: u32,
    /// The channel, `NONE` where the transfer does not queue.
    pub(crate) channel: u32,
    pub(crate) length: f64,
}

/// What a task's processor means for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seat {
    pub(crate) cost: f64,
    /// Its single unit, `NONE` for gangs.
    pub(crate) unit: u32,
    pub(crate) memory: u32,
}

/// A sequence with its times. Moves are tried and kept or undone by [`crate::incremental`].
#[derive(Debug, Clone)]
pub(crate) struct Sequence<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) tasks: usize,
    pub(crate) shift: u32,
    /// Task → first slots of the tensors that it reads and writes.
    pub(crate) reads: Csr,
    pub(crate) writes: Csr,
    /// Single unit of each processor, `NONE` for gangs.
    pub(crate) unit: Vec<u32>,
    /// Least time from the finish of each task to the end.
    pub(crate) tail: Vec<f64>,
    /// Slots in which a tensor is needed at the end.
    pub(crate) needed: Vec<u32>,
    /// Whether some task may take no time, so that the units do not tell the end of all tasks.
    pub(crate) instant_tasks: bool,
    /// Processor of each task.
    pub(crate) to: Vec<u32>,
    /// The same, in what the evaluation needs.
    pub(crate) seats: Vec<Seat>,
    /// The items in order.
    pub(crate) order: Vec<Item>,
    /// Position of each item, `NONE` for transfers that do not happen.
    pub(crate) position: Vec<u32>,
    /// Finish of each task.
    pub(crate) finish: Vec<f64>,
    /// Arrival in each slot that is filled.
    pub(crate) there: Vec<f64>,
    /// How each slot is filled, where it is by a transfer.
    pub(crate) legs: Vec<Leg>,
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
        let none = Leg { source: NONE, channel: NONE, length: 0.0 };
        let single = |p: usize| match problem.units.row(p) {
            &[u] => u,
            _ => NONE,
        };
        let scaled = |csr: &Csr| {
            let pairs: Vec<(u32, u32)> =
                (0..n).flat_map(|t| csr.row(t).iter().map(move |&x| (t as u32, x << shift))).collect();
            Csr::from_pairs(n, &pairs)
        };
        let needed =
            (0..x).flat_map(|i| problem.needed.row(i).iter().map(move |&b| ((i as u32) << shift) + b));
        let mut sequence = Self {
            problem,
            tasks: n,
            shift,
            reads: scaled(&problem.reads),
            writes: scaled(&problem.writes),
            unit: (0..problem.processor_count()).map(single).collect(),
            tail: tails(problem),
            needed: needed.collect(),
            instant_tasks: problem.cost.contains(&0.0),
            to: Vec::new(),
            seats: Vec::new(),
            order: Vec::new(),
            position: vec![NONE; n + slots],
            finish: vec![0.0; n],
            there: vec![0.0; slots],
            legs: vec![none; slots],
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
        let seats = to.iter().enumerate().map(|(t, &p)| self.seat(t, p)).collect();
        self.seats = seats;
        self.order.clear();
        self.order.extend_from_slice(order);
        self.position.fill(NONE);
        self.moved.fill(0);
        for x in 0..self.home.len() {
            self.home[x] = self.problem.first_memory(x, |w| to[w] as usize) as u32;
            if self.problem.writer[x] == NONE {
                self.there[(x << self.shift) + self.home[x] as usize] = 0.0;
            }
        }
        for i in 0..self.order.len() {
            let item = self.order[i] as usize;
            self.position[item] = i as u32;
            if item >= self.tasks {
                let (x, m) = self.moves(item);
                self.moved[x] |= 1 << m;
                self.legs[item - self.tasks] = self.leg(x, m);
            }
        }
        self.recompute();
    }

    /// What a processor means for a task.
    #[inline]
    pub(crate) fn seat(&self, task: usize, p: u32) -> Seat {
        let p = p as usize;
        Seat { cost: self.problem.cost(task, p), unit: self.unit[p], memory: self.problem.memory_of[p] }
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

    /// How tensor `x` gets to `m` from its present home.
    pub(crate) fn leg(&self, x: usize, m: usize) -> Leg {
        let from = self.source(x, m);
        let length = self.problem.hop(x, from, m);
        let channel = if length > 0.0 { self.problem.routes.channel(from, m) } else { NONE };
        Leg { source: ((x << self.shift) + from) as u32, channel, length }
    }

    /// The item that fills a slot: a transfer, the writer, or none for an input at home.
    pub(crate) fn filler(&self, slot: usize) -> Option<usize> {
        let (x, m) = (slot >> self.shift, slot & ((1 << self.shift) - 1));
        if self.home[x] as usize != m {
            return Some(self.tasks + slot);
        }
        (self.problem.writer[x] != NONE).then(|| self.problem.writer[x] as usize)
    }

    /// The schedule of the sequence, with all times computed afresh.
    pub(crate) fn schedule(&self) -> Schedule {
        self.schedule_of(self.order.iter())
    }

    /// The schedule of the move that was tried last.
    pub(crate) fn tried(&self) -> Schedule {
        let (low, rest) = self.trial.tail_order();
        self.schedule_of(self.order[..low].iter().chain(rest))
    }

    fn schedule_of<'o>(&self, order: impl Iterator<Item = &'o Item>) -> Schedule {
        let problem = self.problem;
        let mut free = vec![0.0f64; problem.unit_count];
        let mut queue = vec![0.0f64; problem.channel_count];
        let mut there = vec![0.0f64; self.there.len()];
        let mut runs = vec![crate::partial::UNPLACED; self.tasks];
        let mut transfers = Vec::new();
        for &item in order {
            let item = item as usize;
            if item < self.tasks {
                let p = self.to[item] as usize;
                let (cost, m) = (problem.cost(item, p), problem.memory_of(p));
                let mut start =
                    self.reads.row(item).iter().map(|&x| there[x as usize + m]).fold(0.0, f64::max);
                let units = if cost > 0.0 { problem.units.row(p) } else { &[] };
                start = units.iter().map(|&u| free[u as usize]).fold(start, f64::max);
                let finish = start + cost;
                for &u in units {
                    free[u as usize] = finish;
                }
                self.writes.row(item).iter().for_each(|&x| there[x as usize + m] = finish);
                runs[item] = Run { processor: p as u32, start, finish };
            } else {
                let (x, m) = self.moves(item);
                let leg = self.leg(x, m);
                let mut start = there[leg.source as usize];
                if leg.channel != NONE {
                    start = start.max(queue[leg.channel as usize]);
                    queue[leg.channel as usize] = start + leg.length;
                }
                let finish = start + leg.length;
                there[item - self.tasks] = finish;
                let from = self.source(x, m) as u32;
                transfers.push(Transfer { tensor: x as u32, from, to: m as u32, start, finish });
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
