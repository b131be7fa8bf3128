//! `cargo xtask soak`: the jobs that take too long for `ci`.
//!
//! Each room declares its own in its `Cargo.toml`, so that the list holds no job whose code is not there:
//!
//! ```toml
//! [package.metadata.soak.portfolio]
//! sentence = "Ten thousand random graphs, every algorithm validated."
//! command = "cargo test --release --package recurve-scheduler --features soak"
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;
use crate::workspace::{Metadata, Workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run these jobs only
    #[arg(value_name = "JOB")]
    names: Vec<String>,
    /// Print the jobs and run none
    #[arg(long)]
    list: bool,
}

/// A long-running test: a cargo command and what it shows.
#[derive(Debug, PartialEq, Eq)]
struct Job {
    name: String,
    sentence: String,
    /// The words behind `cargo`.
    arguments: Vec<String>,
}

/// A job as `[package.metadata.soak.NAME]` has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    sentence: String,
    command: String,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut jobs = jobs(&workspace.metadata)?;
    for name in &options.names {
        if !jobs.iter().any(|job| job.name == *name) {
            bail!("no soak job is named `{name}`; `cargo xtask soak --list` prints those of this checkout");
        }
    }
    jobs.retain(|job| options.names.is_empty() || options.names.contains(&job.name));
    if jobs.is_empty() {
        println!("soak: this checkout declares no job");
    }
    for job in &jobs {
        println!("{}: {}\n    cargo {}", job.name, job.sentence, job.arguments.join(" "));
    }
    if options.list {
        return Ok(());
    }
    let mut failed = Vec::new();
    for job in &jobs {
        let started = std::time::Instant::now();
        let result = process::run(process::cargo(&workspace.root).args(&job.arguments));
        let outcome = if result.is_ok() { "passed" } else { "FAILED" };
        println!("soak: {} {outcome} after {:.0} s", job.name, started.elapsed().as_secs_f64());
        if result.is_err() {
            failed.push(job.name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("soak jobs failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Every job that the workspace's packages declare, by name.
fn jobs(metadata: &Metadata) -> Result<Vec<Job>> {
    let mut jobs = BTreeMap::new();
    for package in metadata.members() {
        let Some(table) = package.metadata.get("soak") else { continue };
        let declared: BTreeMap<String, Declared> = serde_json::from_value(table.clone())
            .with_context(|| format!("[package.metadata.soak] of {}", package.manifest_path.display()))?;
        for (name, Declared { sentence, command }) in declared {
            let mut words = command.split_whitespace().map(str::to_owned);
            if words.next().as_deref() != Some("cargo") {
                bail!("soak job `{name}` of {}: the command must start with `cargo`", package.name);
            }
            let job = Job { name: name.clone(), sentence, arguments: words.collect() };
            if jobs.insert(name, job).is_some() {
                bail!("two packages declare the soak job that {} declares", package.name);
            }
        }
    }
    Ok(jobs.into_values().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workspace::Package;

    fn metadata(soak: &serde_json::Value) -> Metadata {
        let package = Package {
            id: "room".to_owned(),
            name: "room".to_owned(),
            metadata: json!({ "soak": soak }),
            ..Package::default()
        };
        Metadata {
            packages: vec![package],
            workspace_members: vec!["room".to_owned()],
            ..Metadata::default()
        }
    }

    #[test]
    fn a_declared_job_is_listed() {
        let declared =
            json!({"graphs": {"sentence": "Many graphs.", "command": "cargo test --features soak"}});
        let jobs = jobs(&metadata(&declared)).expect("a well-formed declaration");
        assert_eq!(jobs.len(), 1);
        assert_eq!(jobs[0].name, "graphs");
        assert_eq!(jobs[0].arguments, ["test", "--features", "soak"]);
    }

    #[test]
    fn the_jobs_of_this_checkout_can_be_listed() {
        let workspace = Workspace::load().expect("the workspace");
        let jobs = jobs(&workspace.metadata).expect("every declaration is well-formed");
        assert!(jobs.iter().any(|job| job.name == "vector-math"), "{jobs:?}");
    }

    #[test]
    fn a_package_without_the_table_declares_none() {
        let mut metadata = metadata(&json!({}));
        metadata.packages[0].metadata = serde_json::Value::Null;
        assert!(jobs(&metadata).expect("nothing is declared").is_empty());
    }

    #[test]
    fn other_commands_and_unknown_fields_are_refused() {
        assert!(jobs(&metadata(&json!({"a": {"sentence": "", "command": "rm -r x"}}))).is_err());
        assert!(jobs(&metadata(&json!({"a": {"sentence": "", "command": "cargo test", "x": 1}}))).is_err());
    }
}
