//! The two goals of a plan over threads and a device: the least time, or the least bytes of the device's memory within an
//! objective for the time.
//!
//! The scheduler predicts without queues of the one stream, so its answer to an objective may come out a little longer than
//! that; it is asked for tighter ones then, and what is compared is what the instructions are predicted to take.

use super::{Candidate, Parts};
use crate::plan::PlanError;
use recurve_scheduler::{Error, Instance, Problem, Search};
use std::time::Duration;

/// What a plan is to be best at: the least time or, where there is an objective for the time in microseconds, the least
/// bytes of the device's memory within it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Goal {
    pub(crate) slo_us: Option<f64>,
    /// Whether the curve of bytes against time is sought, too.
    pub(crate) curve: bool,
    /// How long all searches may take together; without, they end after so many evaluations.
    pub(crate) budget: Option<Duration>,
}

impl Goal {
    /// Searches that are made over threads and a device.
    pub(crate) fn searches(self) -> usize {
        1 + self.slo_us.map_or(0, |_| TIGHTER.len()) + if self.curve { CURVE.len() + LIMITS.len() } else { 0 }
    }
}

/// A plan that exists, by what it takes of both.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct ParetoPoint {
    pub(crate) device_bytes: usize,
    pub(crate) predicted_us: f64,
}

/// Parts of an objective that are tried.
const TIGHTER: [f64; 5] = [1.0, 0.95, 0.9, 0.8, 0.65];
/// Multiples of the least time at which the curve is sought.
const CURVE: [f64; 8] = [1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Parts of the bytes that everything on the device takes, within which the curve is sought, too.
const LIMITS: [f64; 8] = [0.95, 0.8, 0.65, 0.5, 0.35, 0.25, 0.125, 0.0625];

/// Adds what the scheduler finds for the least time within limits of the device's memory: plans which no objective for the
/// time leads to, since a search for the least bytes ends elsewhere.
pub(super) fn within_limits(
    parts: &Parts<'_>,
    instance: &Instance,
    search: Search,
    candidates: &mut Vec<Candidate>,
) -> Result<(), PlanError> {
    let most = candidates.iter().map(Candidate::device_bytes).max().unwrap_or(0);
    for part in LIMITS {
        let mut limited = instance.clone();
        let limit = (most as f64 * part) as u64;
        let memories = limited.machine.memories.iter_mut().filter(|m| m.name == parts.device.name);
        memories.for_each(|m| m.capacity = Some(m.capacity.map_or(limit, |own| own.min(limit))));
        match Problem::new(&limited).and_then(|problem| problem.least_makespan(search)) {
            Ok(found) => candidates.push(parts.scheduled(&found.schedule)?),
            Err(Error::Capacity { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Adds what the scheduler finds.
pub(super) fn search(
    parts: &Parts<'_>,
    problem: &Problem,
    (goal, memory): (Goal, usize),
    search: Search,
    candidates: &mut Vec<Candidate>,
) -> Result<(), PlanError> {
    match problem.least_makespan(search) {
        Ok(found) => candidates.push(parts.scheduled(&found.schedule)?),
        // The CPU alone may still do.
        Err(Error::Capacity { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let least = candidates.iter().map(Candidate::total_us).fold(f64::INFINITY, f64::min);
    let tighter = goal.slo_us.into_iter().flat_map(|slo_us| TIGHTER.map(|part| part * slo_us));
    let curve = goal.curve.then(|| CURVE.map(|times| times * least));
    let objectives: Vec<f64> = tighter.chain(curve.into_iter().flatten()).collect();
    for slo_us in objectives {
        match problem.least_memory(memory, slo_us, search) {
            Ok(frugal) => candidates.push(parts.scheduled(&frugal.schedule)?),
            // A tighter objective than the user's need not be met.
            Err(Error::Slo { .. } | Error::Capacity { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The candidate to be taken, or `None` for the CPU alone, which takes `cpu_us` where it is allowed. What is as good does
/// not replace what is simpler: the CPU alone, then the device alone. Where there is nothing to choose from the error is
/// `nothing_fits`.
pub(super) fn choose(
    goal: Goal,
    candidates: &[Candidate],
    cpu_us: Option<f64>,
    nothing_fits: impl FnOnce() -> PlanError,
) -> Result<Option<usize>, PlanError> {
    let gpu = candidates.iter().enumerate().map(|(at, c)| (Some(at), c.device_bytes(), c.total_us()));
    let all = cpu_us.map(|us| (None, 0, us)).into_iter().chain(gpu);
    let fastest =
        |a: (Option<usize>, usize, f64), b: (Option<usize>, usize, f64)| if b.2 < a.2 { b } else { a };
    let least_us = all.clone().reduce(fastest);
    let Some(slo_us) = goal.slo_us else {
        return least_us.map(|(at, ..)| at).ok_or_else(nothing_fits);
    };
    let within = all.filter(|(_, _, us)| *us <= slo_us);
    match (within.reduce(|a, b| if (b.1, b.2) < (a.1, a.2) { b } else { a }), least_us) {
        (Some((at, ..)), _) => Ok(at),
        (None, Some((_, device_bytes, best_us))) => Err(PlanError::Slo { slo_us, best_us, device_bytes }),
        (None, None) => Err(nothing_fits()),
    }
}

/// Every pair of bytes and time that no other beats, by increasing bytes.
pub(super) fn front(candidates: &[Candidate], cpu_us: Option<f64>) -> Vec<ParetoPoint> {
    let cpu = cpu_us.map(|predicted_us| ParetoPoint { device_bytes: 0, predicted_us });
    let gpu =
        candidates.iter().map(|c| ParetoPoint { device_bytes: c.device_bytes(), predicted_us: c.total_us() });
    pareto(cpu.into_iter().chain(gpu).collect())
}

/// Of these points those that no other beats in both, by increasing bytes.
pub(crate) fn pareto(mut all: Vec<ParetoPoint>) -> Vec<ParetoPoint> {
    all.sort_by(|a, b| a.device_bytes.cmp(&b.device_bytes).then(a.predicted_us.total_cmp(&b.predicted_us)));
    let mut least = f64::INFINITY;
    all.retain(|point| {
        let better = point.predicted_us < least;
        least = least.min(point.predicted_us);
        better
    });
    all
}
