//! `recurve devices`: where a model can run on this machine, or why not.

use super::DOCUMENT_VERSION;
use crate::exit::Exit;
use crate::quantity::bytes;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::gpu::GpuInfo;
use serde::Serialize;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve devices --json")]
pub(crate) struct Arguments {}

/// The document of `recurve devices --json`.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    devices: Vec<Entry>,
    /// Why there is no GPU; `null` where there is one.
    no_gpu: Option<String>,
}

/// A value of `--device`, and what is behind it.
#[derive(Debug, Serialize)]
struct Entry {
    device: String,
    name: String,
    /// Major and minor number of the compute capability of a GPU.
    capability: Option<String>,
    multiprocessors: Option<u32>,
    memory_bytes: Option<u64>,
    /// CUDA version of the driver.
    driver: Option<String>,
    /// The module of kernels that it runs; `null` for a GPU that none was built for.
    module: Option<String>,
}

pub(crate) fn run(_: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let (gpus, no_gpu) = match recurve::gpu::gpus() {
        Ok(gpus) => (gpus, None),
        Err(reason) => (Vec::new(), Some(reason.to_string())),
    };
    let host = |device: &str, name: &str| Entry {
        device: device.to_owned(),
        name: name.to_owned(),
        capability: None,
        multiprocessors: None,
        memory_bytes: None,
        driver: None,
        module: None,
    };
    let mut devices = vec![host("cpu", "the cores of this machine")];
    devices.extend(gpus.iter().map(entry));
    devices.push(host("emulated", "the GPU kernels on the CPU, every access checked; slow"));
    let document = Document { version: DOCUMENT_VERSION, devices, no_gpu };
    if terminal.json() {
        terminal.document(&document)?;
    } else {
        terminal.print(&text(&document, terminal))?;
    }
    Ok(Exit::Success)
}

fn entry(gpu: &GpuInfo) -> Entry {
    let (major, minor) = gpu.capability;
    Entry {
        device: gpu.device.to_string(),
        name: gpu.name.clone(),
        capability: Some(format!("{major}.{minor}")),
        multiprocessors: Some(gpu.multiprocessors),
        memory_bytes: Some(gpu.memory),
        driver: Some(gpu.driver.clone()),
        module: gpu.module.clone(),
    }
}

/// What is said under the table.
const LEGEND: &str = "`device` is what --device and --devices take. Of a GPU: `capability`, the compute capability; `processors`, its\n\
    streaming multiprocessors; `driver`, the newest CUDA that the driver knows; `module`, which of the engine's builds of\n\
    its kernels the GPU runs, none where it is older than all of them.\n";

fn text(document: &Document, terminal: &Terminal) -> String {
    let head = ["device", "name", "capability", "processors", "memory", "driver", "module"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for entry in &document.devices {
        let or_nothing = |text: &Option<String>| text.clone().unwrap_or_default();
        rows.push(vec![
            entry.device.clone(),
            entry.name.clone(),
            or_nothing(&entry.capability),
            or_nothing(&entry.multiprocessors.map(|n| n.to_string())),
            or_nothing(&entry.memory_bytes.map(|n| bytes(n as f64))),
            or_nothing(&entry.driver),
            or_nothing(&entry.module),
        ]);
    }
    let reason = document.no_gpu.as_ref().map(|reason| format!("no GPU: {reason}\n")).unwrap_or_default();
    format!("{}\n{}{reason}{LEGEND}", terminal.heading("devices"), table(&rows, &[]))
}
