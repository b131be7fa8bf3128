//! Peak bytes of every memory under a schedule.
//!
//! `peak(m) = Σ weights used in m + max over instants of (Σ over storages of the largest tensor alive + workspaces)`.
//! A tensor lives in its first memory from its writer's start, elsewhere from the start of its transfer, to the
//! last end of a local reader or a transfer out; to the end where it is needed or nobody uses it.
//! One sweep over the begin and end events of each memory.
//!
//! # Complexity
//! O((tasks + tensors + transfers) · log).

use crate::Problem;
use crate::problem::NONE;
use crate::schedule::{Run, Schedule, Transfer};

/// An event of one memory: at an instant ends come first, then begins, then intervals of no length.
type Event = (f64, u8, u32, u64);

/// Peak bytes of each memory.
pub(crate) fn peaks(problem: &Problem, schedule: &Schedule) -> Vec<u64> {
    (0..problem.memory_count()).map(|m| peak(problem, schedule, m)).collect()
}

/// Peak bytes of memory `m`.
pub(crate) fn peak(problem: &Problem, schedule: &Schedule, m: usize) -> u64 {
    peak_of(problem, &schedule.runs, &schedule.transfers, schedule.makespan, m)
}

/// Whether every memory holds its peak.
pub(crate) fn fits(problem: &Problem, schedule: &Schedule) -> bool {
    overflow(problem, schedule).is_none()
}

/// The first memory that overflows, with its peak.
pub(crate) fn overflow(problem: &Problem, schedule: &Schedule) -> Option<(usize, u64)> {
    let watched = (0..problem.memory_count()).filter(|&m| problem.memory_may_bind(m));
    let over = |(m, peak): &(usize, u64)| problem.capacity[*m].is_some_and(|c| *peak > c);
    watched.map(|m| (m, peak(problem, schedule, m))).find(over)
}

/// A lower bound of the peak of memory `m`: the weights of the tasks that run nowhere else, and what the largest
/// of these tasks holds while it runs.
pub(crate) fn least_peak(problem: &Problem, m: usize) -> u64 {
    let elsewhere = |p: usize, t: usize| problem.memory_of(p) != m && problem.cost(t, p).is_finite();
    let bound = |t: usize| !(0..problem.processor_count()).any(|p| elsewhere(p, t));
    let largest = (0..problem.task_count()).filter(|&t| bound(t)).map(|t| working_set(problem, t)).max();
    weights_in(problem, m, bound) + largest.unwrap_or(0)
}

/// Bytes that a task's memory holds at least while it runs, without weights.
pub(crate) fn working_set(problem: &Problem, t: usize) -> u64 {
    let mut storages: Vec<(u32, u64)> = Vec::new();
    for &x in problem.reads.row(t).iter().chain(problem.writes.row(t)) {
        let (s, b) = (problem.storage[x as usize], problem.tensor_bytes[x as usize]);
        match storages.iter_mut().find(|e| e.0 == s) {
            Some(e) => e.1 = e.1.max(b),
            None => storages.push((s, b)),
        }
    }
    problem.workspace[t] + storages.iter().map(|e| e.1).sum::<u64>()
}

/// Bytes of the weights that the tasks in memory `m` use.
pub(crate) fn weights_in(problem: &Problem, m: usize, in_m: impl Fn(usize) -> bool) -> u64 {
    let width = problem.memory_count();
    let mut used = vec![false; problem.names.weights.len()];
    let mut sum = 0;
    for t in (0..problem.task_count()).filter(|&t| in_m(t)) {
        for &w in problem.weights.row(t) {
            if !std::mem::replace(&mut used[w as usize], true) {
                sum += problem.weight_bytes[w as usize * width + m];
            }
        }
    }
    sum
}

/// Peak bytes of memory `m` under runs, of which some may not be placed yet, and transfers. What such a task may
/// read stays to the end.
pub(crate) fn peak_of(problem: &Problem, runs: &[Run], transfers: &[Transfer], last: f64, m: usize) -> u64 {
    let x = problem.tensor_count();
    let home = |t: usize| match runs[t].processor {
        NONE => usize::MAX,
        p => problem.memory_of(p as usize),
    };
    let mut stays = vec![false; x];
    let mut begin = vec![f64::NAN; x];
    let mut end = vec![0.0f64; x];
    let mut used = vec![false; x];
    for i in 0..x {
        match problem.writer[i] {
            NONE if problem.home[i] as usize == m => begin[i] = 0.0,
            NONE => {}
            w if home(w as usize) == m => {
                begin[i] = runs[w as usize].start;
                end[i] = runs[w as usize].finish;
            }
            _ => {}
        }
        for &r in problem.readers.row(i) {
            used[i] = true;
            if home(r as usize) == m {
                end[i] = end[i].max(runs[r as usize].finish);
            }
            stays[i] |= runs[r as usize].processor == NONE;
        }
    }
    for v in transfers {
        let i = v.tensor as usize;
        used[i] = true;
        if v.to as usize == m {
            begin[i] = v.start;
        }
        if v.to as usize == m || v.from as usize == m {
            end[i] = end[i].max(v.finish);
        }
    }
    let mut events: Vec<Event> = Vec::new();
    let mut add = |from: f64, to: f64, class: u32, bytes: u64| {
        let lasting = from < to;
        if bytes > 0 {
            events.push((from, if lasting { 1 } else { 2 }, class, bytes));
            events.push((to, if lasting { 0 } else { 3 }, class, bytes));
        }
    };
    for i in (0..x).filter(|&i| !begin[i].is_nan()) {
        let stays = stays[i] || !used[i] || problem.needed.row(i).contains(&(m as u32));
        let to = if stays { last.max(end[i]) } else { end[i] };
        add(begin[i], to, problem.storage[i], problem.tensor_bytes[i]);
    }
    for (t, run) in runs.iter().enumerate().filter(|&(t, _)| home(t) == m) {
        add(run.start, run.finish, (problem.storage_count + t) as u32, problem.workspace[t]);
    }
    weights_in(problem, m, |t| home(t) == m)
        + sweep(&mut events, problem.storage_count + problem.task_count())
}

/// The largest sum over instants of the largest entry alive of each class.
fn sweep(events: &mut [Event], classes: usize) -> u64 {
    events.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut alive: Vec<Vec<u64>> = vec![Vec::new(); classes];
    let largest = |class: &[u64]| class.iter().copied().max().unwrap_or(0);
    let (mut sum, mut top) = (0u64, 0u64);
    for &mut (_, kind, class, bytes) in events {
        let class = &mut alive[class as usize];
        sum -= largest(class);
        if kind == 1 || kind == 2 {
            class.push(bytes);
        } else if let Some(at) = class.iter().position(|&b| b == bytes) {
            class.swap_remove(at);
        }
        sum += largest(class);
        top = top.max(sum);
    }
    top
}
