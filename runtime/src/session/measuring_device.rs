//! Measuring a model's operators on a GPU, and what handing it work costs.

use super::Session;
use super::runner::gpu_error;
use super::variants::Variant;
use crate::cost::{DeviceProfile, DeviceSource, Effort, LinkTime, OperatorCost, Profile, StepSignature};
use crate::cpu::RunContext;
use crate::cuda::{GpuFailure, GpuProgram};
use crate::device::Device;
use crate::error::Error;
use crate::exec::{Accesses, Bound};
use crate::graph::NodeError;
use crate::plan::{segment_name, segments, step_work};
use crate::tensor::ValueRef;
use std::sync::Arc;

impl Session {
    /// Adds to `fresh` what `known` does not have of `device`: each step of the variants that runs there, by itself.
    /// `progress` is told of each measurement, and of how many are left.
    pub(super) fn measure_device(
        &self,
        (device, effort): (Device, Effort),
        variants: &[Variant],
        values: &[ValueRef<'_>],
        (known, fresh): (&Profile, &mut Profile),
        progress: &dyn Fn(usize, usize),
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        let name = device.to_string();
        let failed = |failure: GpuFailure| gpu_error(failure, device, 0, context);
        let mut wanted: Vec<(String, Arc<GpuProgram>, Arc<Bound>, usize, &Variant)> = Vec::new();
        let mut first = None;
        for variant in variants {
            let program = &variant.program;
            let on = self.devices.program(device, program, (&self.engine, &self.budget))?;
            let bound = program.bind(values, context).map_err(NodeError::at_run)?;
            for step in 0..bound.step_count() {
                let Some(form) = bound.step_form(program, step) else { continue };
                let signature = StepSignature::of(&form).0;
                let is_known = known.measured(&signature, &name).is_some();
                if !is_known && !wanted.iter().any(|(of, ..)| *of == signature) {
                    wanted.push((signature, on.clone(), bound.clone(), step, variant));
                }
            }
            first.get_or_insert(on);
        }
        if let Some(on) = first
            && !known.devices.contains_key(&name)
        {
            let measured = measure_overheads(&on, device, effort, context).map_err(failed)?;
            fresh.devices.insert(name.clone(), measured.0);
            fresh.links.extend(measured.1);
        }
        let all = wanted.len();
        for (at, (signature, on, bound, step, Variant { program, .. })) in wanted.into_iter().enumerate() {
            context.interrupt.check().map_err(|source| {
                NodeError { node: signature.clone(), op: "profile".to_owned(), source }.at_run()
            })?;
            // What does not run there has no time there.
            if let Ok(form) = bound.device_form(program, step, (on.device(), false), context) {
                let measured = on.measure(form, effort, context.interrupt).map_err(failed)?;
                let work = step_work(&bound, program, step);
                let entry = fresh.operators.entry(signature).or_insert_with(|| OperatorCost {
                    flops: work.map(|w| w.flops),
                    bytes: work.map(|w| w.bytes),
                    ..OperatorCost::default()
                });
                let (alone, beside) = measured;
                entry.lanes.extend(alone.map(|m| (name.clone(), m)));
                entry.beside.extend(beside.map(|m| (name.clone(), m)));
            }
            progress(at + 1, all);
        }
        self.measure_segments((device, effort), variants, values, (known, fresh), context)
    }

    /// Adds what `known` does not have of segments on `device`: runs of steps that are short there.
    fn measure_segments(
        &self,
        (device, effort): (Device, Effort),
        variants: &[Variant],
        values: &[ValueRef<'_>],
        (known, fresh): (&Profile, &mut Profile),
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        let lane = device.to_string();
        let failed = |failure: GpuFailure| gpu_error(failure, device, 0, context);
        let of = |profile: &Profile| profile.devices.get(&lane)?.kernel.map(|kernel| kernel.median_us);
        let Some(launch_us) = of(fresh).or_else(|| of(known)) else { return Ok(()) };
        for Variant { program, .. } in variants {
            let on = self.devices.program(device, program, (&self.engine, &self.budget))?;
            let bound = program.bind(values, context).map_err(NodeError::at_run)?;
            let steps = 0..bound.step_count();
            let signature = |step: usize| {
                bound.step_form(program, step).map_or_else(String::new, |form| StepSignature::of(&form).0)
            };
            let signatures: Vec<String> = steps.clone().map(signature).collect();
            let accesses: Vec<Accesses> = steps.map(|step| bound.accesses(program, step)).collect();
            let alone = |fresh: &Profile, step: usize| {
                let of = |profile: &Profile| profile.measured(&signatures[step], &lane);
                of(fresh).or_else(|| of(known)).map(|measured| measured.median_us)
            };
            for steps in segments(&accesses, |step| alone(fresh, step), launch_us) {
                let name = segment_name(signatures[steps.clone()].iter().map(String::as_str));
                let is_known = |profile: &Profile| profile.measured_together(&name, &lane).is_some();
                if is_known(known) || is_known(fresh) {
                    continue;
                }
                context.interrupt.check().map_err(|source| {
                    NodeError { node: name.clone(), op: "profile".to_owned(), source }.at_run()
                })?;
                let form = |step| bound.device_form(program, step, (on.device(), false), context);
                let Ok(forms) = steps.map(form).collect::<Result<Vec<_>, _>>() else { continue };
                let measured = on.measure_together(forms, effort, context.interrupt).map_err(failed)?;
                if let Some(measured) = measured {
                    fresh.segments.entry(name).or_default().insert(lane.clone(), measured);
                }
            }
        }
        Ok(())
    }
}

fn measure_overheads(
    on: &GpuProgram,
    device: Device,
    effort: Effort,
    context: RunContext<'_>,
) -> Result<(DeviceProfile, Vec<LinkTime>), GpuFailure> {
    let limits = on.device();
    let overheads = on.gpu().overheads(&limits, effort, context.interrupt)?;
    let properties = on.gpu().gpu().properties();
    let emulated = device == Device::Emulated;
    let profile = DeviceProfile {
        name: properties.name.clone(),
        source: if emulated { DeviceSource::Emulated } else { DeviceSource::Measured },
        notes: Vec::new(),
        capability: limits.capability,
        multiprocessors: limits.multiprocessors,
        shared_bytes: limits.shared_bytes,
        memory_bytes: properties.memory,
        kernel: overheads.kernel,
        graph_node: overheads.graph_node,
        round_trip: overheads.round_trip,
        event: overheads.event,
        rates: None,
    };
    let mut links = Vec::new();
    for (bytes, times) in overheads.copies {
        for (up, time) in [true, false].into_iter().zip(times) {
            let (host, there) = ("host".to_owned(), device.to_string());
            let (from, to) = if up { (host, there) } else { (there, host) };
            links.extend(time.map(|time| LinkTime { from, to, bytes: bytes as u64, time }));
        }
    }
    Ok((profile, links))
}
