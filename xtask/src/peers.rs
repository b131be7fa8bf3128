//! `cargo xtask peers`: Recurve beside other engines on the benchmark models, as a table of medians, ratios and floors.
//!
//! Everything lies in `target/peers`: the models, an environment for each Python engine made from the packages pinned in
//! `benches/peers`, the tract program, and in `run` what was measured. An engine that cannot be had here is named with
//! the reason and left out. The rounds and the table are `benches/peers/latency.py`'s.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Deserialize;

use crate::workspace::Workspace;
use crate::{models, process, venv};

const SCRIPT: &str = "benches/peers/latency.py";
const OPENVINO: &str = "benches/peers/openvino.txt";
const TRACT: &str = "benches/peers/tract/Cargo.toml";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Measure this model only; may be given several times
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// Measure this peer only; may be given several times
    #[arg(long = "peer", value_name = "NAME", value_enum)]
    peers: Vec<Peer>,
    /// Interleaved rounds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Numbers of threads
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 2])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    threads: Vec<u32>,
    /// Seconds that the runs of one measurement take, about
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// Formats of Recurve's weights beside f32, with a column each
    #[arg(long, value_name = "FORMAT,…", value_delimiter = ',')]
    precision: Vec<Format>,
    /// Go on with the run that was cut off
    #[arg(long)]
    resume: bool,
    /// This `recurve` command instead of one that is built now; with --limits
    #[arg(long, value_name = "PROGRAM", requires = "limits")]
    recurve: Option<PathBuf>,
    /// This `limits` program of the benches instead of one that is built now; with --recurve
    #[arg(long, value_name = "PROGRAM", requires = "recurve")]
    limits: Option<PathBuf>,
}

/// Engines that Recurve can be measured beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    Onnxruntime,
    Openvino,
    Tract,
    Torch,
}

/// Formats of weights that are not the model's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    F16,
    Bf16,
    Int8,
}

/// The part of `models.json` that this task reads.
#[derive(Debug, Deserialize)]
struct Model {
    name: String,
}

pub(crate) fn run(workspace: &Workspace, options: &Options, python: &str) -> Result<()> {
    ensure!(options.seconds > 0.0 && options.seconds.is_finite(), "--seconds must be above 0");
    let folder = models::folder(workspace);
    models::ensure_all(workspace, python)?;
    check_models(&folder.join("models").join("models.json"), &options.models)?;
    let interpreter = models::interpreter(workspace, python)?;
    let wanted = if options.peers.is_empty() { Peer::value_variants() } else { &options.peers };
    let mut script = Command::new(&interpreter);
    let [recurve, limits] = programs(workspace, options)?;
    script.arg(workspace.root.join(SCRIPT));
    script.arg("--recurve").arg(recurve).arg("--limits").arg(limits);
    script.arg("--models").arg(folder.join("models")).arg("--out").arg(folder.join("run"));
    let mut there = 0;
    for &peer in wanted {
        match peer.prepare(workspace, python, &interpreter) {
            Ok(program) => {
                there += 1;
                script.arg("--engine").arg(format!("{}={}", peer.name(), program.display()));
            }
            Err(reason) => {
                let reason = format!("{reason:#}").lines().next().unwrap_or_default().to_owned();
                eprintln!("{}: absent, {reason}", peer.name());
                script.arg("--absent").arg(format!("{}={reason}", peer.name()));
            }
        }
    }
    ensure!(there > 0, "none of the peers that were asked for can be had here");
    for model in &options.models {
        script.args(["--model", model]);
    }
    script.args(["--rounds", &options.rounds.to_string(), "--seconds", &options.seconds.to_string()]);
    script.args(["--threads", &joined(options.threads.iter())]);
    let formats = options.precision.iter().map(name);
    script.args(["--precision", &joined(std::iter::once("f32".to_owned()).chain(formats))]);
    if options.resume {
        script.arg("--resume");
    }
    process::run(&mut script)?;
    println!("peers: the table is {}", folder.join("run").join("peers.md").display());
    Ok(())
}

impl Peer {
    fn name(self) -> String {
        name(&self)
    }

    /// The interpreter or program that runs it, or why there is none.
    fn prepare(self, workspace: &Workspace, python: &str, interpreter: &Path) -> Result<PathBuf> {
        let folder = models::folder(workspace);
        match self {
            Self::Onnxruntime => Ok(interpreter.to_owned()),
            Self::Openvino => {
                venv::interpreter(python, &folder.join("openvino"), &workspace.root.join(OPENVINO))
                    .context("its packages cannot be installed")
            }
            Self::Tract => {
                let target = folder.join("tract");
                let mut cargo = process::cargo(&workspace.root);
                cargo.args(["build", "--release", "--manifest-path", TRACT, "--target-dir"]).arg(&target);
                process::run(&mut cargo).context("its crates cannot be built")?;
                Ok(target.join("release").join("tract-peer"))
            }
            Self::Torch => bail!("PyPI has no wheel of it for CPUs alone, and it reads no ONNX"),
        }
    }
}

/// The `recurve` command and the program that measures the processor's limits, built unless they are given.
fn programs(workspace: &Workspace, options: &Options) -> Result<[PathBuf; 2]> {
    if let (Some(recurve), Some(limits)) = (&options.recurve, &options.limits) {
        for program in [recurve, limits] {
            ensure!(program.is_file(), "there is no program {}", program.display());
        }
        return Ok([recurve.clone(), limits.clone()]);
    }
    // In one call, so that what they share is built once.
    let mut cargo = process::cargo(&workspace.root);
    cargo.args(["build", "--release", "--package", "recurve-cli", "--bin", "recurve"]);
    process::run(cargo.args(["--package", "recurve-benches", "--bin", "limits"]))?;
    Ok(["recurve", "limits"].map(|name| workspace.metadata.target_directory.join("release").join(name)))
}

/// Refuses names that `models.json` does not have.
fn check_models(list: &Path, names: &[String]) -> Result<()> {
    let text = std::fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let models: Vec<Model> =
        serde_json::from_str(&text).with_context(|| format!("cannot read {}", list.display()))?;
    for name in names {
        if !models.iter().any(|model| model.name == *name) {
            let known = joined(models.iter().map(|model| &model.name)).replace(',', ", ");
            bail!("there is no model `{name}`; the models are {known}");
        }
    }
    Ok(())
}

fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn joined(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_models_are_refused_with_the_names_of_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("models.json");
        std::fs::write(&list, r#"[{"name": "a", "flops": 1.0}, {"name": "b"}]"#).expect("written");
        assert!(check_models(&list, &["b".to_owned()]).is_ok());
        let error = check_models(&list, &["b".to_owned(), "c".to_owned()]).expect_err("there is no c");
        assert_eq!(error.to_string(), "there is no model `c`; the models are a, b");
    }

    #[test]
    fn unknown_peers_and_lone_programs_are_refused_and_numbers_checked() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let parse = |line: &str| <Line as clap::Parser>::try_parse_from(line.split(' '));
        let line = parse("peers --peer tract --peer openvino --threads 1,2,4 --precision f16 --rounds 3");
        let options = line.expect("a valid line").options;
        assert_eq!((options.peers, options.threads), (vec![Peer::Tract, Peer::Openvino], vec![1, 2, 4]));
        let refused = |line: &str| parse(line).expect_err("refused").to_string();
        assert!(refused("peers --peer numpy").contains("onnxruntime, openvino, tract, torch"));
        assert!(refused("peers --threads 0").contains("0 is not in 1.."));
        assert!(refused("peers --recurve a").contains("--limits"));
    }

    /// The tables and floors are Python's own tests; without Python there is nothing that could make a table.
    #[test]
    fn tables_and_floors_pass_their_own_tests() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/peers");
        let mut python = Command::new("python3");
        python.args(["-B", "-m", "unittest", "-q", "test_tables"]).current_dir(folder);
        match python.output() {
            Ok(ran) => assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr)),
            Err(error) => eprintln!("skipped: python3 cannot be started: {error}"),
        }
    }
}
