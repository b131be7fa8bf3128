//! Runs the suites of kernels, operators and models on a GPU or on the emulated one, and writes what came of them.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use recurve::gpu::GpuInfo;
use recurve::testing::gpu::{TestGpu, modules_for};
use recurve::{Device, Engine, Session};
use recurve_tests::gpu::{Chosen, Guarded, Section, Tally, kernels, models, operators_on, run_model};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Suites of kernels, operators and models on one device; ends with 1 where any case is wrong.
#[derive(Debug, Parser)]
struct Options {
    /// `cuda:0` and so on, or `emulated`
    #[arg(long, global = true, default_value = "cuda:0")]
    device: Device,
    /// Seed of all that is drawn; of the time, where it is not given
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Write the section here as JSON
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    section: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Load every module that the device runs, and run a little of every suite from each
    Modules {
        /// Only modules behind this one
        #[arg(long)]
        after: Option<String>,
    },
    /// The kernel families against their references
    Kernels {
        /// Cases of each suite, in the place of its own number
        #[arg(long)]
        cases: Option<u32>,
        /// Only suites whose names begin so
        #[arg(long, value_delimiter = ',')]
        suites: Vec<String>,
        /// Only suites behind this one
        #[arg(long)]
        after: Option<String>,
        /// Only the case of this number
        #[arg(long)]
        only: Option<u32>,
        /// The module to load; otherwise the one that suits the device best
        #[arg(long)]
        module: Option<String>,
    },
    /// Every operator as a model of one node, against its reference
    Operators {
        /// Random uses of each operator
        #[arg(long, default_value_t = 8)]
        cases: u32,
        /// Only operators whose names begin so
        #[arg(long, value_delimiter = ',')]
        operators: Vec<String>,
        /// Seconds after which no operator is begun
        #[arg(long, default_value_t = 90)]
        seconds: u64,
    },
    /// Whole models against the CPU
    Models,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(from_time);
    println!("seed {seed}");
    let Running { name, info, work } = options.section.open(options.device, seed)?;
    let mut section = Section {
        section: name,
        device: options.device.to_string(),
        name: info.name,
        module: info.module,
        seed,
        suites: Vec::new(),
        ended: None,
        complete: false,
    };
    let mut written = Ok(());
    let ended = work(&mut |tally| {
        println!("{}", tally.line());
        tally.failures.iter().for_each(|failure| println!("    {failure}"));
        section.suites.push(tally);
        // A section that is ended from outside has told of what it came to.
        if let (Some(path), true) = (&options.json, written.is_ok()) {
            written = section.write(path);
        }
    });
    written?;
    (section.ended, section.complete) = (ended, true);
    if let Some(path) = &options.json {
        section.write(path)?;
    }
    if let Some(reason) = &section.ended {
        println!("ended: {reason}");
    }
    Ok(if section.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A section with its device open.
struct Running {
    name: &'static str,
    info: GpuInfo,
    work: Box<dyn FnOnce(&mut dyn FnMut(Tally)) -> Option<String>>,
}

impl Which {
    fn open(self, device: Device, seed: u64) -> Result<Running> {
        Ok(match self {
            Self::Modules { after } => {
                let found = modules_for(device)?;
                let mut found: Vec<Option<String>> =
                    if found.is_empty() { vec![None] } else { found.into_iter().map(Some).collect() };
                if let Some(before) = found.iter().position(|name| after.is_some() && *name == after) {
                    found.drain(..=before);
                }
                let work = move |told: &mut dyn FnMut(Tally)| load_modules(&found, device, seed, told);
                Running { name: "modules", info: info_of(device)?, work: Box::new(work) }
            }
            Self::Kernels { cases, suites, after, only, module } => {
                let chosen = Chosen { cases, suites, after, only };
                let gpu = TestGpu::open(device, module.as_deref())?;
                let info = gpu.info().clone();
                let work =
                    move |told: &mut dyn FnMut(Tally)| kernels(&mut Guarded::new(gpu), seed, &chosen, told);
                Running { name: "kernels", info, work: Box::new(work) }
            }
            Self::Operators { cases, operators, seconds } => {
                let engine = Engine::builder().build()?;
                let work = move |told: &mut dyn FnMut(Tally)| {
                    let builder = || Session::builder().with_engine(&engine).with_device(device);
                    operators_on(&builder, seed, cases, &operators, Duration::from_secs(seconds), told)
                };
                Running { name: "operators", info: info_of(device)?, work: Box::new(work) }
            }
            Self::Models => {
                let work = move |told: &mut dyn FnMut(Tally)| {
                    models(seed).iter().for_each(|case| told(run_model(case, device, seed)));
                    None
                };
                Running { name: "models", info: info_of(device)?, work: Box::new(work) }
            }
        })
    }
}

/// A module for the emulator is the host's code; a GPU loads each that it can run. A lost device ends it.
fn load_modules(
    modules: &[Option<String>],
    device: Device,
    seed: u64,
    told: &mut dyn FnMut(Tally),
) -> Option<String> {
    for module in modules {
        let start = Instant::now();
        let name = module.as_deref().unwrap_or("host").to_owned();
        let mut tally = Tally { suite: name, ..Tally::default() };
        let mut ended = None;
        match TestGpu::open(device, module.as_deref()) {
            Ok(gpu) => {
                // That it loads does not show that it runs.
                let chosen = Chosen { cases: Some(2), suites: Vec::new(), after: None, only: None };
                let mut ran = Vec::new();
                ended = kernels(&mut Guarded::new(gpu), seed, &chosen, &mut |tally| ran.push(tally));
                tally.passed = ran.iter().map(|t| t.passed).sum();
                tally.refused = ran.iter().map(|t| t.refused).sum();
                for of in ran {
                    of.failures.iter().for_each(|failure| tally.fail(format!("{}: {failure}", of.suite)));
                }
            }
            Err(error) => tally.fail(error.to_string()),
        }
        tally.seconds = start.elapsed().as_secs_f64();
        told(tally);
        if ended.is_some() {
            return ended;
        }
    }
    None
}

fn info_of(device: Device) -> Result<GpuInfo> {
    if let Device::Cuda(ordinal) = device {
        let found = recurve::gpu::gpus()?;
        return found.into_iter().nth(ordinal).with_context(|| format!("there is no {device}"));
    }
    Ok(TestGpu::open(device, None)?.info().clone())
}

fn from_time() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_nanos() as u64)
}
