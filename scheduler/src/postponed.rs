//! Later starts for a lower peak.
//!
//! Everything else in this crate starts as soon as it can. A memory can gain when something waits: a copy that
//! arrives just before its reader, an output that is written after another tensor has died. Items are taken from
//! the last to the first; each goes to the start, among the finishes of others and the latest that its followers,
//! its units or channel and the makespan allow, at which the peak is least, the latest among equals. Orders do not
//! change. Replaying such a schedule starts things earlier again: the waits are part of the plan.
//!
//! # Complexity
//! O(items² · (tasks + tensors) · log) per round; left out above [`ITEM_LIMIT`] items.

use crate::Problem;
use crate::peak::{fits, peak};
use crate::problem::NONE;
use crate::schedule::Schedule;

/// Most tasks and transfers.
const ITEM_LIMIT: usize = 100;
/// Passes over all items.
const ROUNDS: usize = 3;

/// The schedule with later starts, finished by `end`; the schedule itself where it is too large or ends later.
pub(crate) fn postponed(problem: &Problem, schedule: &Schedule, memory: usize, end: f64) -> Schedule {
    let mut now = schedule.clone();
    let items = now.runs.len() + now.transfers.len();
    if items > ITEM_LIMIT || schedule.makespan > end {
        return now;
    }
    let mut least = peak(problem, &now, memory);
    for _ in 0..ROUNDS {
        let before = now.clone();
        let mut order: Vec<usize> = (0..items).collect();
        order.sort_by(|&a, &b| span(&now, b).0.total_cmp(&span(&now, a).0));
        for item in order {
            let (start, finish) = span(&now, item);
            let length = length(problem, &now, item);
            let latest = latest_finish(problem, &now, item, end);
            let mut last = latest - length;
            while last + length > latest {
                last = last.next_down();
            }
            if finish <= start || last <= start {
                continue;
            }
            let ends = (0..items).map(|i| span(&now, i).1).filter(|t| *t > start && *t < last);
            let mut starts: Vec<f64> = ends.chain([last]).collect();
            starts.sort_by(f64::total_cmp);
            let mut best: Option<(u64, Schedule)> = None;
            for start in starts {
                let tried = moved(problem, &now, item, start, start + length);
                let bytes = peak(problem, &tried, memory);
                let better = bytes <= best.as_ref().map_or(least, |b| b.0);
                if better && tried.makespan <= end && fits(problem, &tried) {
                    best = Some((bytes, tried));
                }
            }
            if let Some((bytes, tried)) = best {
                (least, now) = (bytes, tried);
            }
        }
        if now == before {
            break;
        }
    }
    // Transfers in the order of their starts again.
    Schedule::new(problem, now.runs, now.transfers)
}

/// Start and finish of a task, or of the transfer behind the tasks.
fn span(s: &Schedule, item: usize) -> (f64, f64) {
    match s.runs.get(item) {
        Some(run) => (run.start, run.finish),
        None => (s.transfers[item - s.runs.len()].start, s.transfers[item - s.runs.len()].finish),
    }
}

fn length(problem: &Problem, s: &Schedule, item: usize) -> f64 {
    if let Some(run) = s.runs.get(item) {
        return problem.cost(item, run.processor as usize);
    }
    let v = &s.transfers[item - s.runs.len()];
    problem.hop(v.tensor as usize, v.from as usize, v.to as usize)
}

/// The schedule with one item elsewhere in time; transfers keep their places in the list.
fn moved(problem: &Problem, s: &Schedule, item: usize, start: f64, finish: f64) -> Schedule {
    let mut tried = s.clone();
    let tasks = s.runs.len();
    if item < tasks {
        (tried.runs[item].start, tried.runs[item].finish) = (start, finish);
    } else {
        (tried.transfers[item - tasks].start, tried.transfers[item - tasks].finish) = (start, finish);
    }
    let needed = tried.transfers.iter().filter(|v| problem.needed.row(v.tensor as usize).contains(&v.to));
    let ends = tried.runs.iter().map(|r| r.finish).chain(needed.map(|v| v.finish));
    tried.makespan = ends.fold(0.0, f64::max);
    tried
}

/// When an item must be done for everything behind it to stay.
fn latest_finish(problem: &Problem, s: &Schedule, item: usize, end: f64) -> f64 {
    let place = |t: u32| problem.memory_of(s.runs[t as usize].processor as usize) as u32;
    // The uses of a copy of tensor `x` in memory `m`.
    let uses = |x: u32, m: u32| {
        let read = problem.readers.row(x as usize).iter().filter(move |&&r| place(r) == m);
        let read = read.map(|&r| s.runs[r as usize].start);
        let sent = s.transfers.iter().filter(move |v| v.tensor == x && v.from == m).map(|v| v.start);
        read.chain(sent).fold(end, f64::min)
    };
    if item < s.runs.len() {
        let run = &s.runs[item];
        let written = problem.writes.row(item).iter().map(|&x| uses(x, place(item as u32)));
        let units = problem.units.row(run.processor as usize);
        let shares = |p: u32| problem.units.row(p as usize).iter().any(|u| units.contains(u));
        let next =
            s.runs.iter().filter(|r| r.start >= run.finish && r.finish > r.start && shares(r.processor));
        return written.chain(next.map(|r| r.start)).fold(end, f64::min);
    }
    let v = &s.transfers[item - s.runs.len()];
    let channel = |from: u32, to: u32| problem.routes.channel(from as usize, to as usize);
    let own = channel(v.from, v.to);
    let queued = |w: &&crate::Transfer| own != NONE && channel(w.from, w.to) == own && w.finish > w.start;
    let next = s.transfers.iter().filter(queued).filter(|w| w.start >= v.finish).map(|w| w.start);
    next.fold(uses(v.tensor, v.to), f64::min)
}
