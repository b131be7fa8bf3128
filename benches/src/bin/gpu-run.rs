//! Runs everything that is to be seen on a GPU and writes one JSON, one table and one log. `run.sh` of the bundle that
//! `cargo xtask gpu` makes calls it.

use anyhow::Result;
use clap::Parser;
use recurve_benches::gpu_run::{Plan, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Suites, measurements and checks on one GPU, each in a process of its own.
#[derive(Debug, Parser)]
struct Options {
    /// The folder of `gpu-suites`, `gpu-benches` and `peers.py`
    #[arg(long)]
    bundle: PathBuf,
    /// Where `gpu.json`, `gpu.md` and `gpu.log` go
    #[arg(long)]
    out: PathBuf,
    /// `cuda:0` and so on, or `emulated`
    #[arg(long, default_value = "cuda:0")]
    device: String,
    /// Seconds for everything
    #[arg(long, default_value_t = 460)]
    seconds: u64,
    /// Seed of everything that is drawn; of the time, where it is not given
    #[arg(long)]
    seed: Option<u64>,
    /// A little of everything; the emulator runs no more
    #[arg(long)]
    small: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let small = options.small || options.device == "emulated";
    let plan = Plan {
        bundle: options.bundle,
        out: options.out.clone(),
        device: options.device,
        limit: Duration::from_secs(options.seconds),
        small,
        seed: options.seed.unwrap_or_else(now),
    };
    let passed = run(&plan)?;
    print!("{}", std::fs::read_to_string(options.out.join("gpu.md"))?);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
