//! What local search minimises.
//!
//! The makespan; the makespan of what fits into the memories; the bytes by which memories overflow; or the peak of
//! one memory, where a makespan beyond the objective costs `STEEP` times its excess.

use crate::Problem;
use crate::peak::{overflow, peak};
use crate::postponed::postponed;
use crate::schedule::Schedule;
use crate::sequence::Sequence;

/// Of so many schedules one is given waits, where it has at most so many items.
const WAITS: u64 = 32;
const WAITING_ITEMS: usize = 40;
/// Weight of the makespan's excess over the objective.
const STEEP: f64 = 10.0;

/// The objective of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    /// The makespan.
    Makespan,
    /// The makespan among schedules within the capacities.
    MakespanWithin,
    /// Bytes beyond the capacities, relative to them.
    Overflow,
    /// The peak of a memory, relative to `scale`, within the capacities and a makespan.
    Peak { memory: usize, slo: f64, scale: f64 },
}

impl Objective {
    /// The makespan beyond which a value exceeds `limit`.
    pub(crate) fn cutoff(self, limit: f64) -> f64 {
        match self {
            Self::Makespan | Self::MakespanWithin => limit,
            Self::Overflow => f64::INFINITY,
            Self::Peak { slo, .. } => slo * (1.0 + limit / STEEP),
        }
    }

    /// The value of the move just tried; `+∞` where it does not count. Offers the schedule to `archive` where it
    /// had to be built.
    pub(crate) fn value(self, s: &Sequence<'_>, makespan: f64, archive: &mut Archive) -> f64 {
        if self == Self::Makespan {
            return makespan;
        }
        let schedule = s.tried();
        let value = self.of(s.problem, &schedule);
        archive.consider(s.problem, schedule);
        value
    }

    /// The value of a schedule.
    pub(crate) fn of(self, problem: &Problem, schedule: &Schedule) -> f64 {
        let over = |(m, peak): (usize, u64)| {
            let capacity = problem.capacity[m].unwrap_or(u64::MAX).max(1) as f64;
            peak as f64 / capacity - 1.0
        };
        match self {
            Self::MakespanWithin if overflow(problem, schedule).is_some() => f64::INFINITY,
            Self::Makespan | Self::MakespanWithin => schedule.makespan,
            Self::Overflow => overflow(problem, schedule).map_or(0.0, over),
            Self::Peak { memory, slo, scale } => {
                let late = (schedule.makespan / slo - 1.0).max(0.0);
                let over = overflow(problem, schedule).map_or(0.0, over);
                peak(problem, schedule, memory) as f64 / scale + STEEP * (late + over)
            }
        }
    }
}

/// The schedules found of which none is better in both peak and makespan.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// The memory whose peak counts; without one nothing is kept.
    memory: Option<usize>,
    /// The makespan up to which waits are tried.
    slo: f64,
    offers: u64,
    /// By increasing peak, decreasing makespan.
    pub(crate) front: Vec<(u64, Schedule)>,
}

impl Archive {
    pub(crate) fn new(memory: Option<usize>) -> Self {
        Self { memory, slo: 0.0, offers: 0, front: Vec::new() }
    }

    /// An archive that tries waits on some of the small schedules offered to it.
    pub(crate) fn with_waits(memory: usize, slo: f64) -> Self {
        Self { slo, ..Self::new(Some(memory)) }
    }

    /// Offers a schedule, and one in [`WAITS`] of the small ones within the objective with waits too.
    pub(crate) fn consider(&mut self, problem: &Problem, schedule: Schedule) {
        let Some(m) = self.memory else { return };
        let small = schedule.runs.len() + schedule.transfers.len() <= WAITING_ITEMS;
        if small && schedule.makespan <= self.slo {
            self.offers += 1;
            if self.offers.is_multiple_of(WAITS) {
                self.offer(problem, postponed(problem, &schedule, m, self.slo));
            }
        }
        self.offer(problem, schedule);
    }

    /// Keeps a schedule that fits and that no other dominates.
    pub(crate) fn offer(&mut self, problem: &Problem, schedule: Schedule) {
        let Some(m) = self.memory else { return };
        let bytes = peak(problem, &schedule, m);
        let beaten = |(b, s): &(u64, Schedule)| *b <= bytes && s.makespan <= schedule.makespan;
        if self.front.iter().any(beaten) || overflow(problem, &schedule).is_some() {
            return;
        }
        self.front.retain(|(b, s)| *b < bytes || s.makespan < schedule.makespan);
        let at = self.front.partition_point(|(b, _)| *b < bytes);
        self.front.insert(at, (bytes, schedule));
    }

    /// The least peak within a makespan.
    pub(crate) fn best(&self, slo: f64) -> Option<&(u64, Schedule)> {
        self.front.iter().find(|(_, s)| s.makespan <= slo)
    }
}
