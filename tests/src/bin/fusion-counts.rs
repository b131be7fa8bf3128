//! Writes or checks `docs/fusion.md`, the table of what fusion makes of known models.

use anyhow::{Context, Result};
use clap::Parser;
use recurve_tests::fusion_counts::page;
use std::path::PathBuf;
use std::process::ExitCode;

/// Counts operators and bytes before and after fusion; exits with 0 when the table is current.
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
    let path = options.root.join("docs/fusion.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let (page, absent) = page(&options.root, &committed)?;
    if absent > 0 {
        eprintln!("{absent} rows are as committed: their models are not there");
    }
    if options.update {
        std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    print!("{page}");
    Ok(if page == committed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
