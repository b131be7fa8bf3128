//! Exact branch and bound for small instances: the oracle of the tests.
//!
//! Processors are assigned task by task in the order of `rank_u`; a partial assignment is bounded by its longest
//! path, where unassigned tasks take their least cost and tensors between them move for nothing, by the
//! one-machine bound of every unit, and by the area left. Equal processors are tried once. Each complete
//! assignment is sequenced by [`crate::disjunctive`]. In memory mode the objective is the peak of one memory, the
//! makespan a limit, and a placement is cut when its weights and its largest task alone reach the best peak.
//!
//! Copies go where they are read or needed, and over other memories only where there is no direct link; the
//! answer is optimal among these, up to `2⁻⁴⁰` of itself against rounding. Capacities are respected.
//!
//! # Complexity
//! O(processors^tasks) assignments in the worst case, each exponential in its conflicts.

use crate::bounds::Moves;
use crate::disjunctive::{Disjunctive, JOB_LIMIT, Jobs, Leaf, MARGIN, Separation, one_machine};
use crate::error::Error;
use crate::peak::{peaks, weights_in, working_set};
use crate::problem::{NONE, Problem};
use crate::rank::{Means, decreasing, upward};
use crate::schedule::{Run, Schedule, Transfer};

/// Most tasks of an exact search.
pub(crate) const TASK_LIMIT: usize = 14;

/// What is minimised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    Makespan,
    /// The peak of a memory, with the makespan at most so long.
    Peak {
        memory: usize,
        slo: f64,
    },
}

/// The search over assignments.
pub(crate) struct Exact<'a> {
    problem: &'a Problem,
    goal: Goal,
    moves: Moves,
    order: Vec<u32>,
    /// For each processor the earlier ones that are equal to it.
    twins: Vec<Vec<usize>>,
    to: Vec<u32>,
    used: Vec<u32>,
    best: Option<(u64, Schedule)>,
    nodes: u64,
    node_limit: u64,
}

/// Finds the optimum, starting from a schedule that is already known.
///
/// # Returns
/// The best schedule, which may be `known` itself; `None` where none exists.
pub(crate) fn exact(
    problem: &Problem,
    goal: Goal,
    known: Option<&Schedule>,
    node_limit: u64,
) -> Result<Option<Schedule>, Error> {
    let tasks = problem.task_count();
    if tasks > TASK_LIMIT {
        return Err(Error::TooLarge { tasks, limit: TASK_LIMIT });
    }
    let rank = upward(problem, &Means::new(problem));
    let mut search = Exact {
        problem,
        goal,
        moves: Moves::new(problem),
        order: decreasing(problem, &rank),
        twins: twins(problem),
        to: vec![NONE; tasks],
        used: vec![0; problem.processor_count()],
        best: None,
        nodes: 0,
        node_limit,
    };
    if let Some(known) = known.filter(|s| search.admits(s)) {
        search.best = Some((search.value(known), known.clone()));
    }
    if !search.assign(0) {
        return Err(Error::Unproved { nodes: search.nodes });
    }
    Ok(search.best.map(|b| b.1))
}

impl Exact<'_> {
    /// Peak bytes in memory mode, 0 otherwise.
    fn value(&self, schedule: &Schedule) -> u64 {
        match self.goal {
            Goal::Makespan => 0,
            Goal::Peak { memory, .. } => peaks(self.problem, schedule)[memory],
        }
    }

    /// Whether a schedule meets the capacities and the objective.
    fn admits(&self, schedule: &Schedule) -> bool {
        let all = peaks(self.problem, schedule);
        let fits = all.iter().zip(&self.problem.capacity).all(|(p, c)| c.is_none_or(|c| *p <= c));
        fits && match self.goal {
            Goal::Makespan => true,
            Goal::Peak { slo, .. } => schedule.makespan <= slo,
        }
    }

    /// Makespans that reach this are of no interest.
    fn limit(&self) -> f64 {
        match (self.goal, &self.best) {
            (Goal::Makespan, Some((_, s))) => s.makespan - s.makespan * MARGIN,
            (Goal::Makespan, None) => f64::INFINITY,
            (Goal::Peak { slo, .. }, _) => slo + slo * MARGIN + f64::MIN_POSITIVE,
        }
    }

    /// Assigns the tasks from position `at` of the order on. False where the node limit is reached.
    fn assign(&mut self, at: usize) -> bool {
        self.nodes += 1;
        if self.nodes > self.node_limit {
            return false;
        }
        let Some(&task) = self.order.get(at) else { return self.sequence() };
        let task = task as usize;
        let mut ways: Vec<(f64, usize)> = Vec::new();
        for p in 0..self.problem.processor_count() {
            let fresh_twin = self.twins[p].iter().any(|&q| self.used[q] == 0);
            if self.problem.cost(task, p) == f64::INFINITY || (self.used[p] == 0 && fresh_twin) {
                continue;
            }
            self.to[task] = p as u32;
            let bound = self.bound();
            if bound < self.limit() && !self.too_heavy() {
                ways.push((bound, p));
            }
        }
        ways.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (bound, p) in ways {
            if bound >= self.limit() {
                continue;
            }
            self.to[task] = p as u32;
            self.used[p] += 1;
            let done = self.assign(at + 1);
            self.used[p] -= 1;
            if !done {
                return false;
            }
        }
        self.to[task] = NONE;
        true
    }

    /// Memories in which a task may be.
    fn places(&self, t: usize) -> u64 {
        match self.to[t] {
            NONE => self.moves.possible[t],
            p => 1 << self.problem.memory_of(p as usize),
        }
    }

    fn length(&self, t: usize) -> f64 {
        match self.to[t] {
            NONE => self.problem.least_cost(t),
            p => self.problem.cost(t, p as usize),
        }
    }

    /// A lower bound of the makespan under the assignment so far.
    fn bound(&self) -> f64 {
        let problem = self.problem;
        let n = problem.task_count();
        let (mut head, mut tail) = (vec![0.0f64; n], vec![0.0f64; n]);
        let length: Vec<f64> = (0..n).map(|t| self.length(t)).collect();
        let mut best = 0.0f64;
        for &t in &problem.topological {
            let t = t as usize;
            for &x in problem.reads.row(t) {
                let x = x as usize;
                let (from, sources) = match problem.writer[x] {
                    NONE => (0.0, 1 << problem.home[x]),
                    w => (head[w as usize] + length[w as usize], self.places(w as usize)),
                };
                head[t] = head[t].max(from + Moves::least(problem, x, sources, self.places(t)));
            }
        }
        for &t in problem.topological.iter().rev() {
            let t = t as usize;
            for &x in problem.writes.row(t) {
                let x = x as usize;
                for &r in problem.readers.row(x) {
                    let r = r as usize;
                    let haul = Moves::least(problem, x, self.places(t), self.places(r));
                    tail[t] = tail[t].max(haul + length[r] + tail[r]);
                }
                for &b in problem.needed.row(x) {
                    tail[t] = tail[t].max(Moves::least(problem, x, self.places(t), 1 << b));
                }
            }
            best = best.max(head[t] + length[t] + tail[t]);
        }
        let mut area = 0.0;
        for t in 0..n {
            let on = |p: usize| problem.cost(t, p) * problem.units.row(p).len() as f64;
            area += match self.to[t] {
                NONE => (0..problem.processor_count()).map(on).fold(f64::INFINITY, f64::min),
                p => on(p as usize),
            };
        }
        best = best.max(area / problem.unit_count.max(1) as f64);
        for u in 0..problem.unit_count as u32 {
            let here = |t: &usize| {
                self.to[*t] != NONE
                    && problem.units.row(self.to[*t] as usize).contains(&u)
                    && length[*t] > 0.0
            };
            let jobs: Vec<usize> = (0..n).filter(here).collect();
            best = best.max(one_machine(&jobs, &head, &length, &tail));
        }
        best
    }

    /// In memory mode, whether the tasks assigned so far already reach the best peak.
    fn too_heavy(&self) -> bool {
        let (Goal::Peak { memory, .. }, Some((best, _))) = (self.goal, &self.best) else { return false };
        let here = |t: usize| self.to[t] != NONE && self.problem.memory_of(self.to[t] as usize) == memory;
        let problem = self.problem;
        let largest = (0..problem.task_count())
            .filter(|&t| here(t))
            .map(|t| working_set(problem, t))
            .max()
            .unwrap_or(0);
        weights_in(problem, memory, here) + largest >= *best
    }

    /// Sequences a complete assignment. False where the node limit is reached.
    fn sequence(&mut self) -> bool {
        let Some((jobs, transfers)) = self.jobs() else { return true };
        if jobs.length.len() > JOB_LIMIT {
            return false;
        }
        let (problem, goal, to) = (self.problem, self.goal, self.to.clone());
        let mut best = self.best.take();
        let mut limit = f64::INFINITY;
        if let (Goal::Makespan, Some((_, s))) = (goal, &best) {
            limit = s.makespan - s.makespan * MARGIN;
        } else if let Goal::Peak { slo, .. } = goal {
            limit = slo + slo * MARGIN + f64::MIN_POSITIVE;
        }
        let leaf = |start: &[f64]| {
            let schedule = build(problem, &to, &jobs, &transfers, start);
            let all = peaks(problem, &schedule);
            let mut cap = problem.capacity.clone();
            if let (Goal::Peak { memory, .. }, Some((b, _))) = (goal, &best) {
                let below = b.saturating_sub(1);
                cap[memory] = Some(cap[memory].map_or(below, |c| c.min(below)));
            }
            if let Some(m) = (0..all.len()).find(|&m| cap[m].is_some_and(|c| all[m] > c)) {
                return Leaf::Overflow(separations(problem, &schedule, &transfers, m));
            }
            match goal {
                Goal::Makespan => {
                    let limit = schedule.makespan - schedule.makespan * MARGIN;
                    best = Some((0, schedule));
                    Leaf::Record(limit)
                }
                Goal::Peak { memory, slo } => {
                    if schedule.makespan <= slo {
                        best = Some((all[memory], schedule.clone()));
                    }
                    // Something that lives now must go for less.
                    Leaf::Overflow(separations(problem, &schedule, &transfers, memory))
                }
            }
        };
        let nodes = Disjunctive::search(&jobs, limit, self.node_limit - self.nodes, leaf);
        self.best = best;
        self.nodes += nodes.unwrap_or(self.node_limit);
        nodes.is_some()
    }

    /// The jobs of a complete assignment: tasks, then transfers as (tensor, from, to). `None` without a route.
    #[expect(clippy::type_complexity, reason = "a list of transfers that nobody else has")]
    fn jobs(&self) -> Option<(Jobs, Vec<(usize, usize, usize)>)> {
        let problem = self.problem;
        let n = problem.task_count();
        let place = |t: u32| problem.memory_of(self.to[t as usize] as usize);
        let mut jobs = Jobs {
            resources: vec![Vec::new(); problem.unit_count + problem.channel_count],
            ..Jobs::default()
        };
        for t in 0..n {
            let p = self.to[t] as usize;
            jobs.length.push(problem.cost(t, p));
            jobs.after.push(Vec::new());
            if problem.cost(t, p) > 0.0 {
                problem.units.row(p).iter().for_each(|&u| jobs.resources[u as usize].push(t));
            }
        }
        let mut transfers = Vec::new();
        for x in 0..problem.tensor_count() {
            let home = problem.first_memory(x, |w| self.to[w] as usize);
            let mut filled: Vec<(usize, Option<usize>)> = vec![(
                home,
                match problem.writer[x] {
                    NONE => None,
                    w => Some(w as usize),
                },
            )];
            let read = problem.readers.row(x).iter().map(|&r| place(r));
            let goals: Vec<usize> = read.chain(problem.needed.row(x).iter().map(|&b| b as usize)).collect();
            for goal in goals {
                let mut hops = vec![goal];
                while !filled.iter().any(|f| f.0 == hops[hops.len() - 1]) {
                    hops.push(problem.routes.before(home, hops[hops.len() - 1])?);
                }
                while let (Some(from), Some(&to)) = (hops.pop(), hops.last()) {
                    let source = filled.iter().find(|f| f.0 == from).and_then(|f| f.1);
                    let job = n + transfers.len();
                    transfers.push((x, from, to));
                    jobs.length.push(problem.hop(x, from, to));
                    jobs.after.push(source.into_iter().collect());
                    let channel = problem.routes.channel(from, to);
                    if channel != NONE && jobs.length[job] > 0.0 {
                        jobs.resources[problem.unit_count + channel as usize].push(job);
                    }
                    filled.push((to, Some(job)));
                }
            }
            for &r in problem.readers.row(x) {
                let source = filled.iter().find(|f| f.0 == place(r)).and_then(|f| f.1);
                jobs.after[r as usize].extend(source);
            }
        }
        Some((jobs, transfers))
    }
}

/// The schedule of given starts.
fn build(
    problem: &Problem,
    to: &[u32],
    jobs: &Jobs,
    transfers: &[(usize, usize, usize)],
    start: &[f64],
) -> Schedule {
    let n = to.len();
    let finish = |j: usize| start[j] + jobs.length[j];
    let runs = (0..n).map(|t| Run { processor: to[t], start: start[t], finish: finish(t) });
    let moves = transfers.iter().enumerate().map(|(i, &(x, from, to))| Transfer {
        tensor: x as u32,
        from: from as u32,
        to: to as u32,
        start: start[n + i],
        finish: finish(n + i),
    });
    Schedule::new(problem, runs.collect(), moves.collect())
}

/// Pairs of things alive at the first peak of memory `m`, one of which must end before the other begins for the
/// peak to become less.
fn separations(
    problem: &Problem,
    schedule: &Schedule,
    transfers: &[(usize, usize, usize)],
    m: usize,
) -> Vec<Separation> {
    let n = problem.task_count();
    let place = |t: u32| problem.memory_of(schedule.runs[t as usize].processor as usize);
    let (start, finish): (Vec<f64>, Vec<f64>) = {
        let of = |&(x, _, to): &(usize, usize, usize)| {
            let found = schedule.transfers.iter().find(|v| v.tensor as usize == x && v.to as usize == to);
            found.map_or((0.0, 0.0), |v| (v.start, v.finish))
        };
        schedule.runs.iter().map(|r| (r.start, r.finish)).chain(transfers.iter().map(of)).unzip()
    };
    // (begin, end, bytes, storage, beginning job, users; no users: it stays)
    type Life = (f64, f64, u64, u32, Option<usize>, Vec<usize>);
    let mut lives: Vec<Life> = Vec::new();
    for x in 0..problem.tensor_count() {
        let home = problem.first_memory(x, |w| schedule.runs[w].processor as usize);
        let into = transfers.iter().position(|&(y, _, to)| y == x && to == m).map(|i| n + i);
        let begin = match (home == m, problem.writer[x]) {
            (true, NONE) => None,
            (true, w) => Some(w as usize),
            (false, _) if into.is_some() => into,
            (false, _) => continue,
        };
        let mut users: Vec<usize> =
            problem.readers.row(x).iter().filter(|&&r| place(r) == m).map(|&r| r as usize).collect();
        users.extend(transfers.iter().enumerate().filter(|(_, v)| v.0 == x && v.1 == m).map(|(i, _)| n + i));
        let unused = problem.readers.row(x).is_empty() && !transfers.iter().any(|v| v.0 == x);
        let stays = unused || problem.needed.row(x).contains(&(m as u32));
        if !stays {
            users.extend(begin);
        }
        let from = begin.map_or(0.0, |j| start[j]);
        let end = users.iter().map(|&u| finish[u]).fold(0.0, f64::max);
        let end = if stays { schedule.makespan } else { end };
        let users = if stays { Vec::new() } else { users };
        lives.push((from, end, problem.tensor_bytes[x], problem.storage[x], begin, users));
    }
    for t in (0..n).filter(|&t| place(t as u32) == m && problem.workspace[t] > 0) {
        let class = (problem.storage_count + t) as u32;
        lives.push((start[t], finish[t], problem.workspace[t], class, Some(t), vec![t]));
    }
    lives.retain(|l| l.2 > 0);
    let alive = |l: &Life, now: f64| (l.0 <= now && now < l.1) || (l.0 == now && l.1 == now);
    let load = |now: f64| {
        let mut classes: Vec<(u32, u64)> = Vec::new();
        for l in lives.iter().filter(|l| alive(l, now)) {
            match classes.iter_mut().find(|c| c.0 == l.3) {
                Some(c) => c.1 = c.1.max(l.2),
                None => classes.push((l.3, l.2)),
            }
        }
        classes.iter().map(|c| c.1).sum::<u64>()
    };
    let mut instant = (0, 0.0);
    for l in &lives {
        let here = load(l.0);
        if here > instant.0 {
            instant = (here, l.0);
        }
    }
    let together: Vec<&Life> = lives.iter().filter(|l| alive(l, instant.1)).collect();
    let mut pairs = Vec::new();
    for a in &together {
        for b in &together {
            if let (false, Some(begin)) = (a.5.is_empty(), b.4) {
                // Not where the one is made from the other at once.
                if !a.5.contains(&begin) && a.1 > b.0 {
                    pairs.push((a.5.clone(), begin));
                }
            }
        }
    }
    pairs
}

/// For each processor the earlier ones with the same memory and costs, if each has one unit of its own.
fn twins(problem: &Problem) -> Vec<Vec<usize>> {
    let p = problem.processor_count();
    let alone = |q: usize| match problem.units.row(q) {
        &[u] => (0..p).filter(|&r| problem.units.row(r).contains(&u)).count() == 1,
        _ => false,
    };
    let alike = |a: usize, b: usize| {
        problem.memory_of(a) == problem.memory_of(b)
            && (0..problem.task_count()).all(|t| problem.cost(t, a) == problem.cost(t, b))
    };
    (0..p).map(|q| (0..q).filter(|&r| alone(q) && alone(r) && alike(q, r)).collect()).collect()
}
