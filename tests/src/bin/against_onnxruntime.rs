//! Runs random models of one node, of every operator, with ONNX Runtime too, and compares the outputs.

use anyhow::Result;
use clap::Parser;
use recurve::Engine;
use recurve::settings::Pinning;
use recurve::testing::{operators, single_node, test_data};
use recurve_tests::against::{Deviations, Server, Tally, Verdict, judge};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Compares every operator with ONNX Runtime on random models; exits with 0 when all differences are known
/// departures of ONNX Runtime from the specification.
#[derive(Debug, Parser)]
struct Options {
    /// Python with the packages of `benches/peers/requirements.txt`
    #[arg(long)]
    python: PathBuf,
    /// Models to compare at least
    #[arg(long, default_value_t = 20_000)]
    models: u64,
    /// Only these operators
    #[arg(long, value_delimiter = ',')]
    operators: Vec<String>,
    /// First seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Most seeds per operator
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The script that runs ONNX Runtime
    #[arg(long, default_value = "tests/onnxruntime/serve.py")]
    script: PathBuf,
    /// The committed list of departures
    #[arg(long, default_value = "tests/onnxruntime/deviations.json")]
    deviations: PathBuf,
    /// Write the models that differ, and their inputs, into this folder
    #[arg(long)]
    save: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let deviations = Deviations::read(&options.deviations)?;
    let engine = Engine::builder().with_threads(1).with_pinning(Pinning::None).build()?;
    let mut server = Server::start(&options.python, &options.script)?;
    let mut tally = Tally::default();
    let mut used = vec![false; deviations.reasons().count()];
    let all = operators();
    let wanted = |name: &str| options.operators.is_empty() || options.operators.iter().any(|o| o == name);
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        for operator in &all {
            let name = operator.full_name();
            if !wanted(&name) {
                continue;
            }
            let (verdict, words) = judge(operator, seed, &engine, &mut server)?;
            let known = match &verdict {
                Verdict::Differ(detail) => deviations.find(&name, &format!("{words}\n{detail}")),
                _ => None,
            };
            if let Some(known) = known {
                used[known] = true;
            }
            let wrong = known.is_none() && matches!(verdict, Verdict::Differ(_) | Verdict::Failed(_));
            if let (Some(folder), true) = (&options.save, wrong) {
                save(folder, &name, seed)?;
            }
            tally.add(&name, verdict, &words, known.and_then(|k| deviations.reasons().nth(k)));
        }
        if tally.compared() >= options.models {
            break;
        }
    }
    println!("{tally}");
    let unused = deviations.reasons().zip(&used).filter(|(_, used)| !**used);
    for (reason, _) in unused.filter(|_| options.operators.is_empty()) {
        println!("not met in this run: {reason}");
    }
    Ok(ExitCode::from(u8::from(!tally.wrong.is_empty())))
}

fn save(folder: &Path, name: &str, seed: u64) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let made = single_node(name, seed)?;
    let path = |suffix: &str| folder.join(format!("{}_{seed}{suffix}", name.replace(':', "_")));
    std::fs::write(path(".onnx"), &made.model)?;
    for (k, (_, value)) in made.inputs.iter().enumerate() {
        std::fs::write(path(&format!("_input_{k}.pb")), test_data(value))?;
    }
    Ok(())
}
