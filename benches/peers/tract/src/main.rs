//! Runs one model with tract: `tract-peer MODEL FOLDER THREADS RUNS`.
//!
//! FOLDER holds the inputs as raw little-endian `f32`, `in_0.bin` and so on in the order of the model; the outputs are
//! written beside them. Prints load time, median latency of the runs behind three others, and the process's peak memory
//! less what it held before it loaded the model, as JSON.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::Instant;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

/// Runs before those that are measured.
const WARMUP: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, threads, runs] = arguments.as_slice() else {
        bail!("four arguments are expected: MODEL FOLDER THREADS RUNS");
    };
    let (folder, threads, runs) = (Path::new(folder), threads.parse::<usize>()?, runs.parse::<usize>()?);
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let before = peak_mib();
    let start = Instant::now();
    let model = tract_onnx::onnx().model_for_path(model)?.into_optimized()?;
    let facts: Vec<TypedFact> =
        (0..model.inputs.len()).map(|k| model.input_fact(k).cloned()).collect::<Result<_, _>>()?;
    let plan = model.into_runnable()?;
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut inputs: TVec<TValue> = tvec![];
    for (k, fact) in facts.iter().enumerate() {
        let shape = fact.shape.as_concrete().context("an input's shape is not known")?;
        let bytes = std::fs::read(folder.join(format!("in_{k}.bin")))?;
        let values: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        inputs.push(Tensor::from_shape(shape, &values)?.into());
    }
    let mut times = Vec::with_capacity(runs);
    let mut outputs = tvec![];
    for run in 0..runs.max(1) + WARMUP {
        let given = inputs.clone();
        let start = Instant::now();
        outputs = plan.run(given)?;
        if run >= WARMUP {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    for (k, output) in outputs.iter().enumerate() {
        let plain = output.try_as_plain_ram()?;
        let bytes: Vec<u8> = plain.as_slice::<f32>()?.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("out_{k}.bin")), bytes)?;
    }
    times.sort_by(f64::total_cmp);
    let p50_us = times[times.len() / 2];
    let peak_mib = peak_mib().zip(before).map(|(peak, before)| peak - before);
    println!("{}", serde_json::json!({ "load_ms": load_ms, "p50_us": p50_us, "peak_mib": peak_mib }));
    Ok(())
}

/// Peak resident memory, where the system tells.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}
