//! Planning and following plans over threads and a GPU.

use super::Session;
use super::plans::Followed;
use super::runner::gpu_error;
use super::variants::Variant;
use crate::cost::Profile;
use crate::cpu::RunContext;
use crate::cuda::{Action, CopyPlace, GpuFailure, Layout, PlacedSteps, Sequence};
use crate::device::Device;
use crate::error::Error;
use crate::exec::{Accesses, Bound, Course, DeviceForm, Program, Sizes, Space};
use crate::plan::{
    Ground, Instruction, Moves, Phase, Plan, PlanError, PlannedDevice, There, led_steps, room_offset,
};
use std::sync::Arc;

/// What a plan over threads and a device is checked by.
struct Checking<'a> {
    bound: &'a Bound,
    program: &'a Program,
    plan: &'a Plan,
    planned: &'a PlannedDevice,
    context: RunContext<'a>,
}

/// Why a course was not made, or the bytes of the device's arena where it was only to be checked.
enum Unmade {
    Plan(PlanError),
    Gpu(GpuFailure),
    Checked,
}

impl From<PlanError> for Unmade {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<GpuFailure> for Unmade {
    fn from(error: GpuFailure) -> Self {
        Self::Gpu(error)
    }
}

impl Checking<'_> {
    /// What runs on the device, what is copied for it, and the course along which both go.
    fn course(
        &self,
        spin: std::time::Duration,
        device: recurve_kernels::launch::Device,
        make: impl FnOnce(Vec<(usize, DeviceForm)>, &Moves, usize) -> Result<PlacedSteps, Unmade>,
    ) -> Result<Course, Unmade> {
        let Self { bound, program, plan, planned, context } = *self;
        if let Some(node) = bound.unplaceable(program) {
            return Err(PlanError::DependsOnData { node }.into());
        }
        let accesses: Vec<Accesses> =
            (0..bound.step_count()).map(|step| bound.accesses(program, step)).collect();
        planned.check_brought()?;
        if led_steps(&plan.phases).keys().any(|step| planned.steps.contains(step)) {
            return Err(PlanError::invalid("a step on the device is led by threads").into());
        }
        let mut there: Vec<Option<There>> = vec![None; accesses.len()];
        let mut forms = Vec::with_capacity(planned.steps.len());
        for &step in &planned.steps {
            let slot =
                there.get_mut(step).ok_or_else(|| PlanError::invalid(format!("there is no step {step}")))?;
            let mut form =
                bound.device_form(program, step, (device, planned.lean), context).map_err(|reject| {
                    let node = bound.step_name(program, step).0;
                    GpuFailure::Rejected(vec![(node, bound.step_name(program, step).1, reject)])
                })?;
            let weights = form.bring(planned.brought_to(step))?;
            if slot.replace(There { workspace: form.kernel.workspace(), weights }).is_some() {
                return Err(PlanError::invalid(format!("step {step} is on the device twice")).into());
            }
            forms.push((step, form));
        }
        let sizes = Sizes::of(bound, program);
        let moves = Moves::new(Ground { accesses: &accesses, bytes: &sizes }, &there)?;
        planned.check_streams()?;
        let copies = planned.copies.iter().map(|c| (c.space, c.first, c.bytes, c.up));
        let wanted = moves.copies.iter().map(|m| (m.space, m.bytes.start, m.bytes.len(), m.up));
        if !copies.eq(wanted) {
            return Err(PlanError::invalid("its copies are not those that its placement asks for").into());
        }
        let offsets = (&plan.offsets[..], &planned.offsets[..]);
        let told = moves.clone();
        Course::check_with_device(
            bound,
            program,
            plan.phases.clone(),
            offsets,
            (moves, plan.workers),
            spin,
            |arena| make(forms, &told, arena),
        )
    }
}

/// The order in which a plan gives its device what it does. All of a phase has to be given by one worker.
fn sequence(phases: &[Phase], device: &PlannedDevice) -> Result<Sequence, PlanError> {
    let mut parts: Vec<Vec<Action>> = Vec::new();
    for phase in phases {
        let lists = match phase {
            Phase::Together { step } => {
                let there = device.steps.contains(step);
                parts.extend(there.then(|| vec![Action::Step(*step)]));
                continue;
            }
            Phase::Apart { lists } => lists,
        };
        let gives = |instruction: &Instruction| match *instruction {
            Instruction::Run(step) => device.steps.contains(&step).then_some(Action::Step(step)),
            Instruction::Copy(copy) => Some(Action::Copy(copy)),
            _ => None,
        };
        let mut giving = lists.iter().filter(|list| list.iter().any(|i| gives(i).is_some()));
        let list = giving.next();
        if giving.next().is_some() {
            return Err(PlanError::invalid("two workers give the device what it does at the same time"));
        }
        let mut goes_on = false;
        for instruction in list.into_iter().flatten() {
            match (gives(instruction), parts.last_mut().filter(|_| goes_on)) {
                (Some(action), Some(part)) => part.push(action),
                (Some(action), None) => parts.push(vec![action]),
                // Whoever waits, or does something by itself, may bring what is given next.
                (None, _) if !matches!(instruction, Instruction::Signal(_)) => goes_on = false,
                (None, _) => continue,
            }
            goes_on |= gives(instruction).is_some();
        }
    }
    beside(&mut parts, device)?;
    let streams = device.steps.iter().copied().zip(device.streams.iter().copied()).collect();
    Ok(Sequence { parts, streams })
}

/// Puts copies that go on beside a step behind its head. They stand ahead of it where they are told of, so that what they
/// write is nobody's from there on, and the steps that they are for come behind it.
fn beside(parts: &mut [Vec<Action>], device: &PlannedDevice) -> Result<(), PlanError> {
    for (copy, planned) in device.copies.iter().enumerate() {
        let Space::Weights(step) = planned.space else { continue };
        let Some(beside) = device.brought_to(step).and_then(|brought| brought.beside) else { continue };
        let place = |action: Action| parts.iter().flatten().position(|other| *other == action);
        let [copied, around, read] =
            [Action::Copy(copy), Action::Step(beside), Action::Step(step)].map(place);
        if copied.is_none() || around <= copied || read <= around {
            let what = format!("the weights of step {step} are not copied ahead of step {beside} and it");
            return Err(PlanError::invalid(what));
        }
        parts.iter_mut().for_each(|part| part.retain(|action| *action != Action::Copy(copy)));
        let Some(part) = parts.iter_mut().find(|part| part.contains(&Action::Step(beside))) else { continue };
        let at = part.iter().position(|action| *action == Action::Step(beside)).unwrap_or(0);
        part.insert(at, Action::Copy(copy));
        if !part.contains(&Action::Head(beside)) {
            part.insert(at, Action::Head(beside));
        }
    }
    Ok(())
}

impl Session {
    /// Checks `plan`, of which some steps run on a device. Where it is `here`, that is opened, and what the steps keep in
    /// its memory is brought there.
    pub(super) fn check_placed(
        &self,
        variant: &Variant,
        bound: Arc<Bound>,
        plan: &Plan,
        planned: &PlannedDevice,
        context: RunContext<'_>,
    ) -> Result<Followed, Error> {
        let device: Device = planned.device.parse()?;
        let program = variant.program.clone();
        // One launches: with one thread there are two workers, of which the other runs what is on the CPU.
        let wanted = self.engine.threads().max(2);
        if plan.workers != wanted {
            let what = format!("{} threads; the engine has {}", plan.workers, self.engine.threads());
            return Err(PlanError::Other { what }.into());
        }
        let on = self.devices.program(device, &program, (&self.engine, &self.budget))?;
        let checking = Checking { bound: &bound, program: &program, plan, planned, context };
        let spin = self.engine.0.team.spin();
        let course = checking.course(spin, on.device(), |forms, moves, arena| {
            let space = |space: Space| room_offset(moves, &planned.offsets, space);
            let workspace = |step: usize| planned.offsets.get(moves.workspaces[step]?).copied();
            let copies = moves.copies.iter().map(|copy| {
                let room = space(copy.space).ok_or_else(|| PlanError::invalid("a copy of nothing"))?;
                let weights = match copy.space {
                    Space::Weights(step) => Some(step),
                    _ => None,
                };
                let (offset, bytes) = (room + copy.bytes.start, copy.bytes.len());
                Ok(CopyPlace { up: copy.up, offset, bytes, weights })
            });
            let copies = copies.collect::<Result<Vec<_>, PlanError>>()?;
            let layout = Layout { space: &space, workspace: &workspace, arena };
            let sequence = sequence(&plan.phases, planned)?;
            Ok(PlacedSteps::new(on.clone(), forms, (copies, &sequence), &layout, context.interrupt)?)
        });
        let course = course.map_err(|unmade| match unmade {
            Unmade::Plan(error) => error.into(),
            Unmade::Gpu(failure) => gpu_error(failure, device, 0, context),
            Unmade::Checked => PlanError::invalid("it was only checked").into(),
        })?;
        let (rewrite, inputs) = (plan.rewrite.clone(), plan.inputs.clone());
        Ok(Followed { rewrite, inputs, bound, course, program, device: Some(device), late: None })
    }

    /// Checks `plan`, of which some steps run on a device of `profile`, without that device.
    pub(super) fn check_unplaced(
        &self,
        variant: &Variant,
        bound: &Bound,
        plan: &Plan,
        profile: &Profile,
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        let Some(planned) = &plan.device else { return Ok(()) };
        let unknown = || PlanError::UnknownDevice { device: planned.device.clone() };
        let device = profile.devices.get(&planned.device).ok_or_else(unknown)?;
        let checking = Checking { bound, program: &variant.program, plan, planned, context };
        let spin = self.engine.0.team.spin();
        match checking.course(spin, device.device(), |_, _, _| Err(Unmade::Checked)) {
            Ok(_) | Err(Unmade::Checked) => Ok(()),
            Err(Unmade::Plan(error)) => Err(error.into()),
            Err(Unmade::Gpu(failure)) => Err(gpu_error(failure, Device::Cpu, 0, context)),
        }
    }
}
