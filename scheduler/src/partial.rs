//! A schedule under construction: list scheduling by insertion, with or without queues on the channels.
//!
//! `EST(t, p) = max over reads x of arrival(x, memory(p))`, moved to the first gap of every unit of `p` that
//! holds the task; `EFT = EST + cost`. With [`Channels::Queue`] a transfer is itself put into the first gap of
//! its channel that holds it (Sinnen and Sousa, "Communication contention in task scheduling", IEEE TPDS 2005);
//! with [`Channels::Free`] it starts as soon as its tensor is there, as in the classic algorithms.

use crate::peak::peak_of;
use crate::problem::{NONE, Problem};
use crate::schedule::{Run, Schedule, Transfer};
use crate::timeline::Timeline;

/// Whether transfers queue for their channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channels {
    /// Transfers take their time and never wait for each other.
    Free,
    /// Transfers on one channel never overlap.
    Queue,
}

/// Whether capacities restrict placements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Memories may overflow.
    Nothing,
    /// They may not.
    Capacities,
}

/// What placing a task on a processor would give.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) processor: usize,
    pub(crate) finish: f64,
    /// When the task and the transfers of its outputs to where they are needed would be done.
    pub(crate) complete: f64,
}

/// Tasks placed so far, with the free time of every unit and channel.
#[derive(Debug, Clone)]
pub(crate) struct Partial<'a> {
    pub(crate) problem: &'a Problem,
    channels: Channels,
    units: Vec<Timeline>,
    queues: Vec<Timeline>,
    /// `arrival[tensor · memories + memory]`, `+∞` while the tensor is not there.
    arrival: Vec<f64>,
    pub(crate) runs: Vec<Run>,
    pub(crate) transfers: Vec<Transfer>,
    /// Memories that may not overflow.
    watched: Vec<usize>,
    last: f64,
    /// Transfers tried for one candidate.
    tried: Vec<Transfer>,
    hops: Vec<usize>,
    inputs: Vec<(f64, u32)>,
}

/// A task that is not placed.
pub(crate) const UNPLACED: Run = Run { processor: NONE, start: f64::NAN, finish: f64::INFINITY };

impl<'a> Partial<'a> {
    pub(crate) fn new(problem: &'a Problem, channels: Channels) -> Self {
        let m = problem.memory_count();
        let mut arrival = vec![f64::INFINITY; problem.tensor_count() * m];
        for x in 0..problem.tensor_count() {
            if problem.writer[x] == NONE {
                arrival[x * m + problem.home[x] as usize] = 0.0;
            }
        }
        Self {
            problem,
            channels,
            units: vec![Timeline::new(); problem.unit_count],
            queues: vec![Timeline::new(); problem.channel_count],
            arrival,
            runs: vec![UNPLACED; problem.task_count()],
            transfers: Vec::new(),
            watched: Vec::new(),
            last: 0.0,
            tried: Vec::new(),
            hops: Vec::new(),
            inputs: Vec::new(),
        }
    }

    /// From now on no placement is taken that would overflow a memory, where what unplaced tasks may read is
    /// counted as staying. Costs O((tasks + tensors) · log) per candidate where a memory may overflow at all.
    pub(crate) fn watching(mut self, memories: Watch) -> Self {
        if memories == Watch::Capacities {
            self.watched =
                (0..self.problem.memory_count()).filter(|&m| self.problem.memory_may_bind(m)).collect();
        }
        self
    }

    /// Whether every watched memory holds what is placed.
    fn fits(&self) -> bool {
        self.watched.iter().all(|&m| {
            let peak = peak_of(self.problem, &self.runs, &self.transfers, self.last, m);
            self.problem.capacity[m].is_none_or(|c| peak <= c)
        })
    }

    pub(crate) fn is_placed(&self, task: usize) -> bool {
        self.runs[task].processor != NONE
    }

    /// The first memory of a tensor, once its writer is placed.
    fn first_memory(&self, x: usize) -> usize {
        self.problem.first_memory(x, |w| self.runs[w].processor as usize)
    }

    /// When tensor `x`, which is first in `home` from `there` on, can be in `m`. The transfers for it are
    /// appended to `tried`.
    fn bring(&mut self, x: usize, home: usize, there: f64, m: usize) -> f64 {
        let width = self.problem.memory_count();
        self.hops.clear();
        let mut at = m;
        let mut now = loop {
            if at == home {
                break there;
            }
            let seen = self.arrival[x * width + at];
            if seen < f64::INFINITY {
                break seen;
            }
            if let Some(t) = self.tried.iter().find(|t| t.tensor as usize == x && t.to as usize == at) {
                break t.finish;
            }
            self.hops.push(at);
            match self.problem.routes.before(home, at) {
                Some(before) => at = before,
                None => return f64::INFINITY,
            }
        };
        while let Some(to) = self.hops.pop() {
            let length = self.problem.hop(x, at, to);
            let channel = self.problem.routes.channel(at, to);
            let mut start = now;
            if self.channels == Channels::Queue && channel != NONE && length > 0.0 {
                start = self.queue(channel, start, length);
            }
            now = start + length;
            self.tried.push(Transfer {
                tensor: x as u32,
                from: at as u32,
                to: to as u32,
                start,
                finish: now,
            });
            at = to;
        }
        now
    }

    /// The first gap of a channel beside the transfers already tried for this candidate.
    fn queue(&self, channel: u32, ready: f64, length: f64) -> f64 {
        let timeline = &self.queues[channel as usize];
        let mut start = timeline.earliest(ready, length);
        loop {
            let clash = self.tried.iter().find(|t| {
                t.start < start + length
                    && start < t.finish
                    && self.problem.routes.channel(t.from as usize, t.to as usize) == channel
            });
            match clash {
                Some(t) => start = timeline.earliest(t.finish, length),
                None => return start,
            }
        }
    }

    /// When every placed input of `task` can be in memory `m`; inputs whose writer is not placed are passed
    /// over. Leaves the transfers in `tried`.
    fn inputs_ready(&mut self, task: usize, m: usize) -> f64 {
        self.tried.clear();
        let width = self.problem.memory_count();
        let mut inputs = std::mem::take(&mut self.inputs);
        inputs.clear();
        let mut ready = 0.0f64;
        for &x in self.problem.reads.row(task) {
            let w = self.problem.writer[x as usize];
            if w != NONE && !self.is_placed(w as usize) {
                continue;
            }
            let here = self.arrival[x as usize * width + m];
            if here < f64::INFINITY {
                ready = ready.max(here);
            } else {
                let home = self.first_memory(x as usize);
                inputs.push((self.arrival[x as usize * width + home], x));
            }
        }
        // Those that are there first move first; by index where they tie.
        inputs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for &(there, x) in &inputs {
            let home = self.first_memory(x as usize);
            ready = ready.max(self.bring(x as usize, home, there, m));
        }
        self.inputs = inputs;
        ready
    }

    /// First start `≥ ready` at which every unit of `p` is free for `length`.
    fn first_gap(&self, p: usize, ready: f64, length: f64) -> f64 {
        if length == 0.0 || ready == f64::INFINITY {
            return ready;
        }
        let units = self.problem.units.row(p);
        let mut start = ready;
        loop {
            let next = units.iter().fold(start, |s, &u| self.units[u as usize].earliest(s, length));
            if next == start || units.len() == 1 {
                return next;
            }
            start = next;
        }
    }

    /// When the outputs of `task`, finished at `finish` in memory `m`, can be where they are needed.
    fn outputs_there(&mut self, task: usize, m: usize, finish: f64) -> f64 {
        let problem = self.problem;
        let mut complete = finish;
        for &x in problem.writes.row(task) {
            for &b in problem.needed.row(x as usize) {
                complete = complete.max(self.bring(x as usize, m, finish, b as usize));
            }
        }
        complete
    }

    /// What each processor of memory `m` would give for `task`; those that cannot run it, or would overflow a
    /// watched memory, are left out.
    pub(crate) fn candidates(&mut self, task: usize, m: usize, mut each: impl FnMut(Candidate)) {
        if self.watched.is_empty() {
            return self.all_candidates(task, m, each);
        }
        let mut found = Vec::new();
        self.all_candidates(task, m, |c| found.push(c));
        for c in found {
            let mark = self.transfers.len();
            if self.place(task, c.processor).is_some() {
                self.unplace(task, mark);
                each(c);
            }
        }
    }

    fn all_candidates(&mut self, task: usize, m: usize, mut each: impl FnMut(Candidate)) {
        let problem = self.problem;
        if problem.lanes.row(m).iter().all(|&p| problem.cost(task, p as usize) == f64::INFINITY) {
            return;
        }
        let ready = self.inputs_ready(task, m);
        if ready == f64::INFINITY {
            return;
        }
        let mark = self.tried.len();
        let outputs = problem.writes.row(task).iter().any(|&x| !problem.needed.row(x as usize).is_empty());
        for &p in problem.lanes.row(m) {
            let p = p as usize;
            let cost = problem.cost(task, p);
            if cost == f64::INFINITY {
                continue;
            }
            let start = self.first_gap(p, ready, cost);
            let finish = start + cost;
            let complete = if outputs { self.outputs_there(task, m, finish) } else { finish };
            self.tried.truncate(mark);
            each(Candidate { processor: p, finish, complete });
        }
    }

    /// The processor with the least completion, the first of equals. `None` where no processor can be reached.
    pub(crate) fn best(&mut self, task: usize) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        for m in 0..self.problem.memory_count() {
            self.candidates(task, m, |c| {
                let better =
                    |b: &Candidate| (c.complete, c.finish, c.processor) < (b.complete, b.finish, b.processor);
                if best.as_ref().is_none_or(better) {
                    best = Some(c);
                }
            });
        }
        best
    }

    /// Places `task` on `p` with the transfers that this takes. `None` where `p` cannot run it or be reached, or a
    /// watched memory would overflow.
    pub(crate) fn place(&mut self, task: usize, p: usize) -> Option<Run> {
        let mark = self.transfers.len();
        let run = self.put(task, p)?;
        if !self.watched.is_empty() {
            let last = self.last;
            let end = self.transfers[mark..].iter().map(|t| t.finish).fold(run.finish, f64::max);
            self.last = last.max(end);
            if !self.fits() {
                self.last = last;
                self.unplace(task, mark);
                return None;
            }
        }
        Some(run)
    }

    fn put(&mut self, task: usize, p: usize) -> Option<Run> {
        let problem = self.problem;
        let (cost, m) = (problem.cost(task, p), problem.memory_of(p));
        let ready = self.inputs_ready(task, m);
        if cost == f64::INFINITY || ready == f64::INFINITY {
            return None;
        }
        let start = self.first_gap(p, ready, cost);
        let run = Run { processor: p as u32, start, finish: start + cost };
        if self.outputs_there(task, m, run.finish) == f64::INFINITY {
            return None;
        }
        for &u in problem.units.row(p) {
            self.units[u as usize].occupy(run.start, run.finish);
        }
        let width = problem.memory_count();
        for &x in problem.writes.row(task) {
            self.arrival[x as usize * width + m] = run.finish;
        }
        self.runs[task] = run;
        for i in 0..self.tried.len() {
            let t = self.tried[i];
            self.arrival[t.tensor as usize * width + t.to as usize] = t.finish;
            let channel = problem.routes.channel(t.from as usize, t.to as usize);
            if self.channels == Channels::Queue && channel != NONE {
                self.queues[channel as usize].occupy(t.start, t.finish);
            }
            self.transfers.push(t);
        }
        Some(run)
    }

    /// Undoes the latest [`place`](Self::place), which left `transfers` longer than `mark`.
    pub(crate) fn unplace(&mut self, task: usize, mark: usize) {
        let problem = self.problem;
        let width = problem.memory_count();
        let run = std::mem::replace(&mut self.runs[task], UNPLACED);
        while self.transfers.len() > mark {
            let Some(t) = self.transfers.pop() else { break };
            self.arrival[t.tensor as usize * width + t.to as usize] = f64::INFINITY;
            let channel = problem.routes.channel(t.from as usize, t.to as usize);
            if self.channels == Channels::Queue && channel != NONE {
                self.queues[channel as usize].release(t.start, t.finish);
            }
        }
        for &x in problem.writes.row(task) {
            self.arrival[x as usize * width + problem.memory_of(run.processor as usize)] = f64::INFINITY;
        }
        for &u in problem.units.row(run.processor as usize) {
            self.units[u as usize].release(run.start, run.finish);
        }
    }

    /// The complete schedule, with the inputs brought to where they are needed.
    pub(crate) fn finish(mut self) -> Schedule {
        let problem = self.problem;
        let width = problem.memory_count();
        for x in (0..problem.tensor_count()).filter(|&x| problem.writer[x] == NONE) {
            for &b in problem.needed.row(x) {
                self.tried.clear();
                self.bring(x, problem.home[x] as usize, 0.0, b as usize);
                for i in 0..self.tried.len() {
                    let t = self.tried[i];
                    self.arrival[x * width + t.to as usize] = t.finish;
                    let channel = problem.routes.channel(t.from as usize, t.to as usize);
                    if self.channels == Channels::Queue && channel != NONE {
                        self.queues[channel as usize].occupy(t.start, t.finish);
                    }
                    self.transfers.push(t);
                }
            }
        }
        Schedule::new(problem, self.runs, self.transfers)
    }
}
