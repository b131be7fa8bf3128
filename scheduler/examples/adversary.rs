//! Simulated annealing for small instances on which the portfolio is far from the optimum (after Coleman and
//! Krishnamachari, "PISA: an adversarial approach to comparing task graph scheduling algorithms", 2024).
//!
//! usage: `adversary SECONDS FOLDER [SEED]` writes the ten worst instances of separate restarts.
use std::path::PathBuf;
use std::time::{Duration, Instant};

use recurve_scheduler::generate::small;
use recurve_scheduler::{Budget, Instance, Problem, Random, Search, Tensor};

/// Evaluations of the portfolio under attack.
const EVALUATIONS: u64 = 50_000;
/// Nodes after which an instance is given up.
const NODES: u64 = 30_000;
/// Most tasks.
const TASKS: usize = 14;
/// Steps between restarts.
const STEPS: usize = 800;

/// Portfolio ÷ exact, `None` where there is no schedule or no proof.
fn ratio(instance: &Instance) -> Option<f64> {
    let problem = Problem::new(instance).ok()?;
    let search = Search { seed: 1, budget: Budget::Evaluations(EVALUATIONS) };
    let found = problem.least_makespan(search).ok()?.schedule.makespan;
    let optimum = problem.optimum(NODES).ok()??.makespan;
    (optimum > 0.0).then_some(found / optimum)
}

fn on_grid(time: f64) -> f64 {
    (time * 64.0).round().clamp(1.0, 64.0 * 512.0) / 64.0
}

/// One random change.
fn mutate(instance: &mut Instance, random: &mut Random) {
    let n = instance.tasks.len();
    let factor = random.between(-1.5, 1.5).exp2();
    match random.below(8) {
        0..=2 => {
            let costs = &mut instance.tasks[random.below(n)].cost_us;
            let p = random.below(costs.len());
            costs[p] = Some(on_grid(costs[p].unwrap_or(8.0) * factor));
        }
        3 | 4 => {
            let x = random.below(instance.tensors.len());
            let tensor = &mut instance.tensors[x];
            tensor.transfer_us = Some(on_grid(tensor.transfer_us.unwrap_or(4.0) * factor));
        }
        5 if n >= 2 => {
            // Another edge, forwards.
            let b = 1 + random.below(n - 1);
            let from = &instance.tasks[random.below(b)].writes;
            let x = from.get(random.below(from.len())).cloned();
            instance.tasks[b].reads.extend(x);
            instance.tasks[b].reads.dedup();
        }
        6 => {
            let reads = &mut instance.tasks[random.below(n)].reads;
            if !reads.is_empty() {
                let at = random.below(reads.len());
                reads.swap_remove(at);
            }
        }
        _ => {
            if n < TASKS {
                let mut task = instance.tasks[random.below(n)].clone();
                let used = |name: &String| instance.tasks.iter().any(|t| &t.name == name);
                task.name = (0..=n).map(|i| format!("m{i}")).find(|name| !used(name)).unwrap_or_default();
                let name = format!("{}.y", task.name);
                task.writes = vec![name.clone()];
                instance.tensors.retain(|t| t.name != name);
                instance.tensors.push(Tensor {
                    name,
                    bytes: 64,
                    transfer_us: Some(4.0),
                    ..Tensor::default()
                });
                instance.tasks.push(task);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: adversary SECONDS FOLDER [SEED]";
    let mut args = std::env::args().skip(1);
    let time = Duration::from_secs(args.next().ok_or(usage)?.parse()?);
    let folder = PathBuf::from(args.next().ok_or(usage)?);
    let seed: u64 = args.next().map_or(Ok(1), |s| s.parse())?;
    std::fs::create_dir_all(&folder)?;
    let (began, mut random) = (Instant::now(), Random::new(seed));
    let mut worst: Vec<(f64, Instance)> = Vec::new();
    let (mut evaluated, mut restarts) = (0u64, 0u64);
    while began.elapsed() < time {
        restarts += 1;
        let mut now = small(random.bits(), 6 + random.below(7));
        let Some(mut value) = ratio(&now) else { continue };
        let mut best = (value, now.clone());
        for step in 0..STEPS {
            if began.elapsed() >= time {
                break;
            }
            let mut next = now.clone();
            for _ in 0..=random.below(2) {
                mutate(&mut next, &mut random);
            }
            let Some(reached) = ratio(&next) else { continue };
            evaluated += 1;
            let temperature = 0.02 * (1.0 - step as f64 / STEPS as f64);
            if reached >= value + temperature * random.unit().max(1e-12).ln() {
                (now, value) = (next, reached);
                if value > best.0 {
                    best = (value, now.clone());
                }
            }
        }
        println!("restart {restarts}: {:.4} after {evaluated} instances", best.0);
        worst.push(best);
        worst.sort_by(|a, b| b.0.total_cmp(&a.0));
        worst.truncate(10);
        for (i, (_, instance)) in worst.iter().enumerate() {
            std::fs::write(folder.join(format!("adversary{i}.json")), serde_json::to_string(instance)?)?;
        }
    }
    let ratios: Vec<String> = worst.iter().map(|w| format!("{:.4}", w.0)).collect();
    println!("{evaluated} instances, {restarts} restarts, worst: {}", ratios.join(" "));
    Ok(())
}
