//! Random graphs without a known optimum: large ones for timing, small ones for properties.

use crate::generate::{host_and_gpu, instance, on_grid};
use crate::instance::{Instance, Task, Tensor, Weight, WeightBytes};
use crate::machine::Machine;
use crate::random::Random;

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layered {
    /// Tasks.
    pub tasks: usize,
    /// Edges, one tensor each.
    pub edges: usize,
    /// CPU lanes.
    pub cpus: usize,
    /// GPU lanes.
    pub gpus: usize,
    /// Seed.
    pub seed: u64,
}

/// A graph whose tasks read from tasks up to 100 before them.
pub fn layered(spec: Layered) -> Instance {
    let mut random = Random::new(spec.seed);
    let mut tasks: Vec<Task> = (0..spec.tasks)
        .map(|i| {
            let gpu = on_grid(random.between(5.0, 40.0));
            let cpu = on_grid(gpu * random.between(0.5, 8.0));
            let mut cost_us = vec![Some(cpu); spec.cpus];
            cost_us.resize(spec.cpus + spec.gpus, Some(gpu));
            Task { name: format!("t{i}"), cost_us, ..Task::default() }
        })
        .collect();
    let mut tensors = Vec::new();
    for e in 0..spec.edges {
        let to = 1 + random.below(spec.tasks - 1);
        let from = to - 1 - random.below(to.min(100));
        let name = format!("e{e}");
        let bytes = 1024 * (1 + random.below(64)) as u64;
        tasks[from].writes.push(name.clone());
        tasks[to].reads.push(name.clone());
        tensors.push(Tensor { name, bytes, ..Tensor::default() });
    }
    instance(host_and_gpu(spec.cpus, spec.gpus, 6.0, 25_000.0), tensors, tasks)
}

/// A small instance that uses every feature of the format: a gang, a second memory with a capacity or without,
/// tensors with several readers, storages, weights, workspaces, tasks of no length, a task bound to one place.
pub fn small(seed: u64, tasks: usize) -> Instance {
    let mut random = Random::new(seed);
    let r = &mut random;
    let (cpus, gpus) = (1 + r.below(3), 1 + r.below(2));
    let mut machine: Machine = host_and_gpu(cpus, gpus, 3.0, 64.0);
    let mut columns = cpus + gpus;
    if cpus >= 2 && r.below(2) == 0 {
        let units = Some(vec!["cpu0".to_owned(), "cpu1".to_owned()]);
        let gang = crate::machine::Processor { name: "gang".to_owned(), memory: "host".to_owned(), units };
        machine.processors.push(gang);
        columns += 1;
    }
    if r.below(3) == 0 {
        machine.links[0].channel = None;
    }
    let mut made = instance(machine, Vec::new(), Vec::new());
    for w in 0..3 {
        let bytes = WeightBytes::Same(64 * (1 + r.below(16)) as u64);
        made.weights.push(Weight { name: format!("w{w}"), bytes });
    }
    made.tensors.push(Tensor { name: "x".to_owned(), bytes: 64, ..Tensor::default() });
    for i in 0..tasks {
        let base = if r.below(12) == 0 { 0.0 } else { on_grid(r.between(2.0, 20.0)) };
        let mut cost_us: Vec<Option<f64>> = (0..columns)
            .map(|_| (r.below(8) > 0).then(|| (base * r.between(0.5, 3.0) * 64.0).floor() / 64.0))
            .collect();
        if cost_us.iter().all(Option::is_none) {
            cost_us[0] = Some(base);
        }
        let mut reads = Vec::new();
        for _ in 0..r.below(4) {
            reads.push(made.tensors[r.below(made.tensors.len())].name.clone());
        }
        reads.sort();
        reads.dedup();
        let mut writes = Vec::new();
        for k in 0..=r.below(2) {
            let name = format!("y{i}.{k}");
            let needed_in = if r.below(6) == 0 { vec!["host".to_owned()] } else { Vec::new() };
            let storage = (r.below(5) == 0).then(|| format!("s{}", r.below(3)));
            let bytes = 32 * (1 + r.below(20)) as u64;
            let transfer_us = (r.below(4) == 0).then(|| on_grid(r.between(1.0, 9.0)));
            made.tensors.push(Tensor {
                name: name.clone(),
                bytes,
                transfer_us,
                home: None,
                needed_in,
                storage,
            });
            writes.push(name);
        }
        let weights = if r.below(2) == 0 { vec![format!("w{}", r.below(3))] } else { Vec::new() };
        let workspace_bytes = 32 * r.below(8) as u64;
        made.tasks.push(Task { name: format!("t{i}"), cost_us, reads, writes, weights, workspace_bytes });
    }
    made
}
