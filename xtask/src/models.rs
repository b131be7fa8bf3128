//! `cargo xtask models`: the benchmark models and ONNX Runtime's outputs for them, in `target/peers/models`.
//!
//! The script `benches/peers/make_models.py` writes them with fixed seeds, in an environment under
//! `target/peers/venv` with the packages pinned beside it.

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
    let folder = workspace.root.join("target").join("peers");
    let script = workspace.root.join(SCRIPT);
    let requirements = workspace.root.join(REQUIREMENTS);
    let mut wanted = String::new();
    for path in [&script, &requirements] {
        let text = std::fs::read_to_string(path);
        wanted += &text.with_context(|| format!("cannot read {}", path.display()))?;
    }
    let models = folder.join("models");
    // The stamp is the script and the pinned packages; it vouches for the whole set, never for a part.
    let stamp = models.join("stamp");
    let current = std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted);
    if current && !options.regenerate {
        println!("models: all written in {}", models.display());
        return Ok(());
    }
    let interpreter = venv::interpreter(python, &folder.join("venv"), &requirements)?;
    process::run(Command::new(interpreter).arg(&script).arg(&models).args(&options.names))?;
    if options.names.is_empty() {
        std::fs::write(stamp, wanted)?;
    }
    Ok(())
}
