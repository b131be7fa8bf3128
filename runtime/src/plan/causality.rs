//! What a list of phases promises: which step has ended when another one begins.
//!
//! Every step gets a vector clock, found by running the instructions in turns without time. A list that cannot be run to
//! its end so, because somebody waits for a flag that nobody raises any more, is refused: it would wait for ever.

use super::PlanError;
use super::instruction::{Instruction, Phase, join};
use std::ops::Range;

/// Most workers of a plan.
const MOST_WORKERS: usize = 1024;

/// Where a step stands.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) phase: usize,
    /// The worker; 0 for a step together.
    pub(crate) worker: usize,
    /// How many steps of its worker come before it in its phase.
    pub(crate) place: usize,
    /// For every worker, how many of its steps in this phase have ended when this one begins.
    pub(crate) clock: Vec<usize>,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(crate) struct Causality {
    /// By step.
    pub(crate) moments: Vec<Moment>,
    /// Steps in an order in which one thread may run them, by phase.
    pub(crate) serial: Vec<Vec<usize>>,
    /// Number of flags.
    pub(crate) flags: usize,
}

impl Causality {
    /// Of `phases` that run each of `steps` steps once on `workers` workers.
    pub(crate) fn of(phases: &[Phase], steps: usize, workers: usize) -> Result<Self, PlanError> {
        Self::with_copies(phases, steps, 0, workers)
    }

    /// Of `phases` that run each of `steps` steps and make each of `copies` copies once; copies are numbered behind the
    /// steps.
    pub(crate) fn with_copies(
        phases: &[Phase],
        steps: usize,
        copies: usize,
        workers: usize,
    ) -> Result<Self, PlanError> {
        if workers == 0 || workers > MOST_WORKERS {
            return Err(PlanError::invalid(format!("it is for {workers} workers")));
        }
        let mut moments: Vec<Option<Moment>> = vec![None; steps.saturating_add(copies)];
        let mut serial = Vec::with_capacity(phases.len());
        let mut flags = Flags::new(phases);
        let set = |moments: &mut Vec<Option<Moment>>, step: usize, moment: Moment| {
            let slot = moments.get_mut(step);
            let slot = slot.ok_or_else(|| PlanError::invalid(format!("there is no step {step}")))?;
            if slot.replace(moment).is_some() {
                return Err(PlanError::invalid(format!("step {step} runs twice")));
            }
            Ok(())
        };
        for (phase, content) in phases.iter().enumerate() {
            match content {
                Phase::Together { step } => {
                    set(&mut moments, *step, Moment { phase, worker: 0, place: 0, clock: vec![0; workers] })?;
                    serial.push(vec![*step]);
                }
                Phase::Apart { lists } => {
                    if lists.len() != workers {
                        let count = lists.len();
                        return Err(PlanError::invalid(format!(
                            "a phase has {count} lists for {workers} workers"
                        )));
                    }
                    let mut order = Vec::new();
                    let mut next = vec![0; workers];
                    let mut clocks = vec![vec![0usize; workers]; workers];
                    loop {
                        let mut moved = false;
                        for (worker, list) in lists.iter().enumerate() {
                            while let Some(instruction) = list.get(next[worker]) {
                                match *instruction {
                                    Instruction::Wait(flag) => {
                                        let Some((_, clock)) = flags.raised_in(flag, phase)? else { break };
                                        join(&mut clocks[worker], clock);
                                    }
                                    Instruction::Lead { step, threads } => {
                                        let Some(lenders) = met(lists, &next, worker, (step, threads))?
                                        else {
                                            break;
                                        };
                                        for lender in lenders.clone() {
                                            let theirs = clocks[lender].clone();
                                            join(&mut clocks[worker], &theirs);
                                        }
                                        let (place, clock) = (clocks[worker][worker], clocks[worker].clone());
                                        if step >= steps {
                                            return Err(PlanError::invalid(format!(
                                                "there is no step {step}"
                                            )));
                                        }
                                        set(&mut moments, step, Moment { phase, worker, place, clock })?;
                                        clocks[worker][worker] += 1;
                                        order.push(step);
                                        for lender in lenders {
                                            let led = clocks[worker].clone();
                                            clocks[lender].clone_from(&led);
                                            next[lender] += 1;
                                        }
                                    }
                                    // Whoever leads takes it along.
                                    Instruction::Lend(_) => break,
                                    Instruction::Run(_) | Instruction::Copy(_) => {
                                        let step = instruction.action(steps).ok_or_else(|| {
                                            PlanError::invalid(format!(
                                                "there is no step for {instruction:?}"
                                            ))
                                        })?;
                                        let (place, clock) = (clocks[worker][worker], clocks[worker].clone());
                                        set(&mut moments, step, Moment { phase, worker, place, clock })?;
                                        clocks[worker][worker] += 1;
                                        order.push(step);
                                    }
                                    Instruction::Signal(flag) => flags.raise(flag, phase, &clocks[worker])?,
                                }
                                next[worker] += 1;
                                moved = true;
                            }
                        }
                        if !moved {
                            break;
                        }
                    }
                    let stuck = lists.iter().zip(&next).position(|(list, &at)| at < list.len());
                    if let Some(worker) = stuck {
                        return Err(PlanError::invalid(format!("worker {worker} would wait for ever")));
                    }
                    serial.push(order);
                }
            }
        }
        let missing = |step: usize| PlanError::invalid(format!("step {step} never runs"));
        let moments = moments.into_iter().enumerate();
        let moments = moments.map(|(step, m)| m.ok_or_else(|| missing(step))).collect::<Result<_, _>>()?;
        Ok(Self { moments, serial, flags: flags.0.len() })
    }

    /// Whether step `a` has ended when step `b` begins.
    pub(crate) fn before(&self, a: usize, b: usize) -> bool {
        let (first, then) = (&self.moments[a], &self.moments[b]);
        first.phase < then.phase
            || first.phase == then.phase && a != b && then.clock[first.worker] > first.place
    }
}

/// The workers that lend their threads to a step that `worker` leads with so many, once all of them have come to it.
pub(super) fn met(
    lists: &[Vec<Instruction>],
    next: &[usize],
    worker: usize,
    (step, threads): (usize, usize),
) -> Result<Option<Range<usize>>, PlanError> {
    let end = worker.checked_add(threads).filter(|end| threads > 1 && *end <= lists.len());
    let end = end.ok_or_else(|| {
        PlanError::invalid(format!("step {step} is led with {threads} threads by {worker}"))
    })?;
    let lenders = worker + 1..end;
    let there = |lender: usize| lists[lender].get(next[lender]) == Some(&Instruction::Lend(step));
    Ok(lenders.clone().all(there).then_some(lenders))
}

/// When each flag was raised: its phase and the clock of who raised it.
struct Flags(Vec<Option<(usize, Vec<usize>)>>);

impl Flags {
    /// As many as there are signals, since each raises a flag of its own.
    fn new(phases: &[Phase]) -> Self {
        let lists = phases.iter().filter_map(|phase| match phase {
            Phase::Apart { lists } => Some(lists),
            Phase::Together { .. } => None,
        });
        let signals = lists.flatten().flatten().filter(|i| matches!(i, Instruction::Signal(_))).count();
        Self(vec![None; signals])
    }

    fn slot(&mut self, flag: usize) -> Result<&mut Option<(usize, Vec<usize>)>, PlanError> {
        self.0.get_mut(flag).ok_or_else(|| PlanError::invalid(format!("nobody raises flag {flag}")))
    }

    fn raise(&mut self, flag: usize, phase: usize, clock: &[usize]) -> Result<(), PlanError> {
        if self.slot(flag)?.replace((phase, clock.to_vec())).is_some() {
            return Err(PlanError::invalid(format!("flag {flag} is raised twice")));
        }
        Ok(())
    }

    /// What raised `flag`, if it was raised in `phase` or before; a flag of an earlier phase tells nothing of this one.
    fn raised_in(&mut self, flag: usize, phase: usize) -> Result<Option<(usize, &[usize])>, PlanError> {
        match self.slot(flag)? {
            Some((raised, clock)) if *raised == phase => Ok(Some((*raised, clock))),
            Some((raised, _)) => Ok(Some((*raised, &[]))),
            None => Ok(None),
        }
    }
}
