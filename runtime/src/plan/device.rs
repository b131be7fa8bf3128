//! A device beside the CPU in a plan: what the steps cost there, what they keep in its memory, and what copies take.

use super::document::Timing;
use super::instance::{LaneCost, link_of, step_work};
use super::segments::{Joined, joined};
use crate::cost::{DeviceProfile, DeviceSource, DeviceWork, Profile, Rooflines, StepSignature};
use crate::cpu::RunContext;
use crate::cuda::GpuReject;
use crate::cuda::memory::rounded;
use crate::exec::{Accesses, Bound, Brought, DeviceForm, Operand, Piece, Program, StepForm};
use crate::graph::fact::{Fact, Facts};
use std::collections::BTreeMap;

/// A step on the device.
#[derive(Debug)]
pub(crate) struct DeviceStep {
    /// `None` where it was not measured and cannot be estimated.
    pub(crate) cost: Option<(f64, Timing)>,
    pub(crate) workspace: usize,
    /// How much of the device it takes while it runs, at most 1: as long as all that runs side by side takes no more than 1
    /// together, none takes longer than alone.
    pub(crate) share: f64,
    /// What stays in the device's memory for it, by names that steps share where they share the bytes.
    pub(crate) weights: Vec<(String, usize)>,
    /// What it takes where it is brought weights in every run: at once, and its parts apart, where it has several.
    brought: [Option<BroughtCost>; 2],
}

/// What a step takes that is brought its weights.
#[derive(Debug)]
pub(crate) struct BroughtCost {
    /// Bytes of what is copied ahead of it.
    pub(crate) first: usize,
    /// How long what is copied between its launches takes.
    pub(crate) within_us: f64,
    /// How much of the step is over by the last of that.
    pub(crate) ahead_of_last: f64,
    /// Bytes of the room.
    pub(crate) room: usize,
    /// Bytes that are copied in all.
    pub(crate) bytes: usize,
    /// What stays all the same.
    pub(crate) weights: Vec<(String, usize)>,
}

/// The device, and what each step is there: why not, where it does not run there.
#[derive(Debug)]
pub(crate) struct DeviceCosts {
    /// Its lane and memory: `cuda:0`.
    pub(crate) name: String,
    pub(crate) source: DeviceSource,
    pub(crate) steps: Vec<Result<DeviceStep, GpuReject>>,
    /// By step, what it takes among those of its segment, where that was timed.
    joined: Vec<Option<Joined>>,
    /// Whether kernels are to do with little workspace.
    pub(crate) lean: bool,
    /// How much later a kernel begins that waits for another stream; `None` where that is not known.
    pub(crate) event_us: Option<f64>,
    /// Microseconds, and bytes in a microsecond, of a copy to it and from it.
    up: (f64, f64),
    down: (f64, f64),
}

impl DeviceCosts {
    /// The steps of `bound` on the device `name` of `profile`; `None` where the profile does not know it, or not its
    /// links. Where they are to be `lean` and no step takes less memory by that, there is `None`, too.
    pub(crate) fn new(
        name: &str,
        bound: &Bound,
        program: &Program,
        profile: &Profile,
        (lean, context): (bool, RunContext<'_>),
    ) -> Option<Self> {
        let device = profile.devices.get(name)?;
        let (up, down) = (link_of(profile, "host", name)?, link_of(profile, name, "host")?);
        let alike = program.graph().alike();
        let rooflines = Rooflines::new(profile);
        let mut gains = false;
        let step = |step: usize| {
            let form = |lean: bool| bound.device_form(program, step, (device.device(), lean), context);
            let usual = form(false)?;
            let mut cost = cost(step, &usual, bound, program, &rooflines, (name, device));
            let little = if lean { form(true).ok() } else { None };
            let little = little.filter(|little| little.own_bytes() < usual.own_bytes());
            let form = if let Some(little) = little {
                gains = true;
                // It was not measured so, and the usual way was taken because it is faster.
                let estimated = estimate(step, &little, bound, program, &rooflines, (name, device));
                cost = estimated.zip(cost).map(|((us, timing), (usual, _))| (us.max(usual), timing));
                little
            } else {
                usual
            };
            let share = share((step, &form, cost), bound, program, (name, device), profile);
            let workspace = form.kernel.workspace();
            let bring = |apart: bool| {
                let made = form.could_be_brought(apart).filter(|made| !apart || made.turns.len() > 1)?;
                let copies = made.turns.iter().skip(1).map(|turn| up.0 + turn.bytes as f64 / up.1);
                let (first, within_us, room, bytes) = (made.first(), copies.sum(), made.room, made.bytes());
                Some(BroughtCost {
                    first,
                    within_us,
                    ahead_of_last: made.ahead_of_last(form.kernel.part_reads().map_or(1, <[_]>::len)),
                    room,
                    bytes,
                    weights: weights(&form, &alike, Some(&made)),
                })
            };
            let brought = [bring(false), bring(true)];
            Ok(DeviceStep { cost, workspace, share, weights: weights(&form, &alike, None), brought })
        };
        let steps = (0..bound.step_count()).map(step);
        let steps: Vec<Result<DeviceStep, GpuReject>> = steps.collect();
        let us = |step: usize| Some(steps[step].as_ref().ok()?.cost?.0);
        let signature = |step: usize| {
            bound.step_form(program, step).map_or_else(String::new, |form| StepSignature::of(&form).0)
        };
        let signatures: Vec<String> = (0..steps.len()).map(signature).collect();
        let accesses: Vec<Accesses> = (0..steps.len()).map(|step| bound.accesses(program, step)).collect();
        let joined = joined(&accesses, (&signatures, &us), (profile, name));
        let (name, source, event_us) = (name.to_owned(), device.source, device.event_us());
        let costs = Self { name, source, steps, joined, lean, event_us, up, down };
        (gains || !lean).then_some(costs)
    }

    /// How much of the device step `step` takes while it runs.
    pub(crate) fn share(&self, step: usize) -> f64 {
        self.steps[step].as_ref().map_or(1.0, |step| step.share)
    }

    /// The same of all steps.
    pub(crate) fn shares(&self) -> Vec<f64> {
        (0..self.steps.len()).map(|step| self.share(step)).collect()
    }

    /// What step `step` takes there, where it runs there and that is known: among the steps of its segment, where it has one.
    pub(crate) fn cost(&self, step: usize) -> Option<(f64, Timing)> {
        let (us, timing) = self.steps[step].as_ref().ok()?.cost?;
        Some((self.joined[step].as_ref().map_or(us, |joined| joined.us), timing))
    }

    /// The same of a step in this place, and the steps that its time was measured with, itself among them: none where they are not
    /// all in its stream.
    pub(crate) fn cost_among(
        &self,
        step: usize,
        stream: impl Fn(usize) -> Option<usize>,
    ) -> Option<(f64, Timing, usize)> {
        let (us, timing) = self.steps[step].as_ref().ok()?.cost?;
        let whole = |joined: &&Joined| joined.steps.clone().all(|other| stream(other) == stream(step));
        Some(match self.joined[step].as_ref().filter(whole) {
            Some(joined) => (joined.us, timing, joined.steps.len()),
            None => (us, timing, 0),
        })
    }

    /// What copying so many bytes takes.
    pub(crate) fn copy_us(&self, bytes: usize, up: bool) -> f64 {
        let (latency, rate) = self.link(up);
        latency + bytes as f64 / rate
    }

    /// Latency and bytes per microsecond.
    pub(crate) fn link(&self, up: bool) -> (f64, f64) {
        if up { self.up } else { self.down }
    }

    /// How costs that were measured are to be marked.
    pub(crate) fn timing(&self) -> Timing {
        timing(self.source)
    }

    /// What step `step` takes where it is brought its weights, its parts `apart` where it has several.
    pub(crate) fn brought(&self, step: usize, apart: bool) -> Option<&BroughtCost> {
        let [at_once, in_turns] = &self.steps[step].as_ref().ok()?.brought;
        if apart { in_turns.as_ref() } else { at_once.as_ref() }
    }

    /// Whether some step can be brought its weights.
    pub(crate) fn can_bring(&self) -> bool {
        (0..self.steps.len()).any(|step| self.brought(step, false).is_some())
    }

    /// Bytes that stay in the device's memory where these steps run there, each with whether it is brought weights, and its
    /// parts apart then.
    pub(crate) fn weight_bytes(&self, steps: impl Iterator<Item = (usize, Option<bool>)>) -> usize {
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        for (step, brought) in steps {
            let brought = brought.and_then(|apart| self.brought(step, apart));
            let own = self.steps[step].as_ref().map_or(&[][..], |step| &step.weights);
            for (name, bytes) in brought.map_or(own, |brought| &brought.weights) {
                held.insert(name, *bytes);
            }
        }
        held.values().fold(0, |sum, bytes| sum.saturating_add(held_bytes(*bytes)))
    }
}

/// Bytes of the block of a device's memory that holds so many; for none there is no block.
pub(crate) fn held_bytes(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { rounded(bytes).unwrap_or(usize::MAX) }
}

fn timing(source: DeviceSource) -> Timing {
    match source {
        DeviceSource::Measured => Timing::Measured,
        DeviceSource::Emulated => Timing::Emulated,
        DeviceSource::Synthetic => Timing::Synthetic,
    }
}

fn cost(
    step: usize,
    form: &DeviceForm,
    bound: &Bound,
    program: &Program,
    rooflines: &Rooflines<'_>,
    (name, device): (&str, &DeviceProfile),
) -> Option<(f64, Timing)> {
    let step_form = bound.step_form(program, step)?;
    let signature = StepSignature::of(&step_form);
    if let Some(measured) = rooflines.profile().measured(&signature.0, name) {
        return Some((measured.median_us, timing(device.source)));
    }
    estimate(step, form, bound, program, rooflines, (name, device))
}

/// What a step takes by what was measured of others.
fn estimate(
    step: usize,
    form: &DeviceForm,
    bound: &Bound,
    program: &Program,
    rooflines: &Rooflines<'_>,
    (name, device): (&str, &DeviceProfile),
) -> Option<(f64, Timing)> {
    let signature = StepSignature::of(&bound.step_form(program, step)?);
    let cost = step_work(bound, program, step)?;
    let work = DeviceWork {
        cost,
        dtype: dtype(bound, program, step),
        launches: form.launches,
        steps: steps_in_order(bound, program, step),
    };
    if let Some(us) = device.by_rates(work) {
        return Some((us, Timing::Synthetic));
    }
    let kind = signature.0.split(' ').next().unwrap_or_default();
    let estimate = rooflines.of(name, kind)?.estimate(cost.flops, cost.bytes)?;
    Some((estimate, Timing::Estimated))
}

/// The element type that a step computes in.
fn dtype(bound: &Bound, program: &Program, step: usize) -> &'static str {
    let form = bound.step_form(program, step);
    let of = |form: StepForm<'_>| {
        form.inputs.iter().flatten().map(|((dtype, _), _)| *dtype).find(|dtype| dtype.is_float())
    };
    form.and_then(of).map_or("f32", |dtype| dtype.name())
}

/// How much of the device a step takes: as was measured, or, where times are computed from rates, by its blocks and by what it
/// asks of those; else all of it.
fn share(
    (step, form, cost): (usize, &DeviceForm, LaneCost),
    bound: &Bound,
    program: &Program,
    (name, device): (&str, &DeviceProfile),
    profile: &Profile,
) -> f64 {
    let measured = || {
        let signature = StepSignature::of(&bound.step_form(program, step)?);
        profile.operators.get(&signature.0)?.share(name)
    };
    let computed = || {
        let (us, _) = cost?;
        let least = device.least_us(step_work(bound, program, step)?, dtype(bound, program, step))?;
        (us > 0.0).then(|| form.share.max(least / us).min(1.0))
    };
    measured().or_else(computed).unwrap_or(1.0)
}

/// Steps that follow one on the other in a recurrence: the extent of its sequential axis.
fn steps_in_order(bound: &Bound, program: &Program, step: usize) -> usize {
    let found = || {
        let form = bound.step_form(program, step)?;
        let node = form.node?;
        let inputs = bound.step_facts(step)?;
        let given: Vec<Option<&Fact>> = inputs.iter().map(Option::as_ref).collect();
        let outputs = crate::graph::infer_node(&*node.op, Facts(&given)).ok()?;
        let nest = node.op.nest(Facts(&given), &outputs).ok()?;
        let axis = nest.sequential.as_ref()?.axis;
        nest.axes.get(axis)?.known()
    };
    found().unwrap_or(0)
}

/// What stays on the device for a step beside what it is brought; `alike` says which nodes share what they pack.
fn weights(form: &DeviceForm, alike: &[usize], brought: Option<&Brought>) -> Vec<(String, usize)> {
    let mut named = Vec::new();
    let stays = |piece: Piece| brought.is_none_or(|brought| brought.place(piece).is_none());
    let inputs = form.inputs.iter().enumerate().filter(|(at, _)| stays(Piece::Input(*at)));
    for operand in inputs.map(|(_, operand)| operand).chain(&form.outputs) {
        if let Operand::Constant { value, tensor, .. } = operand {
            named.push((format!("value {value}"), tensor.view().bytes().len()));
        }
    }
    let node = form.node;
    let packed = form.kernel.weights().iter().enumerate().filter(|(at, _)| stays(Piece::Packed(*at)));
    let packed = packed.map(|(at, w)| {
        // What is packed for one binding alone is not shared.
        let of =
            if w.shared { format!("node {}", alike[node]) } else { format!("node {node}, weights {at}") };
        (format!("{of} {}", w.form), w.bytes)
    });
    named.extend(packed);
    let data = form.kernel.data().iter().enumerate();
    named.extend(data.map(|(at, bytes)| (format!("node {node} table {at}"), bytes.len())));
    named
}
