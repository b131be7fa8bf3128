//! Instances with a known optimum.
//!
//! One GPU lane and `k` CPU lanes are filled exactly to length `L`. A task of the GPU lane with length `g` takes
//! `ρ · u(1, 3) · g` on a CPU lane; a task of a CPU lane with length `c` takes `u(1, 2) · c/ρ` on the GPU, or in
//! the second form `u(1, 2) · ρ·c`. So every GPU task gains at least the factor `ρ` by its place, and no CPU task
//! gains more than `ρ` by leaving its own (form one): by exchange, the fractional area bound is `L`, and the
//! planted schedule attains it. Edges agree with that schedule; a third of them cross between the memories, with
//! a transfer that fits between its ends beside the others of its channel.

use crate::generate::{host_and_gpu, instance, on_grid};
use crate::instance::{Instance, Task, Tensor};
use crate::random::Random;
use crate::timeline::Timeline;

/// What a task of a CPU lane takes on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuTasks {
    /// At least `c/ρ`: the GPU is faster for everything.
    Faster,
    /// At least `ρ·c`: each task has its own best lane.
    Slower,
}

/// What to plant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planted {
    /// Tasks in all.
    pub tasks: usize,
    /// CPU lanes beside the one GPU lane.
    pub cpus: usize,
    /// The gain ρ.
    pub rho: f64,
    /// The form.
    pub cpu_tasks: CpuTasks,
    /// Seed.
    pub seed: u64,
}

/// One planted interval.
struct Slot {
    lane: usize,
    start: f64,
    finish: f64,
}

/// Generates an instance and its optimal makespan.
pub fn planted(spec: Planted) -> (Instance, f64) {
    let mut random = Random::new(spec.seed);
    let lanes = spec.cpus + 1;
    let length = 20.0 * (spec.tasks / lanes) as f64;
    let mut slots = Vec::new();
    for lane in 0..lanes {
        let count = spec.tasks / lanes + usize::from(lane < spec.tasks % lanes);
        let shares: Vec<f64> = (0..count).map(|_| random.between(1.0, 4.0)).collect();
        let sum: f64 = shares.iter().sum();
        let mut start = 0.0;
        for (i, share) in shares.iter().enumerate() {
            let finish = if i + 1 == count { length } else { start + on_grid(length * share / sum) };
            slots.push(Slot { lane, start, finish });
            start = finish;
        }
    }
    let gpu = spec.cpus;
    let mut tasks: Vec<Task> = slots
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let own = s.finish - s.start;
            let (cpu_cost, gpu_cost) = if s.lane == gpu {
                (own * spec.rho * random.between(1.0, 3.0), own)
            } else {
                let factor = match spec.cpu_tasks {
                    CpuTasks::Faster => 1.0 / spec.rho,
                    CpuTasks::Slower => spec.rho,
                };
                (own, own * factor * random.between(1.0, 2.0))
            };
            let mut cost_us = vec![Some(cpu_cost); spec.cpus];
            cost_us.push(Some(gpu_cost));
            Task { name: format!("t{i}"), cost_us, ..Task::default() }
        })
        .collect();
    let tensors = edges(&spec, &slots, &mut random, &mut tasks);
    (instance(host_and_gpu(spec.cpus, 1, 0.0, 1.0), tensors, tasks), length)
}

/// Adds `2–3 n` edges, one tensor each.
fn edges(spec: &Planted, slots: &[Slot], random: &mut Random, tasks: &mut [Task]) -> Vec<Tensor> {
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by(|&a, &b| slots[a].start.total_cmp(&slots[b].start));
    let mut channels = [Timeline::new(), Timeline::new()];
    let goal = (slots.len() as f64 * random.between(2.0, 3.0)) as usize;
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for attempt in 0..goal * 50 {
        if tensors.len() == goal {
            break;
        }
        let at = random.below(order.len());
        let reach = if attempt % 2 == 0 { 12 } else { order.len() };
        let to = at + 1 + random.below(reach);
        if to >= order.len() {
            continue;
        }
        let (a, b) = (order[at], order[to]);
        let slack = slots[b].start - slots[a].finish;
        let crosses = (slots[a].lane == spec.cpus) != (slots[b].lane == spec.cpus);
        if slack < 0.0 || crosses != tensors.len().is_multiple_of(3) || !seen.insert((a, b)) {
            continue;
        }
        let mut transfer = on_grid(random.between(0.0, 20.0));
        if crosses {
            transfer = on_grid(transfer.min(slack * random.between(0.2, 1.0)));
            let channel = &mut channels[usize::from(slots[a].lane == spec.cpus)];
            let start = channel.earliest(slots[a].finish, transfer);
            if start + transfer > slots[b].start {
                continue;
            }
            channel.occupy(start, start + transfer);
        }
        let name = format!("e{}", tensors.len());
        tasks[a].writes.push(name.clone());
        tasks[b].reads.push(name.clone());
        tensors.push(Tensor { name, transfer_us: Some(transfer), ..Tensor::default() });
    }
    tensors
}
