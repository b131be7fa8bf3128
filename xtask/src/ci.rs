//! `cargo xtask ci`: every check of the project in one command, cheapest first, with seconds per stage.
//!
//! All stages build one profile: release, with debug assertions and overflow checks. The first stage that
//! fails ends the run; the table of seconds is printed either way.

mod report;
mod test_count;

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
    /// the programs that the README shows
    Example,
    /// the rules of the house style that are not lints
    Tidy,
    /// the PTX modules are those of the kernels
    Ptx,
    /// the ONNX backend suite
    Conformance,
}

pub(crate) fn run(workspace: &Workspace, options: &Options, python: &str) -> Result<()> {
    let started = Instant::now();
    let mut run_stage = |stage: Stage| {
        eprintln!("\n== {} ==", stage.name());
        stage.run(workspace, python).inspect_err(|error| eprintln!("error: {error:#}"))
    };
    let (report, failure) = run_stages(&options.stages, &mut run_stage, &|| started.elapsed());
    print!("\n{report}");
    match failure {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

/// Runs the `named` stages, all where none is, up to the first that fails or that ends after [`LIMIT`]; `clock` tells how
/// long the run has taken. Also why it failed, where it did.
fn run_stages(
    named: &[Stage],
    run_stage: &mut dyn FnMut(Stage) -> Result<Outcome>,
    clock: &dyn Fn() -> Duration,
) -> (Report, Option<String>) {
    let (mut report, mut failure) = (Report::default(), None);
    for &stage in Stage::value_variants().iter().filter(|stage| stage.is_wanted(named)) {
        if failure.is_some() {
            report.push(stage.name(), Duration::ZERO, Outcome::NotRun);
            continue;
        }
        let before = clock();
        let ended = run_stage(stage);
        let now = clock();
        report.push(stage.name(), now.saturating_sub(before), *ended.as_ref().unwrap_or(&Outcome::Failed));
        if ended.is_err() {
            failure = Some(format!("stage `{}` failed", stage.name()));
        } else if now > LIMIT {
            failure = Some(format!("the run took more than {} minutes", LIMIT.as_secs() / 60));
        }
    }
    (report, failure)
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
            Self::Example => return example(workspace),
            Self::Tidy => tidy::run(workspace, &tidy::Options::default())?,
            Self::Ptx => ptx::check(workspace)?,
            Self::Conformance => return conformance_stage(workspace, python),
        }
        Ok(Outcome::Passed)
    }
}

/// Runs the README's first command and its program where they are there.
fn example(workspace: &Workspace) -> Result<Outcome> {
    for (name, arguments) in [("addition", &["--", "347+58"][..]), ("session", &[])] {
        if workspace.metadata.member_with_target("example", name).is_none() {
            return Ok(Outcome::Absent("no such example in this checkout"));
        }
        let mut cargo = process::checked_cargo(&workspace.root);
        process::run(cargo.args(["run", "--release", "--example", name]).args(arguments))?;
    }
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

    /// The report and the failure of a run whose stages take so many seconds each; those of 0 fail.
    fn ended(stages: [(Stage, u64); 3]) -> (String, Option<String>) {
        let now = std::cell::Cell::new(Duration::ZERO);
        let mut run_stage = |stage: Stage| {
            let seconds = stages.iter().find(|(of, _)| *of == stage).map_or(0, |(_, seconds)| *seconds);
            now.set(now.get() + Duration::from_secs(seconds));
            if seconds == 0 {
                bail!("broken");
            }
            Ok(Outcome::Passed)
        };
        let (report, failure) = run_stages(&stages.map(|(stage, _)| stage), &mut run_stage, &|| now.get());
        (report.to_string(), failure)
    }

    #[test]
    fn a_run_of_more_than_an_hour_fails_and_one_of_an_hour_does_not() {
        let (report, failure) = ended([(Stage::Fmt, 5), (Stage::Clippy, 3594), (Stage::Docs, 1)]);
        assert_eq!(failure, None, "{report}");
        let (report, failure) = ended([(Stage::Fmt, 5), (Stage::Clippy, 3594), (Stage::Docs, 2)]);
        assert_eq!(failure.as_deref(), Some("the run took more than 60 minutes"), "{report}");
        let (report, failure) = ended([(Stage::Fmt, 5), (Stage::Clippy, 3600), (Stage::Docs, 2)]);
        assert!(failure.is_some() && report.contains("docs              0.0  not run"), "{report}");
        assert!(report.contains("clippy         3600.0  passed"), "{report}");
    }

    #[test]
    fn the_first_stage_that_fails_ends_the_run() {
        let (report, failure) = ended([(Stage::Fmt, 5), (Stage::Clippy, 0), (Stage::Docs, 2)]);
        assert_eq!(failure.as_deref(), Some("stage `clippy` failed"));
        assert!(report.contains("clippy            0.0  FAILED") && report.contains("not run"), "{report}");
    }
}
