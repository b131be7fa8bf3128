//! Discrete-event replay: what a machine does that follows a schedule's decisions.
//!
//! A schedule is reduced to its decisions: the processor of each task, the order of tasks on each unit, the
//! source of each transfer and the order of transfers on each channel. Everything starts as soon as its inputs
//! are there and its resources have come to it. Every planner here starts things at the latest of such finish times, so replaying with equal
//! costs gives its makespan to the last bit; shares no code with the planners.
//!
//! # Complexity
//! O((tasks + transfers) · log + reads).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use crate::Problem;
use crate::problem::NONE;
use crate::schedule::{Run, Schedule, Transfer};

impl Schedule {
    /// Replays the schedule with the problem's own costs.
    ///
    /// # Returns
    /// The schedule that results; it has the makespan of this one, or less where this one idles by choice.
    pub fn replay(&self, problem: &Problem) -> Self {
        self.replay_with(problem, |_, c| c, |_, c| c)
    }

    /// Replays the schedule with other lengths: `task` maps a task and its cost to the length it takes,
    /// `transfer` a transfer's place in the schedule and its length.
    pub fn replay_with(
        &self,
        problem: &Problem,
        task: impl Fn(usize, f64) -> f64,
        transfer: impl Fn(usize, f64) -> f64,
    ) -> Self {
        let mut lengths = Vec::with_capacity(self.runs.len() + self.transfers.len());
        lengths.extend(
            self.runs.iter().enumerate().map(|(t, r)| task(t, problem.cost(t, r.processor as usize))),
        );
        lengths.extend(
            self.transfers
                .iter()
                .enumerate()
                .map(|(i, m)| transfer(i, problem.hop(m.tensor as usize, m.from as usize, m.to as usize))),
        );
        Simulation::new(problem, self, lengths).run()
    }
}

/// A point in time, totally ordered.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Instant(f64);
impl Eq for Instant {}
impl PartialOrd for Instant {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Instant {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Jobs are tasks, then transfers; resources are units, then channels.
struct Simulation<'a> {
    problem: &'a Problem,
    plan: &'a Schedule,
    lengths: Vec<f64>,
    /// Inputs that a job still waits for.
    waiting: Vec<usize>,
    /// Jobs that wait for a job.
    followers: Vec<Vec<usize>>,
    /// Resources of a job.
    resources: Vec<Vec<usize>>,
    /// Jobs of a resource in the order in which it takes them.
    queue: Vec<VecDeque<usize>>,
    busy: Vec<bool>,
    started: Vec<bool>,
    start: Vec<f64>,
    finish: Vec<f64>,
    events: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl<'a> Simulation<'a> {
    fn new(problem: &'a Problem, plan: &'a Schedule, lengths: Vec<f64>) -> Self {
        let n = plan.runs.len();
        let jobs = n + plan.transfers.len();
        let mut brought: HashMap<(u32, u32), usize> = HashMap::new();
        for (i, m) in plan.transfers.iter().enumerate() {
            brought.insert((m.tensor, m.to), n + i);
        }
        let mut s = Self {
            problem,
            plan,
            waiting: vec![0; jobs],
            followers: vec![Vec::new(); jobs],
            resources: vec![Vec::new(); jobs],
            queue: vec![VecDeque::new(); problem.unit_count + problem.channel_count],
            busy: vec![false; problem.unit_count + problem.channel_count],
            started: vec![false; jobs],
            start: vec![f64::INFINITY; jobs],
            finish: vec![f64::INFINITY; jobs],
            events: BinaryHeap::new(),
            lengths,
        };
        // The job that makes a tensor present in a memory, if any.
        let source = |x: u32, m: u32| {
            brought.get(&(x, m)).copied().or_else(|| match problem.writer[x as usize] {
                NONE => None,
                w => Some(w as usize),
            })
        };
        let mut wait = |job: usize, on: Option<usize>| {
            if let Some(on) = on {
                s.waiting[job] += 1;
                s.followers[on].push(job);
            }
        };
        for (t, run) in plan.runs.iter().enumerate() {
            let m = problem.memory_of(run.processor as usize) as u32;
            for &x in problem.reads.row(t) {
                wait(t, source(x, m));
            }
        }
        for (i, m) in plan.transfers.iter().enumerate() {
            wait(n + i, source(m.tensor, m.from));
        }
        s.enqueue();
        s
    }

    /// Fills the queues in the plan's order.
    fn enqueue(&mut self) {
        let n = self.plan.runs.len();
        let mut tasks: Vec<usize> = (0..n).filter(|&t| self.lengths[t] > 0.0).collect();
        let start = |t: usize| self.plan.runs[t].start;
        tasks.sort_by(|&a, &b| start(a).total_cmp(&start(b)));
        for t in tasks {
            for &u in self.problem.units.row(self.plan.runs[t].processor as usize) {
                self.resources[t].push(u as usize);
                self.queue[u as usize].push_back(t);
            }
        }
        for (i, m) in self.plan.transfers.iter().enumerate() {
            let channel = self.problem.routes.channel(m.from as usize, m.to as usize);
            if channel != NONE && self.lengths[n + i] > 0.0 {
                let c = self.problem.unit_count + channel as usize;
                self.resources[n + i].push(c);
                self.queue[c].push_back(n + i);
            }
        }
    }

    fn run(mut self) -> Schedule {
        let all: Vec<usize> = (0..self.lengths.len()).collect();
        self.start_all(&all, 0.0);
        let mut done = Vec::new();
        while let Some(&Reverse((Instant(now), _))) = self.events.peek() {
            done.clear();
            while let Some(&Reverse((at, job))) = self.events.peek() {
                if at.0 != now {
                    break;
                }
                self.events.pop();
                done.push(job);
            }
            let mut touched = Vec::new();
            for &job in &done {
                for i in 0..self.followers[job].len() {
                    let next = self.followers[job][i];
                    self.waiting[next] -= 1;
                    touched.push(next);
                }
                for i in 0..self.resources[job].len() {
                    self.busy[self.resources[job][i]] = false;
                }
            }
            touched.sort_unstable();
            touched.dedup();
            for &job in &done {
                for i in 0..self.resources[job].len() {
                    touched.extend(self.queue[self.resources[job][i]].front());
                }
            }
            self.start_all(&touched, now);
        }
        self.result()
    }

    /// Starts every job of the list, and those behind it, that has its inputs and all its resources.
    fn start_all(&mut self, jobs: &[usize], now: f64) {
        for &job in jobs {
            let free = |&r: &usize| !self.busy[r] && self.queue[r].front() == Some(&job);
            if self.started[job] || self.waiting[job] > 0 || !self.resources[job].iter().all(free) {
                continue;
            }
            self.started[job] = true;
            for i in 0..self.resources[job].len() {
                let r = self.resources[job][i];
                self.busy[r] = true;
                self.queue[r].pop_front();
            }
            self.start[job] = now;
            self.finish[job] = now + self.lengths[job];
            self.events.push(Reverse((Instant(self.finish[job]), job)));
        }
    }

    fn result(self) -> Schedule {
        let n = self.plan.runs.len();
        let runs = self.plan.runs.iter().enumerate().map(|(t, r)| Run {
            processor: r.processor,
            start: self.start[t],
            finish: self.finish[t],
        });
        let transfers = self.plan.transfers.iter().enumerate().map(|(i, m)| Transfer {
            start: self.start[n + i],
            finish: self.finish[n + i],
            ..*m
        });
        Schedule::new(self.problem, runs.collect(), transfers.collect())
    }
}
