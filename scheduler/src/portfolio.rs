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
use crate::local_search::{Budget, Clock, anneal};
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

/// The schedules that need no search, best first.
pub(crate) fn starts(problem: &Problem) -> Vec<Schedule> {
    let lists = Algorithm::ALL.into_par_iter().filter_map(|a| {
        let slow = a == Algorithm::Lookahead && problem.task_count() > LOOKAHEAD_LIMIT;
        if slow { None } else { a.schedule(problem) }
    });
    let memories = (0..problem.memory_count()).into_par_iter().filter_map(|m| single::one_memory(problem, m));
    let processors =
        (0..problem.processor_count()).into_par_iter().filter_map(|p| single::one_processor(problem, p));
    let mut all: Vec<Schedule> = lists.chain(memories).chain(processors).collect();
    // Stable: ties go to the first algorithm.
    all.sort_by(|a, b| a.makespan.total_cmp(&b.makespan));
    all
}

/// Searches for the least makespan. Capacities are not looked at.
///
/// # Returns
/// `None` where no list scheduler and no baseline finds a way over the links.
pub(crate) fn portfolio(problem: &Problem, search: Search) -> Option<Found> {
    let began = Instant::now();
    let starts = starts(problem);
    let best = starts.first()?;
    let threads = rayon::current_num_threads() as u64;
    let (chains, budget) = match search.budget {
        Budget::Evaluations(n) => (CHAINS, Budget::Evaluations(n / CHAINS)),
        Budget::Time(t) => (threads.max(1), Budget::Time(t)),
    };
    let results: Vec<(Schedule, u64)> = (0..chains)
        .into_par_iter()
        .map(|chain| {
            let start = starts.get(chain as usize).unwrap_or(best);
            let seed = search.seed.wrapping_mul(0x1_0001).wrapping_add(chain);
            anneal(problem, start, seed, Clock::new(budget, began))
        })
        .collect();
    let evaluations = results.iter().map(|r| r.1).sum();
    let all = results.into_iter().map(|r| r.0).chain(starts);
    let schedule = all.reduce(|a, b| if b.makespan < a.makespan { b } else { a })?;
    Some(Found { schedule, evaluations })
}

impl Problem {
    /// Searches for the least makespan with the portfolio; see [`Search`].
    pub fn least_makespan(&self, search: Search) -> Option<Found> {
        portfolio(self, search)
    }

    /// Finds the least makespan by branch and bound; for at most 14 tasks.
    ///
    /// # Returns
    /// The optimum, or [`Error::Unproved`] after `nodes` nodes.
    pub fn optimum(&self, nodes: u64) -> Result<Option<Schedule>, Error> {
        let budget = Budget::Evaluations(2000);
        let known = portfolio(self, Search { seed: 0, budget }).map(|f| f.schedule);
        exact(self, Goal::Makespan, known.as_ref(), nodes)
    }

    /// HEFT within one memory: the plan of a machine that has nothing else.
    pub fn all_in_memory(&self, memory: usize) -> Option<Schedule> {
        single::one_memory(self, memory)
    }
}
