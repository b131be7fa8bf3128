//! Measures what a GPU costs and what the kernels reach on it, and writes the numbers.

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use recurve::Device;
use recurve::testing::gpu::TestGpu;
use recurve_benches::gpu::{Bench, Measure, Record, benches, constants};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measurements on one GPU, by its events; on the emulated one with tiny sizes, so that they are exercised.
#[derive(Debug, Parser)]
struct Options {
    /// What is measured
    #[arg(value_enum)]
    section: Which,
    /// `cuda:0` and so on, or `emulated`
    #[arg(long, default_value = "cuda:0")]
    device: Device,
    /// Write the section here as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// Launches, events, flags, copies, bandwidth, barriers
    Constants,
    /// The kernel families
    Benches,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let json = options.json.clone();
    let written = move |record: &Record<'_>| {
        // What cannot be written then is an error at the end.
        let _ = json.as_deref().map_or(Ok(()), |path| write(record, path));
    };
    let mut bench = Bench::new(TestGpu::open(options.device, None)?, told, written);
    let result = match options.section {
        Which::Constants => constants(&mut bench),
        Which::Benches => benches(&mut bench),
    };
    if let Some(path) = &options.json {
        write(&bench.record(), path)?;
    }
    bench.failures.iter().for_each(|failure| println!("not measured: {failure}"));
    let sound = result.is_ok() && bench.failures.is_empty();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(record: &Record<'_>, path: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(record)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn told(measure: &Measure) {
    let Measure { name, value, unit, of_copy } = measure;
    let beside = of_copy.map(|part| format!(" ({part:.2} of a copy)")).unwrap_or_default();
    println!("{name}: {value:.3} {unit}{beside}");
}
