//! Memory mode on recurrent grids: GPU peak at 1.5 × the latency optimum, beside all-GPU and beside exhaustive
//! search over the placements of the layers; and beside the exact peak on small instances.
//!
//! usage: memory [200ms | EVALUATIONS]
use recurve_scheduler::generate::{Recurrent, Shape, recurrent, small};
use recurve_scheduler::{Budget, Instance, Problem, Search};

#[path = "../tests/cases/budget.rs"]
mod budget;

type Failure = Box<dyn std::error::Error>;

/// The least GPU peak over all placements of the layers whose makespan, searched for on its own, meets the SLO.
fn exhaustive(instance: &Instance, slo: f64, budget: Budget) -> Result<Option<u64>, Failure> {
    let layers: Vec<String> = instance.weights.iter().map(|w| w.name.clone()).collect();
    let cpus = instance.machine.processors.len() - 1;
    let mut least: Option<u64> = None;
    for mask in 0..1usize << layers.len() {
        let mut part = instance.clone();
        for task in &mut part.tasks {
            let layer =
                layers.iter().position(|l| task.weights.contains(l)).ok_or("a task without weight")?;
            let on_gpu = mask >> layer & 1 == 1;
            let struck = if on_gpu { 0..cpus } else { cpus..cpus + 1 };
            task.cost_us[struck].fill(None);
        }
        let problem = Problem::new(&part)?;
        let found = problem.least_makespan(Search { seed: 1, budget })?.schedule;
        if found.makespan <= slo {
            let peak = found.validate(&part)?.peak_bytes[1];
            least = Some(least.map_or(peak, |l| l.min(peak)));
        }
    }
    Ok(least)
}

fn grids(budget: Budget) -> Result<(), Failure> {
    println!(
        "| grid | CPU | lanes | all-GPU bytes | memory mode | saved | exhaustive saves | makespan / SLO |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut reached, mut exists) = (0, 0);
    for (i, (layers, steps)) in [(3, 10), (4, 12), (6, 16), (8, 16)].into_iter().enumerate() {
        for (j, ratio) in [1.0, 2.0, 4.0].into_iter().enumerate() {
            let cpus = 1 + (i + j) % 4;
            let shape = Shape::Grid { layers, steps };
            let seed = (100 + 10 * i + j) as u64;
            let instance = recurrent(Recurrent { shape, ratio, transfer_us: 12.0, cpus, seed });
            let problem = Problem::new(&instance)?;
            let latency = problem.least_makespan(Search { seed: 1, budget })?.schedule.makespan;
            let slo = 1.5 * latency;
            let all =
                problem.all_in_memory(1).ok_or("no schedule")?.validate(&instance)?.peak_bytes[1] as f64;
            let frugal = problem.least_memory(1, slo, Search { seed: 1, budget })?;
            let verdict = frugal.schedule.validate(&instance)?;
            assert_eq!(verdict.peak_bytes[1], frugal.peak_bytes);
            let exhaustive = exhaustive(&instance, slo, Budget::Evaluations(4000))?;
            let saved = 1.0 - frugal.peak_bytes as f64 / all;
            let possible = exhaustive.map_or(f64::NAN, |e| 1.0 - e as f64 / all);
            exists += usize::from(possible >= 0.675);
            reached += usize::from(possible >= 0.675 && saved >= 0.675);
            println!(
                "| {layers}×{steps} | {ratio}× | {cpus} | {all} | {} | {:.1} % | {:.1} % | {:.3} |",
                frugal.peak_bytes,
                100.0 * saved,
                100.0 * possible,
                verdict.makespan / slo
            );
        }
    }
    println!("\n67.5 % exists on {exists} grids and is reached on {reached} of them");
    Ok(())
}

fn exact(budget: Budget) -> Result<(), Failure> {
    let mut ratios = Vec::new();
    let (mut unproved, mut zero) = (0, 0);
    for seed in 0..60 {
        let instance = small(1000 + seed, 6 + (seed % 6) as usize);
        let problem = Problem::new(&instance)?;
        let Ok(Some(fastest)) = problem.optimum(100_000) else {
            unproved += 1;
            continue;
        };
        let slo = 1.5 * fastest.makespan;
        let Ok(Some(optimum)) = problem.optimal_peak(1, slo, 300_000) else {
            unproved += 1;
            continue;
        };
        let unhurried = optimum.replay(&problem).validate(&instance).map_or(u64::MAX, |v| v.peak_bytes[1]);
        let optimum = optimum.validate(&instance)?.peak_bytes[1];
        let found = problem.least_memory(1, slo, Search { seed: 1, budget })?.peak_bytes;
        if optimum == 0 {
            zero += 1;
            assert_eq!(found, 0, "seed {seed}");
        } else {
            ratios.push((found as f64 / optimum as f64, seed, unhurried > optimum));
        }
    }
    ratios.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mean = ratios.iter().map(|r| r.0).sum::<f64>() / ratios.len() as f64;
    println!(
        "\nexact peaks: {} instances with bytes, {zero} with none, {unproved} without a proof",
        ratios.len()
    );
    println!(
        "memory mode / exact: mean {mean:.4}, worst (ratio, seed, exact waits) {:?}",
        &ratios[..ratios.len().min(5)]
    );
    Ok(())
}

fn main() -> Result<(), Failure> {
    let budget = budget::budget(std::env::args().nth(1).as_deref())?;
    grids(budget)?;
    exact(budget)
}
