//! Memory mode: the least peak of one memory with the makespan within an objective.
//!
//! Weights are most of the bytes, so placements of the groups that share weights are enumerated first (all of
//! them for up to [`ENUMERATED`] groups, else the chain that keeps the heaviest groups out first), each scheduled
//! by HEFT with channels, in the order by rank and in the order for least peak. Those that are light enough but
//! too slow are annealed until they meet the objective, lightest first. The lightest schedule found then starts
//! chains that minimise the peak itself, with moves of groups beside the moves of tasks. Every schedule met that
//! no other beats in both is kept, and at last small ones are given waits where these lower the peak
//! ([`crate::postponed`]): the Pareto front.
//!
//! # Complexity
//! As HEFT per placement; then the budget.

use std::time::Instant;

use rayon::prelude::*;

use crate::answer::Point;
use crate::bounds::Bounds;
use crate::error::Error;
use crate::groups::{groups, placed};
use crate::heft::{assigned, heft};
use crate::local_search::{Chain, Clock, anneal};
use crate::objective::{Archive, Objective};
use crate::partial::{Channels, Watch};
use crate::peak_order::peak_order;
use crate::portfolio::{Search, chains, portfolio, starts};
use crate::postponed::postponed;
use crate::schedule::Schedule;
use crate::{Budget, Problem};

/// Most groups whose placements are all enumerated.
pub(crate) const ENUMERATED: usize = 8;
/// Placements annealed side by side.
const BATCH: usize = 8;

/// What memory mode found.
#[derive(Debug, Clone, PartialEq)]
pub struct Frugal {
    /// The schedule with the least peak within the objective.
    pub schedule: Schedule,
    /// Its peak.
    pub peak_bytes: u64,
    /// Every pair of peak and makespan found that no other beats, by increasing peak.
    pub front: Vec<Point>,
    /// Moves evaluated.
    pub evaluations: u64,
}

/// A placement of groups, lightest first.
struct Placement {
    weights: u64,
    part: Problem,
    best: Option<Schedule>,
}

impl Problem {
    /// Searches for the least peak of `memory` with a makespan of at most `slo_us`.
    ///
    /// # Returns
    /// The schedule and the Pareto front found, or [`Error::Slo`] with the least makespan found and the bound that
    /// proves it where there is one, or [`Error::Capacity`] where nothing fits.
    pub fn least_memory(&self, memory: usize, slo_us: f64, search: Search) -> Result<Frugal, Error> {
        let began = Instant::now();
        let mut archive = Archive::with_waits(memory, slo_us);
        let latency = portfolio(self, search.part(1, 4))?;
        let mut evaluations = latency.evaluations;
        archive.offer(self, latency.schedule.clone());
        for s in starts(self) {
            archive.offer(self, s);
        }
        let groups = groups(self);
        let mut placements = enumerate(self, &groups, memory);
        for p in &placements {
            let schedules =
                p.best.iter().flat_map(|s| [s.clone()].into_iter().chain(frugal(self, s, memory)));
            schedules.for_each(|s| archive.offer(self, s));
        }
        placements.retain(|p| p.best.as_ref().is_some_and(|s| s.makespan > slo_us));
        let batches = placements.len().div_ceil(BATCH).max(1) as u32;
        for (i, batch) in placements.chunks(BATCH).enumerate() {
            // Evaluations are shared out; times are moments since the beginning, after a quarter for the latency.
            let budget = match search.budget {
                Budget::Evaluations(n) => Budget::Evaluations(n / 4 / placements.len() as u64),
                Budget::Time(t) => Budget::Time(t / 4 + t / 4 * (i as u32 + 1) / batches),
            };
            let target = archive.best(slo_us).map_or(u64::MAX, |b| b.0);
            let late = |p: &Problem| Bounds::new(p).best() > slo_us;
            let found: Vec<(Option<Schedule>, u64)> = batch
                .par_iter()
                .map(|p| match &p.best {
                    Some(start) if p.weights < target && !late(&p.part) => {
                        let clock = Clock::new(budget, began);
                        let chain = Chain::new(start, search.seed, clock, Objective::Makespan);
                        let chain = Chain { enough: slo_us, ..chain };
                        let (schedule, evaluations) = anneal(&p.part, chain, &mut Archive::new(None));
                        (Some(schedule), evaluations)
                    }
                    _ => (None, 0),
                })
                .collect();
            for (schedule, count) in found {
                evaluations += count;
                if let Some(s) = schedule {
                    if let Some(f) = frugal(self, &s, memory) {
                        archive.offer(self, f);
                    }
                    archive.offer(self, s);
                }
            }
        }
        evaluations += self.lighten(memory, slo_us, search, began, &groups, &mut archive);
        for (_, schedule) in archive.front.clone() {
            for end in [schedule.makespan, slo_us] {
                archive.offer(self, postponed(self, &schedule, memory, end));
            }
        }
        let reachable_us = archive.front.last().map_or(latency.schedule.makespan, |(_, s)| s.makespan);
        let Some((peak_bytes, schedule)) = archive.best(slo_us).cloned() else {
            let bound_us = Some(Bounds::new(self).best()).filter(|b| *b > slo_us);
            return Err(Error::Slo { slo_us, reachable_us, bound_us });
        };
        let point = |(b, s): &(u64, Schedule)| Point { peak_bytes: *b, makespan_us: s.makespan };
        Ok(Frugal { schedule, peak_bytes, front: archive.front.iter().map(point).collect(), evaluations })
    }

    /// Chains that minimise the peak itself. Returns the number of evaluations.
    fn lighten(
        &self,
        memory: usize,
        slo: f64,
        search: Search,
        began: Instant,
        groups: &[Vec<u32>],
        archive: &mut Archive,
    ) -> u64 {
        let Some((bytes, start)) = archive.best(slo).or(archive.front.last()).cloned() else { return 0 };
        let rest = match search.budget {
            Budget::Evaluations(n) => Budget::Evaluations(n / 2),
            Budget::Time(t) => Budget::Time(t),
        };
        let (count, budget) = chains(rest);
        let objective = Objective::Peak { memory, slo, scale: (bytes as f64).max(1.0) };
        let found: Vec<(Archive, u64)> = (0..count)
            .into_par_iter()
            .map(|chain| {
                let mut own = archive.clone();
                let clock = Clock::new(budget, began);
                let seed = search.seed.wrapping_add(chain << 32);
                let chain = Chain { groups, ..Chain::new(&start, seed, clock, objective) };
                let (_, evaluations) = anneal(self, chain, &mut own);
                (own, evaluations)
            })
            .collect();
        let mut evaluations = 0;
        for (own, count) in found {
            evaluations += count;
            own.front.into_iter().for_each(|(_, s)| archive.offer(self, s));
        }
        evaluations
    }
}

/// Schedules placements of the groups, lightest first.
fn enumerate(problem: &Problem, groups: &[Vec<u32>], memory: usize) -> Vec<Placement> {
    let weigh = |group: &Vec<u32>| {
        crate::peak::weights_in(problem, memory, |t| group.binary_search(&(t as u32)).is_ok())
    };
    let weights: Vec<u64> = groups.iter().map(weigh).collect();
    let masks: Vec<Vec<bool>> = if groups.len() <= ENUMERATED {
        (0..1usize << groups.len())
            .map(|mask| (0..groups.len()).map(|g| mask >> g & 1 == 1).collect())
            .collect()
    } else {
        let mut heaviest: Vec<usize> = (0..groups.len()).collect();
        heaviest.sort_by_key(|&g| std::cmp::Reverse(weights[g]));
        let chain = |k: usize| {
            let mut out = vec![false; groups.len()];
            heaviest[..k].iter().for_each(|&g| out[g] = true);
            out
        };
        (0..=groups.len()).map(chain).collect()
    };
    let mut placements: Vec<Placement> = masks
        .into_par_iter()
        .filter_map(|out| {
            let part = placed(problem, groups, memory, &out)?;
            let best = heft(&part, Channels::Queue, Watch::Nothing);
            let weights = out.iter().zip(&weights).filter(|(out, _)| !**out).map(|(_, w)| w).sum();
            Some(Placement { weights, part, best })
        })
        .collect();
    placements.sort_by_key(|p| p.weights);
    placements
}

/// The placement of a schedule in the order for least peak.
fn frugal(problem: &Problem, schedule: &Schedule, memory: usize) -> Option<Schedule> {
    let to = schedule.processors();
    assigned(problem, Watch::Nothing, &peak_order(problem, &to, memory), &to)
}
