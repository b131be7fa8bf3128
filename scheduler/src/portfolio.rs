//! The portfolio: the best of the list schedulers and baselines, improved by annealing.
//!
//! Every list scheduler, every single memory and every single processor give a schedule; the best of them start
//! chains of [`crate::local_search`], and the best schedule met by anything is the answer. So it is never worse
//! than any single memory or processor.
//!
//! With a budget of evaluations there are always [`CHAINS`] chains with equal shares, whatever the number of
//! threads, and ties go to the first; the answer then depends on the seed alone. With a budget of time there is
//! one chain per thread.

use std::time::Instant;

use rayon::prelude::*;

use crate::algorithm::Algorithm;
use crate::error::Error;
use crate::exact::{Goal, exact};
use crate::local_search::{Budget, Chain, Clock, anneal};
use crate::objective::{Archive, Objective};
use crate::partial::Watch;
use crate::peak::{fits, least_peak, overflow};
use crate::schedule::Schedule;
use crate::{Problem, single};

/// Chains of annealing under a budget of evaluations.
const CHAINS: u64 = 2;
/// Lookahead HEFT is left out above this many tasks.
const LOOKAHEAD_LIMIT: usize = 2000;

/// Seed and budget of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Seed of the random choices.
    pub seed: u64,
    /// When to stop.
    pub budget: Budget,
}

/// What the portfolio found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The schedule.
    pub schedule: Schedule,
    /// Moves evaluated.
    pub evaluations: u64,
}

impl Search {
    /// The same search with a part of the budget.
    pub(crate) fn part(self, numerator: u32, denominator: u32) -> Self {
        let budget = match self.budget {
            Budget::Evaluations(n) => Budget::Evaluations(n * u64::from(numerator) / u64::from(denominator)),
            Budget::Time(t) => Budget::Time(t * numerator / denominator),
        };
        Self { budget, ..self }
    }
}

/// The schedules that need no search, best first.
pub(crate) fn starts(problem: &Problem) -> Vec<Schedule> {
    let binds = problem.capacity_may_bind();
    let watches = if binds { &[Watch::Nothing, Watch::Capacities][..] } else { &[Watch::Nothing][..] };
    let lists = Algorithm::ALL.into_par_iter().flat_map_iter(|a| {
        let slow = a == Algorithm::Lookahead && problem.task_count() > LOOKAHEAD_LIMIT;
        watches.iter().filter_map(move |&w| if slow { None } else { a.run(problem, w) })
    });
    let nothing = Watch::Nothing;
    let memories =
        (0..problem.memory_count()).into_par_iter().filter_map(|m| single::one_memory(problem, nothing, m));
    let processors = (0..problem.processor_count())
        .into_par_iter()
        .filter_map(|p| single::one_processor(problem, nothing, p));
    let mut all: Vec<Schedule> = lists.chain(memories).chain(processors).collect();
    // Stable: ties go to the first algorithm.
    all.sort_by(|a, b| a.makespan.total_cmp(&b.makespan));
    all
}

/// Number of chains and the budget of each.
pub(crate) fn chains(budget: Budget) -> (u64, Budget) {
    match budget {
        Budget::Evaluations(n) => (CHAINS, Budget::Evaluations(n / CHAINS)),
        Budget::Time(t) => ((rayon::current_num_threads() as u64).max(1), Budget::Time(t)),
    }
}

/// Searches for the least makespan within the capacities.
pub(crate) fn portfolio(problem: &Problem, search: Search) -> Result<Found, Error> {
    let began = Instant::now();
    let mut starts = starts(problem);
    let mut objective = Objective::Makespan;
    if problem.capacity_may_bind() {
        objective = Objective::MakespanWithin;
        let any = starts.first().cloned();
        starts.retain(|s| fits(problem, s));
        if let (true, Some(any)) = (starts.is_empty(), any) {
            starts.push(repaired(problem, &any, search, began)?);
        }
    }
    let best = starts.first().ok_or(Error::DeadEnd)?;
    let (count, budget) = chains(search.budget);
    let results: Vec<(Schedule, u64)> = (0..count)
        .into_par_iter()
        .map(|chain| {
            let start = starts.get(chain as usize).unwrap_or(best);
            let seed = search.seed.wrapping_mul(0x1_0001).wrapping_add(chain);
            let chain = Chain::new(start, seed, Clock::new(budget, began), objective);
            anneal(problem, chain, &mut Archive::new(None))
        })
        .collect();
    let evaluations = results.iter().map(|r| r.1).sum();
    let all = results.into_iter().map(|r| r.0).chain(starts);
    let schedule = all.reduce(|a, b| if b.makespan < a.makespan { b } else { a }).ok_or(Error::DeadEnd)?;
    Ok(Found { schedule, evaluations })
}

/// A schedule within the capacities, by annealing the overflow away.
fn repaired(problem: &Problem, start: &Schedule, search: Search, began: Instant) -> Result<Schedule, Error> {
    let (_, budget) = chains(search.part(1, 2).budget);
    let chain = Chain::new(start, search.seed, Clock::new(budget, began), Objective::Overflow);
    let groups = crate::groups::groups(problem);
    let chain = Chain { enough: 0.0, groups: &groups, ..chain };
    let (schedule, _) = anneal(problem, chain, &mut Archive::new(None));
    let Some((m, peak)) = overflow(problem, &schedule) else { return Ok(schedule) };
    let capacity = problem.capacity[m].unwrap_or(u64::MAX);
    Err(Error::Capacity {
        memory: problem.names.memories[m].clone(),
        capacity,
        reachable: Some(peak),
        bound: Some(least_peak(problem, m)).filter(|b| *b > capacity),
    })
}

impl Problem {
    /// Searches for the least makespan within the capacities.
    ///
    /// # Returns
    /// The best schedule found, never longer than everything in one memory or on one processor where that fits;
    /// [`Error::Capacity`] where nothing was found that fits, [`Error::DeadEnd`] where the links let nothing through.
    ///
    /// # Complexity
    /// As the list schedulers; then the budget.
    ///
    /// # Example
    /// ```
    /// use recurve_scheduler::{Budget, Instance, Problem, Search};
    /// let problem = Problem::new(&Instance::read("tests/data/t02.json".as_ref())?)?;
    /// let found = problem.least_makespan(Search { seed: 1, budget: Budget::Evaluations(20_000) })?;
    /// assert_eq!(found.schedule.makespan, 73.0);
    /// # Ok::<(), recurve_scheduler::Error>(())
    /// ```
    pub fn least_makespan(&self, search: Search) -> Result<Found, Error> {
        portfolio(self, search)
    }

    /// Finds the least makespan within the capacities by branch and bound; for at most 14 tasks.
    ///
    /// # Returns
    /// The optimum, `None` where no schedule exists, or [`Error::Unproved`] after `nodes` nodes.
    pub fn optimum(&self, nodes: u64) -> Result<Option<Schedule>, Error> {
        let budget = Budget::Evaluations(2000);
        let known = portfolio(self, Search { seed: 0, budget }).ok().map(|f| f.schedule);
        exact(self, Goal::Makespan, known.as_ref(), nodes)
    }

    /// Finds the least peak of `memory` with a makespan of at most `slo_us` by branch and bound; for at most 14
    /// tasks. The schedule may start things later than it could, to let others end before.
    pub fn optimal_peak(&self, memory: usize, slo_us: f64, nodes: u64) -> Result<Option<Schedule>, Error> {
        exact(self, Goal::Peak { memory, slo: slo_us }, None, nodes)
    }

    /// HEFT with channels within one memory: the plan of a machine that has nothing else.
    pub fn all_in_memory(&self, memory: usize) -> Option<Schedule> {
        single::one_memory(self, Watch::Nothing, memory)
    }

    /// Everything on one processor, in the order by rank.
    pub fn all_on_processor(&self, processor: usize) -> Option<Schedule> {
        single::one_processor(self, Watch::Nothing, processor)
    }
}
