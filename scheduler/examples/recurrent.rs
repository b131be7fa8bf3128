//! RNN-shaped instances: the portfolio beside HEFT, all-GPU and CP-SAT.
//!
//! usage: `recurrent write FOLDER` writes the instances for `scripts/cp_sat.py`;
//! `recurrent compare CP_SAT.json [200ms | EVALUATIONS]` prints the table of `README.md`.
use std::collections::BTreeMap;
use std::path::PathBuf;

use recurve_scheduler::generate::recurrent;
use recurve_scheduler::{Algorithm, Bounds, Problem, Search};
use serde::Deserialize;

#[path = "../tests/cases/budget.rs"]
mod budget;
#[path = "../tests/cases/mod.rs"]
mod cases;

/// One row of `cp_sat.py`.
#[derive(Debug, Deserialize)]
struct Solved {
    value_us: Option<f64>,
    bound_us: f64,
    proved: bool,
}

/// One instance: makespans in microseconds.
#[derive(Debug)]
struct Row {
    name: String,
    gpu: f64,
    heft: f64,
    portfolio: f64,
    solver: f64,
    bound: f64,
    proved: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: recurrent write FOLDER | recurrent compare CP_SAT.json [200ms | EVALUATIONS]";
    let mut args = std::env::args().skip(1);
    let (verb, path) = (args.next().ok_or(usage)?, PathBuf::from(args.next().ok_or(usage)?));
    if verb == "write" {
        std::fs::create_dir_all(&path)?;
        for (name, spec) in cases::recurrent_cases() {
            std::fs::write(path.join(format!("{name}.json")), recurrent(spec).to_json()?)?;
        }
        return Ok(());
    }
    let budget = budget::budget(args.next().as_deref())?;
    let solved: BTreeMap<String, Solved> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let mut rows = Vec::new();
    for (name, spec) in cases::recurrent_cases() {
        let Some(solved) = solved.get(&name) else { continue };
        let instance = recurrent(spec);
        let problem = Problem::new(&instance)?;
        let heft = Algorithm::Heft.schedule(&problem).ok_or("no schedule")?.makespan;
        let gpu = problem.all_in_memory(1).ok_or("no schedule")?.makespan;
        let found = problem.least_makespan(Search { seed: 1, budget })?;
        found.schedule.validate(&instance)?;
        let bound = Bounds::new(&problem).best().max(solved.bound_us);
        let solver = solved.value_us.unwrap_or(f64::INFINITY);
        let portfolio = found.schedule.makespan;
        rows.push(Row { name, gpu, heft, portfolio, solver, bound, proved: solved.proved });
    }
    println!("| instance | all-GPU us | HEFT | portfolio | CP-SAT 60 s | bound | gain kept |");
    println!("|---|---|---|---|---|---|---|");
    for r in &rows {
        let star = if r.proved { " (optimal)" } else { "" };
        let kept = (r.gpu - r.portfolio) / (r.gpu - r.solver);
        println!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.1}{star} | {:.1} | {:.2} |",
            r.name, r.gpu, r.heft, r.portfolio, r.solver, r.bound, kept
        );
    }
    println!(
        "\n| speed-up over all-GPU (geometric mean) | instances | HEFT | portfolio | CP-SAT | gain kept |"
    );
    println!("|---|---|---|---|---|---|");
    for ratio in ["-r1-", "-r2-", "-r4-", "-"] {
        let part: Vec<&Row> = rows.iter().filter(|r| r.name.contains(ratio)).collect();
        let mean = |f: &dyn Fn(&Row) -> f64| {
            (part.iter().map(|r| (r.gpu / f(r)).ln()).sum::<f64>() / part.len() as f64).exp()
        };
        let (heft, portfolio, solver) = (mean(&|r| r.heft), mean(&|r| r.portfolio), mean(&|r| r.solver));
        let kept = (portfolio - 1.0) / (solver - 1.0);
        let label = if ratio == "-" { "all".to_owned() } else { format!("CPU {}x", &ratio[2..3]) };
        println!("| {label} | {} | {heft:.3} | {portfolio:.3} | {solver:.3} | {kept:.2} |", part.len());
    }
    let kept = |r: &Row| (r.gpu - r.portfolio) / (r.gpu - r.solver);
    let least = rows.iter().filter(|r| r.name.contains("-r4-")).map(kept).fold(f64::INFINITY, f64::min);
    println!("\nleast gain kept on one instance at CPU 4x: {least:.2}");
    let worse = rows.iter().filter(|r| r.portfolio > r.gpu).count();
    println!("\nportfolio longer than all-GPU: {worse} of {}", rows.len());
    Ok(())
}
