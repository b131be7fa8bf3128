//! A schedule as a sequence: every task and transfer once, in an order that respects all dependencies.
//!
//! Each item starts at the latest of the arrival of its inputs and the finish of the item before it on each of
//! its units, or on its channel. Every schedule that idles nowhere by choice is such a sequence, in the order of
//! its starts; so local search over sequences and processors loses no optimum of the makespan.
//!
//! Items are numbered: task `t` is `t`, the transfer of tensor `x` to memory `m` is `tasks + x · memories + m`.

use crate::Problem;
use crate::problem::NONE;
use crate::schedule::{Run, Schedule, Transfer};

/// An item: task or transfer.
pub(crate) type Item = u32;

/// A sequence with its times. Moves are tried and kept or undone by [`crate::incremental`].
#[derive(Debug, Clone)]
pub(crate) struct Sequence<'a> {
    pub(crate) problem: &'a Problem,
    pub(crate) tasks: usize,
    pub(crate) memories: usize,
    /// Processor of each task.
    pub(crate) to: Vec<u32>,
    /// The items in order.
    pub(crate) order: Vec<Item>,
    /// Position of each item, `NONE` for transfers that do not happen.
    pub(crate) position: Vec<u32>,
    /// Finish of each item.
    pub(crate) finish: Vec<f64>,
    /// When each item's units or channel came to it.
    pub(crate) before: Vec<f64>,
    /// First memory of each tensor.
    pub(crate) home: Vec<u32>,
    /// Memories to which each tensor is moved.
    pub(crate) moved: Vec<u64>,
    pub(crate) makespan: f64,
    /// Transfers that end the schedule: item numbers by tensor and memory in which it is needed.
    pub(crate) needed: Vec<(u32, u32)>,
    /// Whether some task may take no time, so that the units do not tell the end of all tasks.
    pub(crate) instant_tasks: bool,
    pub(crate) trial: crate::incremental::Trial,
}

impl<'a> Sequence<'a> {
    /// The sequence of a schedule, in the order of its starts.
    pub(crate) fn new(problem: &'a Problem, schedule: &Schedule) -> Self {
        let (n, m) = (problem.task_count(), problem.memory_count());
        let x = problem.tensor_count();
        let items = n + x * m;
        let to = schedule.processors();
        let home: Vec<u32> = (0..x).map(|i| problem.first_memory(i, |w| to[w] as usize) as u32).collect();
        let mut moved = vec![0u64; x];
        let mut moves_of: Vec<Vec<u32>> = vec![Vec::new(); x];
        let mut start = vec![0.0f64; items];
        for v in &schedule.transfers {
            moved[v.tensor as usize] |= 1 << v.to;
            moves_of[v.tensor as usize].push(v.to);
            start[n + v.tensor as usize * m + v.to as usize] = v.start;
        }
        for (t, run) in schedule.runs.iter().enumerate() {
            start[t] = run.start;
        }
        let mut order: Vec<Item> = Vec::with_capacity(n + schedule.transfers.len());
        let transfers = |order: &mut Vec<Item>, i: usize| {
            order.extend(moves_of[i].iter().map(|&b| (n + i * m) as u32 + b));
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
        let needed = (0..x).flat_map(|i| problem.needed.row(i).iter().map(move |&b| (i as u32, b)));
        let mut sequence = Self {
            problem,
            tasks: n,
            memories: m,
            to,
            order,
            position: vec![NONE; items],
            finish: vec![0.0; items],
            before: vec![0.0; items],
            home,
            moved,
            makespan: 0.0,
            needed: needed.collect(),
            instant_tasks: problem.cost.contains(&0.0),
            trial: crate::incremental::Trial::new(problem, items),
        };
        for (i, &item) in sequence.order.iter().enumerate() {
            sequence.position[item as usize] = i as u32;
        }
        sequence.makespan = sequence.evaluate().makespan;
        sequence
    }

    /// The item number of a transfer.
    #[inline]
    pub(crate) fn transfer(&self, tensor: usize, memory: usize) -> usize {
        self.tasks + tensor * self.memories + memory
    }

    /// Tensor and memory of a transfer.
    #[inline]
    pub(crate) fn moves(&self, item: usize) -> (usize, usize) {
        let at = item - self.tasks;
        (at / self.memories, at % self.memories)
    }

    /// The memory in which a task runs.
    #[inline]
    pub(crate) fn memory(&self, task: usize) -> usize {
        self.problem.memory_of(self.to[task] as usize)
    }

    /// When tensor `x` is in memory `m`.
    #[inline]
    pub(crate) fn arrival(&self, x: usize, m: usize) -> f64 {
        if self.home[x] as usize != m {
            return self.finish[self.transfer(x, m)];
        }
        match self.problem.writer[x] {
            NONE => 0.0,
            w => self.finish[w as usize],
        }
    }

    /// The memory from which tensor `x` is moved to `m`.
    #[inline]
    pub(crate) fn source(&self, x: usize, m: usize) -> usize {
        // A tensor is only ever moved along a route that exists.
        self.problem.routes.before(self.home[x] as usize, m).unwrap_or(m)
    }

    /// Evaluates the whole sequence from scratch, in place.
    ///
    /// # Returns
    /// The schedule; its times are those of [`Schedule::replay`] to the last bit.
    pub(crate) fn evaluate(&mut self) -> Schedule {
        let problem = self.problem;
        let mut free = vec![0.0f64; problem.unit_count];
        let mut queue = vec![0.0f64; problem.channel_count];
        let mut runs = vec![crate::partial::UNPLACED; self.tasks];
        let mut transfers = Vec::new();
        for i in 0..self.order.len() {
            let item = self.order[i] as usize;
            if item < self.tasks {
                let p = self.to[item] as usize;
                let (cost, m) = (problem.cost(item, p), problem.memory_of(p));
                let reads = problem.reads.row(item).iter();
                let ready = reads.map(|&x| self.arrival(x as usize, m)).fold(0.0, f64::max);
                let units = if cost > 0.0 { problem.units.row(p) } else { &[] };
                self.before[item] = units.iter().map(|&u| free[u as usize]).fold(0.0, f64::max);
                let start = ready.max(self.before[item]);
                self.finish[item] = start + cost;
                units.iter().for_each(|&u| free[u as usize] = self.finish[item]);
                runs[item] = Run { processor: p as u32, start, finish: self.finish[item] };
            } else {
                let (x, m) = self.moves(item);
                let from = self.source(x, m);
                let (length, channel) = (problem.hop(x, from, m), problem.routes.channel(from, m));
                let queues = channel != NONE && length > 0.0;
                self.before[item] = if queues { queue[channel as usize] } else { 0.0 };
                let start = self.arrival(x, from).max(self.before[item]);
                self.finish[item] = start + length;
                if queues {
                    queue[channel as usize] = self.finish[item];
                }
                let finish = self.finish[item];
                transfers.push(Transfer { tensor: x as u32, from: from as u32, to: m as u32, start, finish });
            }
        }
        Schedule::new(problem, runs, transfers)
    }

    /// The schedule of the sequence.
    pub(crate) fn schedule(&self) -> Schedule {
        self.clone().evaluate()
    }

    /// The schedule of another sequence of the same problem.
    pub(crate) fn restored(&mut self, to: Vec<u32>, order: Vec<Item>) -> Schedule {
        self.to = to;
        self.order = order;
        for x in 0..self.home.len() {
            self.home[x] = self.problem.first_memory(x, |w| self.to[w] as usize) as u32;
        }
        self.evaluate()
    }
}
