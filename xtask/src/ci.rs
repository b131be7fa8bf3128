//! `cargo xtask ci`: every check of the project in one command, cheapest first, with seconds per stage.
//!
//! All stages build one profile: release, with debug assertions and overflow checks. The first stage that
//! fails ends the run; the table of seconds is printed either way.

mod report;
mod test_count;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::workspace::Workspace;
use crate::{conformance, process, ptx, tidy};
use report::{Outcome, Report};

/// A run that takes longer than this fails; what needs longer belongs in `cargo xtask soak`.
const LIMIT: Duration = Duration::from_hours(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run these stages only, in the usual order
    #[arg(value_enum)]
    stages: Vec<Stage>,
}

/// One stage of CI, in the order in which stages run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// rustfmt, checking only
    Fmt,
    /// clippy on every target, warnings denied
    Clippy,
    /// rustdoc, warnings denied
    Docs,
    /// every test of the workspace
    Tests,
    /// every bench once, without timing
    Benches,
    /// the example that the README opens with
    Example,
    /// the rules of the house style that are not lints
    Tidy,
    /// the PTX modules are those of the kernels
    Ptx,
    /// the ONNX backend suite
    Conformance,
}

pub(crate) fn run(workspace: &Workspace, options: &Options, python: &str) -> Result<()> {
    let mut report = Report::default();
    let started = Instant::now();
    let mut failure = None;
    for &stage in Stage::value_variants() {
        if !stage.is_wanted(&options.stages) {
            continue;
        }
        if failure.is_some() {
            report.push(stage.name(), Duration::ZERO, Outcome::NotRun);
            continue;
        }
        eprintln!("\n== {} ==", stage.name());
        let stage_started = Instant::now();
        let result = stage.run(workspace, python);
        let took = stage_started.elapsed();
        match result {
            Ok(outcome) => report.push(stage.name(), took, outcome),
            Err(error) => {
                eprintln!("error: {error:#}");
                report.push(stage.name(), took, Outcome::Failed);
                failure = Some(format!("stage `{}` failed", stage.name()));
            }
        }
        if failure.is_none() && started.elapsed() > LIMIT {
            failure = Some(format!("the run took more than {} minutes", LIMIT.as_secs() / 60));
        }
    }
    print!("\n{report}");
    match failure {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

impl Stage {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it runs when these are named: without names all do.
    fn is_wanted(self, named: &[Self]) -> bool {
        named.is_empty() || named.contains(&self)
    }

    fn run(self, workspace: &Workspace, python: &str) -> Result<Outcome> {
        let mut cargo = process::checked_cargo(&workspace.root);
        match self {
            Self::Fmt => process::run(cargo.args(["fmt", "--all", "--check"]))?,
            Self::Clippy => {
                cargo.args(["clippy", "--release", "--workspace", "--all-targets"]);
                process::run(cargo.args(["--", "-D", "warnings"]))?;
            }
            Self::Docs => {
                cargo.env("RUSTDOCFLAGS", "-D warnings");
                process::run(cargo.args(["doc", "--release", "--no-deps", "--workspace"]))?;
            }
            Self::Tests => {
                cargo.args(["test", "--release", "--workspace"]);
                let count = test_count::run(&mut cargo, &mut std::io::stdout().lock())?;
                return Ok(Outcome::Tested(count));
            }
            Self::Benches => {
                // As tests of the same packages, so that nothing but the benches themselves is left to build.
                cargo.args(["test", "--release", "--workspace"]);
                for package in workspace.metadata.members() {
                    for bench in package.targets.iter().filter(|target| target.kind == ["bench"]) {
                        cargo.args(["--bench", &bench.name]);
                    }
                }
                process::run(cargo.args(["--", "--test"]))?;
            }
            Self::Example => return example(workspace, cargo),
            Self::Tidy => tidy::run(workspace, &tidy::Options::default())?,
            Self::Ptx => ptx::check(workspace)?,
            Self::Conformance => return conformance_stage(workspace, python),
        }
        Ok(Outcome::Passed)
    }
}

/// Runs the README's first command where the example is there.
fn example(workspace: &Workspace, mut cargo: Command) -> Result<Outcome> {
    if workspace.metadata.member_with_target("example", "addition").is_none() {
        return Ok(Outcome::Absent("no example `addition` in this checkout"));
    }
    process::run(cargo.args(["run", "--release", "--example", "addition", "--", "347+58"]))?;
    Ok(Outcome::Passed)
}

fn conformance_stage(workspace: &Workspace, python: &str) -> Result<Outcome> {
    Ok(match conformance::generate_and_run(workspace, python, conformance::Built::WithTests, &[])? {
        conformance::Verdict::Ran => Outcome::Passed,
        conformance::Verdict::NoRunner => Outcome::Absent("no runner in this checkout"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stages_run_where_none_is_named() {
        let wanted = |named: &[Stage]| -> Vec<Stage> {
            Stage::value_variants().iter().copied().filter(|stage| stage.is_wanted(named)).collect()
        };
        assert_eq!(wanted(&[Stage::Benches, Stage::Fmt]), [Stage::Fmt, Stage::Benches]);
        assert_eq!(wanted(&[]), Stage::value_variants());
    }
}
