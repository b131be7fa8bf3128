//! `recurve env`: what the engine sees of the machine and its environment.

use super::DOCUMENT_VERSION;
use crate::environment::{VARIABLES, Variable};
use crate::exit::Exit;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::profiles::Machine;
use serde::Serialize;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve env --json")]
pub(crate) struct Arguments {}

/// The document of `recurve env --json`.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    recurve: &'static str,
    os: &'static str,
    arch: &'static str,
    /// `null` where the system does not tell.
    cpu: Option<String>,
    /// Cores that the process may use.
    cores: usize,
    cpu_features: Vec<&'static str>,
    variables: Vec<VariableEntry>,
}

#[derive(Debug, Serialize)]
struct VariableEntry {
    #[serde(flatten)]
    variable: Variable,
    /// `null` where it is not set.
    value: Option<String>,
}

pub(crate) fn run(_: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let value =
        |variable: &Variable| std::env::var_os(variable.name).map(|v| v.to_string_lossy().into_owned());
    let document = Document {
        version: DOCUMENT_VERSION,
        recurve: crate::environment::VERSION,
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        cpu: cpu_name(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        cpu_features: cpu_features(),
        variables: VARIABLES.iter().map(|v| VariableEntry { variable: *v, value: value(v) }).collect(),
    };
    if terminal.json() {
        terminal.document(&document)?;
    } else {
        terminal.print(&text(&document, terminal))?;
    }
    Ok(Exit::Success)
}

fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The features that kernels are chosen by, as far as this CPU has them and the system lets them be used.
fn cpu_features() -> Vec<&'static str> {
    // Of the matrix unit the engine alone can tell.
    let unit = Machine::here().instructions.ends_with(", AMX");
    let unit = ["amx-tile", "amx-bf16"].map(|name| (name, unit));
    vector_features().into_iter().chain(unit).filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// Those of vectors, and whether they are here.
#[cfg(target_arch = "x86_64")]
fn vector_features() -> Vec<(&'static str, bool)> {
    use std::arch::is_x86_feature_detected as has;
    vec![
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("f16c", has!("f16c")),
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512dq", has!("avx512dq")),
        ("avx512vl", has!("avx512vl")),
        ("avx512vbmi", has!("avx512vbmi")),
    ]
}

/// No kernel is chosen by features here.
#[cfg(not(target_arch = "x86_64"))]
fn vector_features() -> Vec<(&'static str, bool)> {
    Vec::new()
}

fn text(document: &Document, terminal: &Terminal) -> String {
    let row = |key: &str, value: String| vec![key.to_owned(), value];
    let mut rows = vec![
        row("recurve", document.recurve.to_owned()),
        row("system", format!("{} {}", document.os, document.arch)),
    ];
    rows.extend(document.cpu.clone().map(|cpu| row("cpu", cpu)));
    rows.push(row("cores", document.cores.to_string()));
    rows.push(row("cpu features", document.cpu_features.join(" ")));
    let mut variables = vec![["name", "type", "default", "value", "meaning"].map(str::to_owned).to_vec()];
    for VariableEntry { variable, value } in &document.variables {
        let value = value.clone().unwrap_or_else(|| "(not set)".to_owned());
        let Variable { name, kind, default, meaning } = *variable;
        variables.push(vec![
            name.into(),
            kind.into(),
            default.unwrap_or("none").into(),
            value,
            meaning.into(),
        ]);
    }
    let machine = terminal.heading("machine");
    let environment = terminal.heading("environment variables");
    format!("{machine}\n{}{environment}\n{}", table(&rows, &[]), table(&variables, &[]))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_features_are_those_that_the_engine_asks_for() {
        let asked = [
            include_str!("../../../runtime/src/cpu/simd/mod.rs"),
            include_str!("../../../runtime/src/cpu/compact/wide.rs"),
            include_str!("../../../runtime/src/cpu/amx/unit.rs"),
        ];
        let named = |text: &'static str| text.split("is_x86_feature_detected!(\"").skip(1);
        let asked: BTreeSet<&str> =
            asked.into_iter().flat_map(named).filter_map(|rest| Some(rest.split_once('"')?.0)).collect();
        let told: BTreeSet<&str> = vector_features().into_iter().map(|(name, _)| name).collect();
        assert_eq!(told, asked);
    }
}
