//! Instructions of the workers, and how they are made of an order of steps.
//!
//! A plan is a list of phases. In a phase *together*, one step runs on all workers at once, its kernel sharing the work out
//! as it does without a plan. In a phase *apart*, every worker has a list of its own, and a step that needs what another
//! worker makes waits for that worker's flag. A step there may be *led* by one worker with the threads of those right behind it,
//! which *lend* them: they meet there, and go on when it has ended. A phase begins when the one before has ended on all workers.

use super::PlanError;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What a worker does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Instruction {
    /// Waits until the flag is raised.
    Wait(usize),
    /// Runs a step on this worker alone.
    Run(usize),
    /// Raises the flag.
    Signal(usize),
    /// Copies from one memory to another, as the plan's list of copies says.
    Copy(usize),
    /// Runs a step with the threads of several workers, this one and those right behind it.
    Lead {
        /// The step.
        step: usize,
        /// How many.
        threads: usize,
    },
    /// Lends this worker's thread to the step until that has ended.
    Lend(usize),
}

impl Instruction {
    /// The number of what it does among `steps` steps and the copies behind them; `None` where it does nothing.
    pub(crate) fn action(self, steps: usize) -> Option<usize> {
        match self {
            Self::Run(step) | Self::Lead { step, .. } => (step < steps).then_some(step),
            Self::Copy(copy) => steps.checked_add(copy),
            Self::Wait(_) | Self::Signal(_) | Self::Lend(_) => None,
        }
    }
}

/// What happens between two moments at which all workers meet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Phase {
    /// One step on all workers.
    Together {
        /// The step.
        step: usize,
    },
    /// A list for each worker.
    Apart {
        /// By worker.
        lists: Vec<Vec<Instruction>>,
    },
}

/// The steps that one worker leads, with the threads that they run on.
pub(crate) fn led_steps(phases: &[Phase]) -> HashMap<usize, usize> {
    let lists = phases.iter().flat_map(|phase| match phase {
        Phase::Apart { lists } => &lists[..],
        Phase::Together { .. } => &[],
    });
    let led = lists.flatten().filter_map(|instruction| match *instruction {
        Instruction::Lead { step, threads } => Some((step, threads)),
        _ => None,
    });
    led.collect()
}

/// Where a step runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Lane {
    /// On one worker.
    Worker(usize),
    /// On some, of which the first leads.
    Some { first: usize, threads: usize },
    /// On all.
    All,
}

/// How many of so many workers a step may be shared by, where that is neither one nor all: powers of two, since kernels share
/// work out evenly.
pub(crate) fn gang_sizes(workers: usize) -> impl Iterator<Item = usize> {
    let sizes = std::iter::successors(Some(2usize), |size| size.checked_mul(2));
    sizes.take_while(move |size| workers <= MOST_IN_GANGS && 2 * size <= workers)
}

/// Workers beyond which a step is shared by one or by all: those that wait for each other are the more the more there are.
const MOST_IN_GANGS: usize = 32;

/// Phases that run the steps in `order`, of which each comes after those that it depends on: `needs[step]`. Only what is
/// not implied by an earlier wait is waited for. Also the number of flags.
pub(crate) fn phases(
    order: &[(usize, Lane)],
    needs: &[Vec<usize>],
    workers: usize,
) -> Result<(Vec<Phase>, usize), PlanError> {
    phases_with_copies(order, needs, needs.len(), workers)
}

/// The same where what has a number from `steps` on is a copy.
pub(crate) fn phases_with_copies(
    order: &[(usize, Lane)],
    needs: &[Vec<usize>],
    steps: usize,
    workers: usize,
) -> Result<(Vec<Phase>, usize), PlanError> {
    let mut phases = Vec::new();
    let mut open = Open::new(workers);
    // Phase in which a step ran, and where.
    let mut done: Vec<Option<(usize, Lane)>> = vec![None; needs.len()];
    // Flag of a step, once somebody waits for it; the place of a step on its list.
    let mut flags: Vec<Option<usize>> = vec![None; needs.len()];
    let mut place = vec![0; needs.len()];
    let mut clock_of: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut flag_count = 0;
    for &(step, lane) in order {
        let unordered = || PlanError::invalid(format!("step {step} comes before one that it needs"));
        let before: Vec<(usize, usize, Lane)> = needs[step]
            .iter()
            .map(|&n| done[n].map(|(phase, lane)| (n, phase, lane)).ok_or_else(unordered))
            .collect::<Result<_, _>>()?;
        match lane {
            Lane::All => {
                open.close(&mut phases, &flags, steps);
                done[step] = Some((phases.len(), lane));
                phases.push(Phase::Together { step });
            }
            Lane::Worker(_) | Lane::Some { .. } => {
                let (worker, threads) = match lane {
                    Lane::Some { first, threads } => (first, threads),
                    Lane::Worker(worker) => (worker, 1),
                    Lane::All => (0, workers),
                };
                if threads == 0 || worker.checked_add(threads).is_none_or(|end| end > workers) {
                    return Err(PlanError::invalid(format!("step {step} is on workers that are not there")));
                }
                // Those that lend meet there with what they know to have ended.
                for lender in worker + 1..worker + threads {
                    let theirs = open.clocks[lender].clone();
                    join(&mut open.clocks[worker], &theirs);
                }
                // The latest need on every other worker that is not known to have ended by now.
                let latest = |other: usize| {
                    let there = |(_, phase, lane): &&(usize, usize, Lane)| {
                        *phase == phases.len() && *lane == Lane::Worker(other)
                    };
                    let needed = before.iter().filter(there).map(|(n, ..)| *n).max_by_key(|n| place[*n])?;
                    (open.clocks[worker][other] <= place[needed]).then_some((other, needed))
                };
                let open_needs: Vec<(usize, usize)> =
                    (0..workers).filter(|&other| other != worker).filter_map(latest).collect();
                // What another of these waits for is not waited for again.
                let implied = |(other, needed): (usize, usize)| {
                    open_needs.iter().any(|&(_, n)| n != needed && clock_of[n][other] > place[needed])
                };
                let waits: Vec<usize> =
                    open_needs.iter().filter(|need| !implied(**need)).map(|(_, n)| *n).collect();
                for needed in waits {
                    let flag = *flags[needed].get_or_insert_with(|| {
                        flag_count += 1;
                        flag_count - 1
                    });
                    open.lists[worker].push(Entry::Wait(flag));
                    join(&mut open.clocks[worker], &clock_of[needed]);
                }
                place[step] = open.clocks[worker][worker];
                open.clocks[worker][worker] += 1;
                clock_of[step].clone_from(&open.clocks[worker]);
                open.lists[worker].push(Entry::Run(step, threads));
                for lender in worker + 1..worker + threads {
                    open.lists[lender].push(Entry::Lend(step));
                    open.clocks[lender].clone_from(&clock_of[step]);
                }
                done[step] = Some((phases.len(), Lane::Worker(worker)));
            }
        }
    }
    open.close(&mut phases, &flags, steps);
    Ok((phases, flag_count))
}

/// Makes `clock` know what `other` knows.
pub(crate) fn join(clock: &mut [usize], other: &[usize]) {
    for (own, theirs) in clock.iter_mut().zip(other) {
        *own = (*own).max(*theirs);
    }
}

enum Entry {
    Wait(usize),
    /// A step, and the threads that it runs on.
    Run(usize, usize),
    Lend(usize),
}

/// A phase apart that is being made.
struct Open {
    lists: Vec<Vec<Entry>>,
    /// `clocks[a][b]`: how many steps of `b` are done for sure where `a` is now.
    clocks: Vec<Vec<usize>>,
}

impl Open {
    fn new(workers: usize) -> Self {
        Self { lists: (0..workers).map(|_| Vec::new()).collect(), clocks: vec![vec![0; workers]; workers] }
    }

    /// Adds the phase, if anything runs in it, with a signal behind every step that is waited for.
    fn close(&mut self, phases: &mut Vec<Phase>, flags: &[Option<usize>], steps: usize) {
        let workers = self.lists.len();
        let closed = std::mem::replace(self, Self::new(workers));
        if closed.lists.iter().all(Vec::is_empty) {
            return;
        }
        // What one worker does alone, the caller does.
        let mut lists = closed.lists;
        let busy: Vec<usize> = (0..workers).filter(|&w| !lists[w].is_empty()).collect();
        if let [only] = busy[..] {
            lists.swap(0, only);
        }
        let written = |list: Vec<Entry>| {
            let mut instructions = Vec::new();
            for entry in list {
                match entry {
                    Entry::Wait(flag) => instructions.push(Instruction::Wait(flag)),
                    Entry::Lend(step) => instructions.push(Instruction::Lend(step)),
                    Entry::Run(step, threads) => {
                        instructions.push(match step.checked_sub(steps) {
                            Some(copy) => Instruction::Copy(copy),
                            None if threads > 1 => Instruction::Lead { step, threads },
                            None => Instruction::Run(step),
                        });
                        instructions.extend(flags[step].map(Instruction::Signal));
                    }
                }
            }
            instructions
        };
        phases.push(Phase::Apart { lists: lists.into_iter().map(written).collect() });
    }
}
