//! A plan checked against a binding: following it gives the results of the serial order.
//!
//! Checked is that every step runs once, that nobody waits for ever, that what a step reads was written by steps that have
//! ended by then, and that two values which share bytes of the arena are never alive at the same time. That is what makes
//! it sound that workers read and write one arena side by side; only [`Course::check`] makes a course.

use super::access::{Access, Accesses, Space};
use super::arena::STEP;
use super::bind::{Bound, Located, Place};
use super::ends::HostTouches;
use super::flags::Flags;
use super::program::Program;
use super::team::lent::{Led, Lent};
use crate::cuda::{GpuUse, PlacedSteps};
use crate::error::OpError;
use crate::memory::{Budget, Buffer};
use crate::plan::{Causality, Lifetimes, Move, Moves, Phase, PlanError, led_steps};
use crate::precision::StoredWeights;
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Course {
    pub(super) phases: Vec<Phase>,
    /// Steps of each phase in an order for one thread.
    pub(super) serial: Vec<Vec<usize>>,
    /// Where every value lies.
    pub(super) values: Vec<Located>,
    /// Where every tenant of the arena lies.
    pub(super) offsets: Vec<usize>,
    /// What runs on a device.
    pub(super) device: Option<DeviceCourse>,
    /// What of inputs and outputs the host touches, once somebody has asked.
    pub(super) touched: OnceLock<HostTouches>,
    /// Steps that one worker leads.
    led: HashMap<usize, Led>,
    flags: usize,
    arena: usize,
    /// Scratch memory of each worker.
    scratch: Vec<usize>,
    spin: Duration,
    states: Mutex<Vec<CourseState>>,
}

/// What runs on a device, and what is copied for it.
#[derive(Debug)]
pub(super) struct DeviceCourse {
    pub(super) steps: PlacedSteps,
    pub(super) copies: Vec<Move>,
}

/// The memory of one run, reused by later ones.
#[derive(Debug)]
pub(super) struct CourseState {
    pub(super) arena: Buffer,
    pub(super) scratch: Vec<Buffer>,
    pub(super) flags: Flags,
    /// The threads of steps that one worker leads.
    pub(super) lent: HashMap<usize, Lent>,
    /// Runs so far.
    pub(super) runs: u64,
}

impl Course {
    /// What the part on the device takes of it.
    pub(crate) fn gpu_use(&self) -> Option<GpuUse> {
        self.device.as_ref().map(|device| device.steps.usage())
    }

    /// What the steps on the device have weights in.
    pub(crate) fn stored(&self) -> Vec<StoredWeights> {
        self.device.as_ref().map_or_else(Vec::new, |device| device.steps.stored())
    }

    /// `phases` for `workers` workers with the tenants of the arena at `offsets`, checked. Who waits polls for `spin`.
    pub(crate) fn check(
        bound: &Bound,
        program: &Program,
        phases: Vec<Phase>,
        offsets: &[usize],
        workers: usize,
        spin: Duration,
    ) -> Result<Self, PlanError> {
        let accesses: Vec<Accesses> =
            (0..bound.steps.len()).map(|step| bound.accesses(program, step)).collect();
        Self::checked(bound, program, phases, (offsets, &bound.tenant_bytes()), (&accesses, workers), spin)
            .map(|(course, _)| course)
    }

    /// The same where some steps run on a device, whose arena has its rooms at `there`: `moves` says what is copied, and
    /// nothing may be wrong in either memory. `device` is asked for what runs there once all is found to be valid; it is
    /// given the bytes of the device's arena.
    pub(crate) fn check_with_device<E: From<PlanError>>(
        bound: &Bound,
        program: &Program,
        phases: Vec<Phase>,
        (offsets, there): (&[usize], &[usize]),
        (moves, workers): (Moves, usize),
        spin: Duration,
        device: impl FnOnce(usize) -> Result<PlacedSteps, E>,
    ) -> Result<Self, E> {
        let bytes = moves.host_bytes(&bound.tenant_bytes());
        let (mut course, causality) =
            Self::checked(bound, program, phases, (offsets, &bytes), (&moves.host, workers), spin)?;
        check_order(&moves.device, &causality)?;
        let lifetimes = Lifetimes::new(&causality, &moves.device, moves.rooms.len(), workers);
        let bytes: Vec<usize> = moves.rooms.iter().map(|(_, bytes)| *bytes).collect();
        let arena = check_offsets(&bytes, there, &lifetimes)?;
        course.device = Some(DeviceCourse { steps: device(arena)?, copies: moves.copies });
        Ok(course)
    }

    /// Checks what happens in the host's memory. Actions are steps, and copies behind them.
    fn checked(
        bound: &Bound,
        program: &Program,
        phases: Vec<Phase>,
        (offsets, bytes): (&[usize], &[usize]),
        (accesses, workers): (&[Accesses], usize),
        spin: Duration,
    ) -> Result<(Self, Causality), PlanError> {
        if let Some(node) = bound.unplaceable(program) {
            return Err(PlanError::DependsOnData { node });
        }
        let steps = bound.steps.len();
        let causality = Causality::with_copies(&phases, steps, accesses.len() - steps, workers)?;
        check_order(accesses, &causality)?;
        let lifetimes = Lifetimes::new(&causality, accesses, bound.tenants.len(), workers);
        let arena = check_offsets(bytes, offsets, &lifetimes)?;

        let mut scratch = vec![0; workers];
        for step in 0..steps {
            let bytes = bound.scratch_of(step);
            // Worker 0 runs everything where it is alone.
            for worker in [0, causality.moments[step].worker] {
                scratch[worker] = scratch[worker].max(bytes);
            }
        }
        let mut values = bound.values.clone();
        for value in &mut values {
            if let Place::Arena { tenant, offset, .. } = &mut value.place {
                *offset = *offset - bound.tenants[*tenant].0 + offsets[*tenant];
            }
        }
        let ((led, flags), serial) = (led(&phases, &causality), causality.serial.clone());
        let states = Mutex::default();
        let (offsets, device, touched) = (offsets.to_vec(), None, OnceLock::new());
        let course = Self {
            phases,
            serial,
            values,
            offsets,
            device,
            touched,
            led,
            flags,
            arena,
            scratch,
            spin,
            states,
        };
        Ok((course, causality))
    }

    /// Memory for a run.
    pub(super) fn take_state(&self, budget: &Budget) -> Result<CourseState, OpError> {
        if let Some(state) = self.states.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(state);
        }
        Ok(CourseState {
            arena: Buffer::zeroed(self.arena, budget)?,
            scratch: self.scratch.iter().map(|&n| Buffer::zeroed(n, budget)).collect::<Result<_, _>>()?,
            flags: Flags::new(self.flags, self.spin),
            lent: self.led.iter().map(|(step, led)| (*step, Lent::new(*led, self.spin))).collect(),
            runs: 0,
        })
    }

    /// Keeps memory for a later run.
    pub(super) fn put_back(&self, state: CourseState) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).push(state);
    }
}

/// The steps that one worker leads, and how many flags there are with theirs, which come behind those of the plan.
pub(super) fn led(phases: &[Phase], causality: &Causality) -> (HashMap<usize, Led>, usize) {
    let mut flags = causality.flags;
    let mut led = HashMap::new();
    for (step, threads) in led_steps(phases) {
        led.insert(step, Led { leader: causality.moments[step].worker, threads, first_flag: flags });
        flags += threads;
    }
    (led, flags)
}

/// Errs unless every read comes after all writes of what it reads, and no byte of a space is written twice.
fn check_order(accesses: &[Accesses], causality: &Causality) -> Result<(), PlanError> {
    let mut writes: HashMap<Space, Vec<(usize, &Access)>> = HashMap::new();
    for (step, of) in accesses.iter().enumerate() {
        for write in &of.writes {
            let others = writes.entry(write.space).or_default();
            if let Some((other, _)) = others.iter().find(|(_, w)| w.meets(write)) {
                return Err(PlanError::invalid(format!("steps {other} and {step} write the same bytes")));
            }
            others.push((step, write));
        }
    }
    for (step, of) in accesses.iter().enumerate() {
        for read in &of.reads {
            let of_space = writes.get(&read.space).into_iter().flatten();
            let early = of_space.filter(|(_, w)| w.meets(read)).find(|(w, _)| !causality.before(*w, step));
            if let Some((writer, _)) = early {
                return Err(PlanError::invalid(format!(
                    "step {step} may read before step {writer} has written"
                )));
            }
        }
    }
    Ok(())
}

/// The bytes of the arena, unless tenants that may be alive at the same time overlap.
fn check_offsets(bytes: &[usize], offsets: &[usize], lifetimes: &Lifetimes<'_>) -> Result<usize, PlanError> {
    if bytes.len() != offsets.len() {
        let (wanted, found) = (bytes.len(), offsets.len());
        return Err(PlanError::invalid(format!("it places {found} values in the arena instead of {wanted}")));
    }
    let mut placed = Vec::with_capacity(bytes.len());
    for (tenant, (&offset, &bytes)) in offsets.iter().zip(bytes).enumerate() {
        let end = offset.checked_add(bytes).filter(|_| offset.is_multiple_of(STEP));
        let end = end.ok_or_else(|| PlanError::invalid(format!("nothing can lie at byte {offset}")))?;
        placed.push((offset, end, tenant));
    }
    placed.sort_unstable();
    let mut alive: Vec<(usize, usize, usize)> = Vec::new();
    for &(offset, end, tenant) in &placed {
        alive.retain(|(_, end, _)| *end > offset);
        if let Some((_, _, other)) = alive.iter().find(|(_, _, other)| lifetimes.conflict(tenant, *other)) {
            let what = format!("values {other} and {tenant} share bytes of the arena at the same time");
            return Err(PlanError::invalid(what));
        }
        if end > offset {
            alive.push((offset, end, tenant));
        }
    }
    Ok(placed.iter().map(|(_, end, _)| *end).max().unwrap_or(0))
}
