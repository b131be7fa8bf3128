//! `cargo xtask onnxruntime`: random models of every operator, run by ONNX Runtime too and compared by the runner in
//! `tests/`.
//!
//! The environment is the one of `cargo xtask models`, in `target/peers/venv`.

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{models, process};

/// The runner: this binary of the workspace.
const RUNNER: &str = "against_onnxruntime";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed on to the runner
    #[arg(last = true)]
    runner_arguments: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options, python: &str) -> Result<()> {
    let interpreter = models::interpreter(workspace, python)?;
    let package = workspace.metadata.member_with_target("bin", RUNNER);
    let package =
        package.with_context(|| format!("no package of the workspace has the binary `{RUNNER}`"))?;
    let mut runner = process::checked_cargo(&workspace.root);
    runner.args(["run", "--release", "--package", &package.name, "--bin", RUNNER, "--", "--python"]);
    process::run(runner.arg(interpreter).args(&options.runner_arguments))
}
