//! Writes or checks `docs/gpu.md`, the table of what a GPU computes of each operator and element type.

use anyhow::{Context, Result};
use clap::Parser;
use recurve_tests::gpu_coverage::page;
use std::path::PathBuf;
use std::process::ExitCode;

/// Plans random uses of every operator for a GPU; exits with 0 when the table is current.
#[derive(Debug, Parser)]
struct Options {
    /// Write the table
    #[arg(long)]
    update: bool,
    /// The checkout
    #[arg(long, default_value = ".")]
    root: PathBuf,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let path = options.root.join("docs/gpu.md");
    let page = page()?;
    if options.update {
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    print!("{page}");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    Ok(if page == committed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
