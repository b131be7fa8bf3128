//! The scheduling instance of a bound model: steps as tasks, workers and all of them together as processors.
//!
//! What one worker makes has to be handed over before another can use it. The format knows that as a transfer between
//! memories, so every worker has one of its own here, and all workers together another; a transfer takes the measured
//! time of a flag, or of the beginning or end of a phase, whatever the size, since the workers share one memory in truth.
//! Above [`MOST_MEMORIES`] workers hand-overs are free. Devices that the profile knows, but which are no CPU, have their
//! memory, with the links that were measured.

use super::document::Timing;
use super::instruction::{Lane, gang_sizes};
use crate::cost::{Profile, Rooflines, StepSignature, cpu_lane};
use crate::exec::{Access, Accesses, Bound, Program};
use crate::graph::{Fact, node_cost};
use crate::ops::Cost;
use recurve_scheduler::{Instance, Link, Machine, Memory, Processor, Task, Tensor};
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

/// Workers beyond which hand-overs are not part of the instance.
const MOST_MEMORIES: usize = 32;
/// Bytes per microsecond of a transfer that moves nothing.
const UNMOVED: f64 = 1e12;

/// The cost of a step on a lane.
pub(crate) type LaneCost = Option<(f64, Timing)>;

/// A step as a task.
#[derive(Clone, Debug)]
pub(crate) struct StepCost {
    pub(crate) signature: StepSignature,
    /// On one worker.
    pub(crate) alone: LaneCost,
    /// On some workers, by [`gang_sizes`].
    pub(crate) shared: Vec<LaneCost>,
    /// On all workers.
    pub(crate) together: LaneCost,
    /// On the other devices, in the order of [`devices`].
    pub(crate) devices: Vec<LaneCost>,
}

/// Devices other than the CPU that the profile measured something on.
pub(crate) fn devices(profile: &Profile) -> Vec<String> {
    let lanes = profile.operators.values().flat_map(|o| o.lanes.keys());
    let mut found: Vec<String> = lanes.filter(|l| !l.starts_with("cpu:")).cloned().collect();
    found.sort();
    found.dedup();
    found
}

/// Work of a step as far as its forms tell.
pub(crate) fn step_work(bound: &Bound, program: &Program, step: usize) -> Option<Cost> {
    let form = bound.step_form(program, step)?;
    let inputs = bound.step_facts(step)?;
    let given: Vec<Option<&Fact>> = inputs.iter().map(Option::as_ref).collect();
    match form.node {
        Some(node) => node_cost(node, &given),
        None => {
            let bytes = given.first().copied().flatten()?.tensor()?.bytes()? as f64;
            Some(Cost { flops: 0.0, bytes: 2.0 * bytes })
        }
    }
}

/// The costs of all steps, by their position; `None` for a step whose forms are not known. What has one signature has one cost.
pub(crate) fn step_costs(
    bound: &Bound,
    program: &Program,
    profile: &Profile,
    workers: usize,
) -> Vec<Option<StepCost>> {
    let devices = devices(profile);
    let rooflines = Rooflines::new(profile);
    let mut known: HashMap<String, StepCost> = HashMap::new();
    let cost = |step: usize| {
        let signature = StepSignature::of(&bound.step_form(program, step)?);
        if let Some(cost) = known.get(&signature.0) {
            return Some(cost.clone());
        }
        let kind = signature.0.split(' ').next().unwrap_or_default().to_owned();
        let work = OnceCell::new();
        let on = |lane: &str| {
            if let Some(measured) = profile.measured(&signature.0, lane) {
                return Some((measured.median_us, Timing::Measured));
            }
            let work = (*work.get_or_init(|| step_work(bound, program, step)))?;
            let estimate = rooflines.of(lane, &kind)?.estimate(work.flops, work.bytes)?;
            Some((estimate, Timing::Estimated))
        };
        // Nothing else than the CPU is taken for able to run what was not measured there.
        let elsewhere =
            |device: &String| profile.measured(&signature.0, device).map(|m| (m.median_us, Timing::Measured));
        let cost = StepCost {
            alone: on(&cpu_lane(1)),
            shared: gang_sizes(workers).map(|size| on(&cpu_lane(size))).collect(),
            together: if workers > 1 { on(&cpu_lane(workers)) } else { None },
            devices: devices.iter().map(elsewhere).collect(),
            signature,
        };
        known.insert(cost.signature.0.clone(), cost.clone());
        Some(cost)
    };
    (0..bound.step_count()).map(cost).collect()
}

/// What a processor of the instance is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seat {
    /// Workers.
    Lane(Lane),
    /// Another device.
    Device(String),
}

/// The workers that may share a step where neither one nor all do: the first, and how many.
fn gangs(workers: usize) -> impl Iterator<Item = (usize, usize)> {
    let of = move |size: usize| (0..=workers - size).step_by(size).map(move |first| (first, size));
    gang_sizes(workers).flat_map(of)
}

/// The processors, in the order in which the instance has them.
pub(crate) fn seats(workers: usize, devices: &[String]) -> Vec<Seat> {
    let mut seats: Vec<Seat> = (0..workers).map(|w| Seat::Lane(Lane::Worker(w))).collect();
    seats.extend(gangs(workers).map(|(first, threads)| Seat::Lane(Lane::Some { first, threads })));
    if workers > 1 {
        seats.push(Seat::Lane(Lane::All));
    }
    seats.extend(devices.iter().cloned().map(Seat::Device));
    seats
}

/// The instance of steps with these costs and accesses; names are by position, so that no two are equal.
pub(crate) fn instance(
    bound: &Bound,
    program: &Program,
    costs: &[StepCost],
    accesses: &[Accesses],
    profile: &Profile,
    workers: usize,
    devices: &[String],
) -> Instance {
    let mut tensors: Vec<Tensor> = Vec::new();
    let home = memory_of_worker(0, workers);
    // Who writes what: names of the tensors with the bytes that they are of the memory that steps write.
    let mut written: Vec<(String, Access)> = Vec::new();
    let mut writes: Vec<Vec<String>> = Vec::new();
    for (step, of) in accesses.iter().enumerate() {
        let mut names = Vec::new();
        for (at, access) in of.writes.iter().enumerate() {
            let name = format!("{step}.{at}");
            let bytes = access.bytes.end - access.bytes.start;
            let output = matches!(access.space, crate::exec::Space::Output(_));
            tensors.push(Tensor {
                name: name.clone(),
                bytes: if access.bytes.end == usize::MAX { 0 } else { bytes as u64 },
                needed_in: if output { vec![home.clone()] } else { Vec::new() },
                storage: Some(format!("{:?}", access.space)),
                ..Tensor::default()
            });
            written.push((name.clone(), access.clone()));
            names.push(name);
        }
        writes.push(names);
    }
    tensors.push(Tensor { name: "inputs".to_owned(), home: Some(home), ..Tensor::default() });
    let tasks = costs.iter().zip(accesses).enumerate().map(|(step, (cost, of))| {
        let us = |cost: &LaneCost| cost.map(|(us, _)| us);
        let mut cost_us = vec![us(&cost.alone); workers];
        let sizes = gang_sizes(workers).zip(&cost.shared);
        for (size, cost) in sizes {
            cost_us.extend(gangs(workers).filter(|(_, own)| *own == size).map(|_| us(cost)));
        }
        if workers > 1 {
            cost_us.push(us(&cost.together));
        }
        cost_us.extend(cost.devices.iter().take(devices.len()).map(us));
        let read = written.iter().filter(|(_, w)| of.reads.iter().any(|r| r.meets(w)));
        let mut reads: Vec<String> = read.map(|(name, _)| name.clone()).collect();
        if reads.is_empty() {
            reads.push("inputs".to_owned());
        }
        let (name, op) = bound.step_name(program, step);
        Task {
            name: format!("{step} {op} {name}"),
            cost_us,
            reads,
            writes: writes[step].clone(),
            weights: Vec::new(),
            workspace_bytes: bound.scratch_of(step) as u64,
        }
    });
    let tasks = tasks.collect();
    Instance { version: 1, machine: machine(profile, workers, devices), tensors, weights: Vec::new(), tasks }
}

/// The name of workers that share a step.
pub(crate) fn gang_name(first: usize, threads: usize) -> String {
    format!("cpu{first}-{}", first + threads - 1)
}

fn memory_of_worker(worker: usize, workers: usize) -> String {
    if workers > MOST_MEMORIES { "host".to_owned() } else { format!("cpu{worker}") }
}

fn machine(profile: &Profile, workers: usize, devices: &[String]) -> Machine {
    let memory = |name: String| Memory { name, capacity: None };
    let own: Vec<String> = (0..workers).map(|w| format!("cpu{w}")).collect();
    let mut memories: Vec<Memory> = Vec::new();
    let mut processors: Vec<Processor> = Vec::new();
    let mut links: Vec<Link> = Vec::new();
    for (worker, name) in own.iter().enumerate() {
        let held = memory_of_worker(worker, workers);
        if !memories.iter().any(|m| m.name == held) {
            memories.push(memory(held.clone()));
        }
        processors.push(Processor { name: name.clone(), memory: held, units: None });
    }
    if workers > 1 {
        let some: Vec<(String, Vec<String>)> = gangs(workers)
            .map(|(first, threads)| (gang_name(first, threads), own[first..first + threads].to_vec()))
            .collect();
        for (name, units) in &some {
            memories.push(memory(name.clone()));
            let (name, memory, units) = (name.clone(), name.clone(), Some(units.clone()));
            processors.push(Processor { name, memory, units });
        }
        let shared = if workers > MOST_MEMORIES { "host" } else { "cpu*" };
        processors.push(Processor { name: "cpu*".to_owned(), memory: shared.to_owned(), units: Some(own) });
        if workers <= MOST_MEMORIES {
            memories.push(memory("cpu*".to_owned()));
            let handover = profile.handover_among(workers);
            let (flag, phase) = handover.map_or((0.0, 0.0), |h| (h.flag.median_us, h.phase.median_us));
            let mut link = |from: &str, to: &str, latency_us: f64| {
                let (from, to) = (from.to_owned(), to.to_owned());
                links.push(Link { from, to, latency_us, bytes_per_us: UNMOVED, channel: None });
            };
            let some = some.into_iter().map(|(name, _)| name);
            let apart: Vec<String> = (0..workers).map(|a| format!("cpu{a}")).chain(some).collect();
            for a in &apart {
                for b in apart.iter().filter(|b| *b != a) {
                    link(a, b, flag);
                }
                link(a, "cpu*", phase);
                link("cpu*", a, phase);
            }
        }
    }
    for device in devices {
        memories.push(memory(device.clone()));
        processors.push(Processor { name: device.clone(), memory: device.clone(), units: None });
        for (from, to) in [("host", device.as_str()), (device.as_str(), "host")] {
            let Some((latency_us, bytes_per_us)) = link_of(profile, from, to) else { continue };
            let at_worker =
                |name: &str| if name == "host" { memory_of_worker(0, workers) } else { name.to_owned() };
            let channel = Some(format!("{from} to {to}"));
            links.push(Link { from: at_worker(from), to: at_worker(to), latency_us, bytes_per_us, channel });
        }
    }
    Machine { memories, processors, links }
}

/// Latency and bytes per microsecond of a link, by the smallest and the largest transfer that were measured; `None` where
/// fewer than two sizes were, or where more bytes took no longer.
pub(crate) fn link_of(profile: &Profile, from: &str, to: &str) -> Option<(f64, f64)> {
    let sizes: BTreeMap<u64, f64> = profile
        .links
        .iter()
        .filter(|l| l.from == from && l.to == to)
        .map(|l| (l.bytes, l.time.median_us))
        .collect();
    let (small, large) = (sizes.first_key_value()?, sizes.last_key_value()?);
    let rate = (large.0 - small.0) as f64 / (large.1 - small.1);
    (rate.is_finite() && rate > 0.0).then(|| ((small.1 - *small.0 as f64 / rate).max(0.0), rate))
}
