//! `cargo xtask conformance`: the ONNX backend suite, written to disk by the pinned `onnx` package and
//! judged by the runner in `tests/`.
//!
//! The suite lies in `target/conformance/suite`: `GROUP/CASE/model.onnx` beside its `test_data_set_N`
//! folders, and `index.json` with what a runner must know of each case. It is written again when the script
//! or the pinned packages change.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::Workspace;
use crate::{process, venv};

const SCRIPT: &str = "xtask/conformance/generate.py";
const REQUIREMENTS: &str = "xtask/conformance/requirements.txt";
const REFUSED: &str = "tests/conformance/refused.json";
/// The committed list of cases known to be wrong.
const WRONG: &str = "tests/conformance/wrong.json";

/// The page of what is supported, which the runner writes and compares.
const TABLE: &str = "docs/operators.md";

/// The runner: this binary of the workspace.
const RUNNER: &str = "conformance";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write the suite and do not run it
    #[arg(long)]
    generate_only: bool,
    /// Write the suite even where an equal one is there
    #[arg(long)]
    regenerate: bool,
    /// Passed on to the runner
    #[arg(last = true)]
    runner_arguments: Vec<String>,
}

/// What became of the suite in this checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The runner judged it and was content.
    Ran,
    /// Nothing here can judge it; that is no pass.
    NoRunner,
}

/// The part of `suite/index.json` that this task reads.
#[derive(Debug, Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    group: String,
}

pub(crate) fn run(workspace: &Workspace, options: &Options, python: &str) -> Result<()> {
    if options.regenerate {
        // The stamp alone decides whether a suite is used again.
        let stamp = folder(workspace).join(STAMP);
        if stamp.exists() {
            std::fs::remove_file(stamp)?;
        }
    }
    if options.generate_only {
        println!("conformance: {}", generate(workspace, python)?.summary());
        return Ok(());
    }
    generate_and_run(workspace, python, Built::Alone, &options.runner_arguments).map(|_| ())
}

/// With what the runner is built: the features of its dependencies, and so what must be compiled, follow from that.
#[derive(Clone, Copy)]
pub(crate) enum Built {
    /// By itself: the least to compile where nothing is compiled yet.
    Alone,
    /// With all tests: nothing to compile where they are there.
    WithTests,
}

/// Writes the suite where it is not there yet, and runs it where the checkout has a runner.
pub(crate) fn generate_and_run(
    workspace: &Workspace,
    python: &str,
    built: Built,
    runner_arguments: &[String],
) -> Result<Verdict> {
    let index = generate(workspace, python)?;
    let Some(package) = workspace.metadata.member_with_target("bin", RUNNER) else {
        println!("conformance: generated {} cases, no runner in this checkout", index.cases.len());
        return Ok(Verdict::NoRunner);
    };
    println!("conformance: {}", index.summary());
    let mut build = process::checked_cargo(&workspace.root);
    build.args(["build", "--release", "--bin", RUNNER]);
    match built {
        Built::Alone => build.args(["--package", &package.name]),
        Built::WithTests => build.args(["--workspace", "--tests"]),
    };
    process::run(&mut build)?;
    let mut runner = Command::new(workspace.metadata.target_directory.join("release").join(RUNNER));
    runner
        .current_dir(&workspace.root)
        .args(["target/conformance/suite", "--refused", REFUSED, "--wrong", WRONG, "--table", TABLE])
        .args(runner_arguments);
    process::run(&mut runner)?;
    Ok(Verdict::Ran)
}

const STAMP: &str = "suite/stamp";

fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root.join("target").join("conformance")
}

fn generate(workspace: &Workspace, python: &str) -> Result<Index> {
    let folder = folder(workspace);
    let script = workspace.root.join(SCRIPT);
    let requirements = workspace.root.join(REQUIREMENTS);
    // The stamp is the script and the pinned packages themselves: whatever changes the suite changes it.
    let wanted = read(&script)? + &read(&requirements)?;
    let suite = folder.join("suite");
    if std::fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == wanted) {
        return Index::read(&suite);
    }
    let interpreter = venv::interpreter(python, &folder.join("venv"), &requirements)?;
    let unfinished = folder.join("suite.unfinished");
    remove_folder(&unfinished)?;
    process::run(Command::new(interpreter).args(["-W", "ignore"]).arg(&script).arg(&unfinished))?;
    let index = Index::read(&unfinished)?;
    if index.cases.is_empty() {
        bail!("{SCRIPT} wrote no case");
    }
    std::fs::write(unfinished.join("stamp"), wanted)?;
    remove_folder(&suite)?;
    std::fs::rename(&unfinished, &suite)?;
    Ok(index)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn remove_folder(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

impl Index {
    fn read(suite: &Path) -> Result<Self> {
        serde_json::from_str(&read(&suite.join("index.json"))?).context("cannot read the suite's index")
    }

    /// `2033 cases: light 9, node 1884, …`
    fn summary(&self) -> String {
        let mut groups = std::collections::BTreeMap::new();
        for case in &self.cases {
            *groups.entry(case.group.as_str()).or_insert(0usize) += 1;
        }
        let parts: Vec<String> = groups.iter().map(|(group, count)| format!("{group} {count}")).collect();
        format!("{} cases: {}", self.cases.len(), parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_each_group() {
        let text = r#"{"onnx": "1", "cases": [
            {"name": "a", "group": "node"}, {"name": "b", "group": "light"}, {"name": "c", "group": "node"}]}"#;
        let index: Index = serde_json::from_str(text).expect("the text above is an index");
        assert_eq!(index.summary(), "3 cases: light 1, node 2");
    }
}
