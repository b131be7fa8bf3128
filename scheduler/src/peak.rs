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
use crate::schedule::Schedule;

/// An event of one memory: at an instant ends come first, then begins, then intervals of no length.
type Event = (f64, u8, u32, u64);

/// Peak bytes of each memory.
pub(crate) fn peaks(problem: &Problem, schedule: &Schedule) -> Vec<u64> {
    (0..problem.memory_count()).map(|m| peak(problem, schedule, m)).collect()
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

/// Peak bytes of memory `m`.
pub(crate) fn peak(problem: &Problem, schedule: &Schedule, m: usize) -> u64 {
    let x = problem.tensor_count();
    let home = |t: usize| problem.memory_of(schedule.runs[t].processor as usize);
    let mut begin = vec![f64::NAN; x];
    let mut end = vec![0.0f64; x];
    let mut used = vec![false; x];
    for i in 0..x {
        match problem.writer[i] {
            NONE if problem.home[i] as usize == m => begin[i] = 0.0,
            NONE => {}
            w if home(w as usize) == m => {
                begin[i] = schedule.runs[w as usize].start;
                end[i] = schedule.runs[w as usize].finish;
            }
            _ => {}
        }
        for &r in problem.readers.row(i) {
            used[i] = true;
            if home(r as usize) == m {
                end[i] = end[i].max(schedule.runs[r as usize].finish);
            }
        }
    }
    for v in &schedule.transfers {
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
        let stays = !used[i] || problem.needed.row(i).contains(&(m as u32));
        let to = if stays { schedule.makespan } else { end[i] };
        add(begin[i], to, problem.storage[i], problem.tensor_bytes[i]);
    }
    for (t, run) in schedule.runs.iter().enumerate().filter(|&(t, _)| home(t) == m) {
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
