//! `recurve env`: what the engine sees of the machine and its environment.

use super::DOCUMENT_VERSION;
use crate::environment::{VARIABLES, Variable};
use crate::exit::Exit;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
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

/// The features that kernels choose by, as far as this CPU has them.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let all = [
        ("sse4.2", has!("sse4.2")),
        ("avx", has!("avx")),
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("f16c", has!("f16c")),
        ("avxvnni", has!("avxvnni")),
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512dq", has!("avx512dq")),
        ("avx512vl", has!("avx512vl")),
        ("avx512vnni", has!("avx512vnni")),
        ("avx512bf16", has!("avx512bf16")),
        ("avx512fp16", has!("avx512fp16")),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// The features that kernels choose by, as far as this CPU has them.
#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as has;
    let all = [
        ("neon", has!("neon")),
        ("fp16", has!("fp16")),
        ("dotprod", has!("dotprod")),
        ("i8mm", has!("i8mm")),
        ("bf16", has!("bf16")),
        ("sve", has!("sve")),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// No kernel chooses by features here.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<&'static str> {
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
