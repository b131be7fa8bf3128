//! A plan as something that the scheduler draws: threads and the GPU with the steps that they run, and a row of copies in
//! each direction. It holds what the plan has and nothing that was looked at beside it.

use crate::quantity::{self, plural};
use anyhow::Result;
use recurve::plans::Plan;
use recurve_scheduler::{
    GanttWords, Instance, Link, Machine, Memory, Problem, Processor, Run, Schedule, Task, Tensor, Transfer,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// The memory of the threads.
const HOST: &str = "host";
/// Those of the memories by their position.
const HOST_AT: u32 = 0;
const DEVICE_AT: u32 = 1;

/// What the drawing of `plan` says.
pub(super) fn words(plan: &Plan) -> GanttWords {
    let predicted = quantity::time(Duration::from_secs_f64(plan.predicted_us / 1e6));
    let steps = plural(plan.steps.len(), "step");
    let title = match plan.device.as_ref().map(|device| device.copies.len()) {
        Some(1) => format!("predicted time {predicted}, {steps}, 1 copy"),
        Some(copies) => format!("predicted time {predicted}, {steps}, {copies} copies"),
        None => format!("predicted time {predicted}, {steps}"),
    };
    GanttWords { title, task: "step".to_owned(), transfer: "copy".to_owned() }
}

/// The machine and tasks of `plan`, and when they run.
pub(super) fn chart(plan: &Plan) -> Result<(Problem, Schedule)> {
    let device = plan.device.as_ref();
    // The last worker of a plan that uses a GPU launches, and runs nothing by itself.
    let threads = plan.workers - usize::from(device.is_some());
    let own: Vec<String> = (0..threads).map(|worker| format!("cpu{worker}")).collect();
    let processor = |name: &str, memory: &str, units: Option<Vec<String>>| Processor {
        name: name.to_owned(),
        memory: memory.to_owned(),
        units,
    };
    let mut processors: Vec<Processor> = own.iter().map(|name| processor(name, HOST, None)).collect();
    for step in &plan.steps {
        let shared = (step.place.strip_prefix("cpu")).and_then(|of| of.split_once('-'));
        let shared = shared.and_then(|(first, last)| own.get(first.parse().ok()?..=last.parse().ok()?));
        if let Some(units) = shared.filter(|_| !processors.iter().any(|p| p.name == step.place)) {
            processors.push(processor(&step.place, HOST, Some(units.to_vec())));
        }
    }
    if plan.steps.iter().any(|step| step.place == "cpu*") {
        processors.push(processor("cpu*", HOST, Some(own)));
    }
    let mut memories = vec![Memory { name: HOST.to_owned(), capacity: None }];
    let mut links = Vec::new();
    if let Some(device) = device {
        let name = &device.device;
        let streams = device.streams.iter().max().map_or(1, |most| most + 1);
        for stream in 0..streams {
            let own = if stream == 0 { name.clone() } else { format!("{name}/{stream}") };
            processors.push(processor(&own, name, None));
        }
        memories.push(Memory { name: name.clone(), capacity: None });
        for (from, to, channel) in
            [(HOST, name.as_str(), format!("to {name}")), (name, HOST, format!("from {name}"))]
        {
            let (from, to) = (from.to_owned(), to.to_owned());
            links.push(Link { from, to, latency_us: 0.0, bytes_per_us: 1.0, channel: Some(channel) });
        }
    }
    let place = |name: &str| processors.iter().position(|p| p.name == name);
    let mut names = BTreeSet::new();
    let mut unique = |name: String, at: usize| {
        if names.insert(name.clone()) { name } else { format!("{name} ({at})") }
    };
    let (mut tasks, mut runs) = (Vec::new(), Vec::new());
    for (at, step) in plan.steps.iter().enumerate() {
        let lane = place(&step.place).unwrap_or_default();
        let cost_us = (0..processors.len()).map(|p| (p == lane).then_some(step.cost_us)).collect();
        tasks.push(Task { name: unique(step.name.clone(), at), cost_us, ..Task::default() });
        runs.push(Run { processor: lane as u32, start: step.start_us, finish: step.start_us + step.cost_us });
    }
    let (mut tensors, mut transfers) = (Vec::new(), Vec::new());
    for (at, copy) in device.iter().flat_map(|device| device.copies.iter().enumerate()) {
        let home = if copy.up { HOST } else { plan.device.as_ref().map_or(HOST, |d| &d.device) };
        let (from, to) = if copy.up { (HOST_AT, DEVICE_AT) } else { (DEVICE_AT, HOST_AT) };
        tensors.push(Tensor {
            name: format!("copy {at} of {}", copy.name),
            bytes: copy.bytes as u64,
            home: Some(home.to_owned()),
            ..Tensor::default()
        });
        let (start, finish) = (copy.start_us, copy.start_us + copy.cost_us);
        transfers.push(Transfer { tensor: at as u32, from, to, start, finish });
    }
    let machine = Machine { memories, processors, links };
    let instance = Instance { version: 1, machine, tensors, weights: Vec::new(), tasks };
    let problem = Problem::new(&instance)?;
    Ok((problem, Schedule { runs, transfers, makespan: plan.predicted_us }))
}
