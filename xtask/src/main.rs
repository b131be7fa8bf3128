//! Project tasks, run as `cargo xtask TASK`. `cargo xtask ci` is what CI runs, whole.
#![forbid(unsafe_code)]

mod ci;
mod conformance;
mod gpu;
mod models;
mod onnxruntime;
mod peers;
mod process;
mod ptx;
mod soak;
mod tidy;
mod venv;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Project tasks of Recurve.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    /// Python 3.11 or newer, with venv and pip; used by the tasks that take data from PyPI packages
    #[arg(long, global = true, default_value = "python3", value_name = "PROGRAM")]
    python: String,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that a change must pass: fmt, clippy, docs, tests, benches, example, tidy, ptx, conformance
    Ci(ci::Options),
    /// The rules of the house style that are not lints, the licences and the order of the rooms
    Tidy(tidy::Options),
    /// Write the ONNX backend suite to target/conformance/suite and run it
    Conformance(conformance::Options),
    /// Write the benchmark models and their expected outputs to target/peers/models
    Models(models::Options),
    /// Compare every operator with ONNX Runtime on random models
    Onnxruntime(onnxruntime::Options),
    /// Measure Recurve beside other engines on the benchmark models, into target/peers/run/peers.md
    Peers(peers::Options),
    /// Compile the GPU kernels to the modules of ptx/, or check that those are current
    Ptx(ptx::Options),
    /// Build the suites and measurements for a GPU into target/gpu-bundle, to be run on another machine
    Gpu,
    /// Tests that take too long for `ci`
    Soak(soak::Options),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let workspace = Workspace::load()?;
    match &arguments.task {
        Task::Ci(options) => ci::run(&workspace, options, &arguments.python),
        Task::Tidy(options) => tidy::run(&workspace, options),
        Task::Conformance(options) => conformance::run(&workspace, options, &arguments.python),
        Task::Models(options) => models::run(&workspace, options, &arguments.python),
        Task::Onnxruntime(options) => onnxruntime::run(&workspace, options, &arguments.python),
        Task::Peers(options) => peers::run(&workspace, options, &arguments.python),
        Task::Ptx(options) => ptx::run(&workspace, options, &arguments.python),
        Task::Gpu => gpu::run(&workspace),
        Task::Soak(options) => soak::run(&workspace, options),
    }
}
