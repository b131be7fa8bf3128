//! `cargo xtask models`: the benchmark models and ONNX Runtime's outputs for them, in `target/peers/models`.
//!
//! The script `benches/peers/make_models.py` writes them with fixed seeds, in an environment under
//! `target/peers/venv` with the packages pinned beside it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{process, venv};

const SCRIPT: &str = "benches/peers/make_models.py";
const REQUIREMENTS: &str = "benches/peers/requirements.txt";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write these models only
    #[arg(value_name = "MODEL")]
    names: Vec<String>,
    /// Write the models even where equal ones are there
    #[arg(long)]
    regenerate: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &Options, python: &str) -> Result<()> {
    if options.names.is_empty() && !options.regenerate {
        return ensure_all(workspace, python);
    }
    write(workspace, &options.names, python)
}

/// Where the models, the environments and what was measured lie.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root.join("target").join("peers")
}

/// The interpreter of the environment that the models are made in, which has ONNX Runtime.
pub(crate) fn interpreter(workspace: &Workspace, python: &str) -> Result<PathBuf> {
    venv::interpreter(python, &folder(workspace).join("venv"), &workspace.root.join(REQUIREMENTS))
}

/// Writes all models, unless equal ones are there.
pub(crate) fn ensure_all(workspace: &Workspace, python: &str) -> Result<()> {
    let models = folder(workspace).join("models");
    if std::fs::read_to_string(models.join(STAMP)).is_ok_and(|text| Some(text) == wanted(workspace).ok()) {
        println!("models: all written in {}", models.display());
        return Ok(());
    }
    write(workspace, &[], python)
}

/// What the stamp holds beside models that are current: the script and the pinned packages. It vouches for the whole set,
/// never for a part.
const STAMP: &str = "stamp";

fn wanted(workspace: &Workspace) -> Result<String> {
    let mut wanted = String::new();
    for path in [SCRIPT, REQUIREMENTS].map(|path| workspace.root.join(path)) {
        let text = std::fs::read_to_string(&path);
        wanted += &text.with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(wanted)
}

fn write(workspace: &Workspace, names: &[String], python: &str) -> Result<()> {
    let (wanted, models) = (wanted(workspace)?, folder(workspace).join("models"));
    let interpreter = interpreter(workspace, python)?;
    let script = workspace.root.join(SCRIPT);
    process::run(Command::new(interpreter).arg(&script).arg(&models).args(names))?;
    if names.is_empty() {
        std::fs::write(models.join(STAMP), wanted)?;
    }
    Ok(())
}
