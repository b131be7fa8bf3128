//! The scheduling instance of threads and a device with a memory of its own.
//!
//! As [`crate::plan::instance`] has it, every worker has a memory, with hand-overs as transfers between them. The device is
//! one more, with links to and from each of them that take what a copy was found to take, and a hand-over; copies in one
//! direction queue. Weights count where steps that use them run, or are copied ahead of each where they are brought, whose room
//! is a workspace then. Streams of the device are processors with its memory.

use super::{Parts, side_by_side};
use crate::exec::{Access, Space};
use crate::plan::PlanError;
use recurve_scheduler::{Instance, Link, Machine, Memory, Processor, Task, Tensor, Weight, WeightBytes};
use std::collections::BTreeMap;

/// The processor of all threads, and its memory.
const GANG: &str = "cpu*";
/// Bytes per microsecond of a transfer that moves nothing.
const UNMOVED: f64 = 1e12;

pub(super) fn instance(parts: &Parts<'_>) -> Result<Instance, PlanError> {
    let Parts { device, workers, .. } = *parts;
    let memory = |name: &str, capacity| Memory { name: name.to_owned(), capacity };
    let own: Vec<String> = (0..workers).map(|w| format!("cpu{w}")).collect();
    let mut memories: Vec<Memory> = own.iter().map(|name| memory(name, None)).collect();
    memories.push(memory(&device.name, parts.limit));
    let mut processors: Vec<Processor> =
        own.iter().map(|name| Processor { name: name.clone(), memory: name.clone(), units: None }).collect();
    let (flag, phase) = parts.handover.map_or((0.0, 0.0), |h| (h.flag.median_us, h.phase.median_us));
    // All threads, with a memory of their own as in plans without a device: to begin together and to end takes a phase.
    if parts.has_gang() {
        memories.push(memory(GANG, None));
        processors.push(Processor {
            name: GANG.to_owned(),
            memory: GANG.to_owned(),
            units: Some(own.clone()),
        });
    }
    let there = side_by_side::seats(parts.streams);
    processors.extend(there.iter().map(|seat| seat.processor(&device.name)));
    let mut links = Vec::new();
    for (at, worker) in own.iter().enumerate() {
        let mut link = |from: &String, to: &String, latency_us, bytes_per_us, channel| {
            links.push(Link { from: from.clone(), to: to.clone(), latency_us, bytes_per_us, channel });
        };
        for other in own.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, name)| name) {
            link(worker, other, flag, UNMOVED, None);
        }
        for up in [true, false] {
            let (latency, rate) = device.link(up);
            let channel = Some(if up { "up" } else { "down" }.to_owned());
            let (from, to) = if up { (worker, &device.name) } else { (&device.name, worker) };
            link(from, to, latency + flag, rate, channel);
        }
        if parts.has_gang() {
            let gang = GANG.to_owned();
            link(worker, &gang, phase, UNMOVED, None);
            link(&gang, worker, phase, UNMOVED, None);
        }
    }
    if parts.has_gang() {
        for up in [true, false] {
            let ((latency, bytes_per_us), gang) = (device.link(up), GANG.to_owned());
            let channel = Some(if up { "up" } else { "down" }.to_owned());
            let (from, to) = if up { (gang, device.name.clone()) } else { (device.name.clone(), gang) };
            links.push(Link { from, to, latency_us: latency + phase, bytes_per_us, channel });
        }
    }
    let machine = Machine { memories, processors, links };
    let (tensors, names) = tensors(parts)?;
    let mut weights: BTreeMap<String, usize> = BTreeMap::new();
    let mut tasks = Vec::with_capacity(parts.costs.len());
    for (step, cost) in parts.costs.iter().enumerate() {
        let alone = if parts.allows(step, false) { cost.alone.map(|(us, _)| us) } else { None };
        let mut cost_us = vec![alone; workers];
        if parts.has_gang() {
            cost_us.push(if parts.allows(step, false) { cost.together.map(|(us, _)| us) } else { None });
        }
        // With weights that are brought, as if nothing went on beside their copies.
        let brought = parts.brings.then(|| parts.thriftiest(step)).flatten();
        let copied = brought.map_or(0.0, |(_, of)| parts.device.copy_us(of.first, true) + of.within_us);
        let on_device = parts.device_cost(step).map(|(us, _)| us + copied);
        let smallest = side_by_side::smallest(&there, device.share(step));
        cost_us.extend(there.iter().map(|seat| on_device.filter(|_| seat.parts() == smallest)));
        let of = &parts.accesses[step];
        let read = names.iter().filter(|(_, access)| of.reads.iter().any(|r| r.meets(access)));
        let written = names.iter().filter(|(_, access)| {
            let own = |w: &Access| w.space == access.space && w.bytes.start == access.bytes.start;
            of.writes.iter().any(own)
        });
        let own = device.steps[step].as_ref().map_or(&[][..], |s| &s.weights);
        let kept = brought.map_or(own, |(_, of)| &of.weights);
        let room = brought.map_or(0, |(_, of)| of.room as u64);
        weights.extend(kept.iter().cloned());
        let (name, op) = parts.site.bound.step_name(parts.site.program, step);
        tasks.push(Task {
            name: format!("{step} {op} {name}"),
            cost_us,
            reads: read.map(|(name, _)| name.clone()).collect(),
            writes: written.map(|(name, _)| name.clone()).collect(),
            weights: kept.iter().map(|(name, _)| name.clone()).collect(),
            workspace_bytes: device.steps[step].as_ref().map_or(0, |s| s.workspace as u64) + room,
        });
    }
    let weight = |(name, bytes): (String, usize)| Weight {
        name,
        bytes: WeightBytes::PerMemory([(device.name.clone(), bytes as u64)].into()),
    };
    let weights = weights.into_iter().map(weight).collect();
    Ok(Instance { version: 1, machine, tensors, weights, tasks })
}

/// `instance` with copies to and from the device that no thread hands over: whoever launches them need not, so that no plan
/// takes less than its bound.
pub(super) fn without_handovers(mut instance: Instance, parts: &Parts<'_>) -> Instance {
    let device = &parts.device.name;
    for link in &mut instance.machine.links {
        let up = link.to == *device;
        if up || link.from == *device {
            link.latency_us = parts.device.link(up).0;
        }
    }
    instance
}

/// The tensors with their names, and what each is of.
fn tensors(parts: &Parts<'_>) -> Result<(Vec<Tensor>, Vec<(String, Access)>), PlanError> {
    let unknown = |space| PlanError::invalid(format!("{space:?} has no size that is known beforehand"));
    let (mut tensors, mut names) = (Vec::new(), Vec::new());
    let bytes_of = |space: Space| parts.ground.bytes.bytes_of(space).ok_or_else(|| unknown(space));
    let mut add = |name: String, access: Access, output: bool, input: bool| {
        tensors.push(Tensor {
            name: name.clone(),
            bytes: (access.bytes.end - access.bytes.start) as u64,
            needed_in: if output { vec!["cpu0".to_owned()] } else { Vec::new() },
            home: input.then(|| "cpu0".to_owned()),
            ..Tensor::default()
        });
        names.push((name, access));
    };
    let mut inputs: Vec<Space> = Vec::new();
    for (step, of) in parts.accesses.iter().enumerate() {
        for space in of.reads.iter().map(|r| r.space).filter(|s| matches!(s, Space::Input(_))) {
            if !inputs.contains(&space) {
                inputs.push(space);
                let access = Access { space, bytes: 0..bytes_of(space)? };
                add(format!("input {}", inputs.len() - 1), access, false, true);
            }
        }
        for (at, access) in of.writes.iter().enumerate() {
            let end = access.bytes.end.min(bytes_of(access.space)?);
            let access = Access { space: access.space, bytes: access.bytes.start..end };
            let output = matches!(access.space, Space::Output(_));
            add(format!("{step}.{at}"), access, output, false);
        }
    }
    Ok((tensors, names))
}
