//! What placing recurrent models on threads and a GPU at once is predicted to give: a table, by a profile of the GPU that
//! may be synthetic and times of the CPU that were measured.
//!
//! `--models DIR` writes the models, for `recurve profile` of a release build; the table takes the profiles that it wrote,
//! or measures here. Nothing is run on a GPU.

use anyhow::{Context, Result};
use clap::Parser;
use recurve::plans::{Plan, PlanError, PlanOptions, PlannedDevice};
use recurve::profiles::{Profile, ProfileOptions};
use recurve::settings::{Devices, Mode, Pinning};
use recurve::{Engine, Session, Tensor};
use recurve_benches::branches::{Extents, bidirectional, branches, encoder_decoder, ensemble, stacked};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Parser)]
struct Arguments {
    /// Write the models to this folder, and nothing else
    #[arg(long)]
    models: Option<PathBuf>,
    /// Profiles of the CPU by model, `NAME.json` in this folder, instead of measuring here
    #[arg(long)]
    profiles: Option<PathBuf>,
    /// What the GPU costs
    #[arg(long, default_value = "runtime/profiles/h100-synthetic.json")]
    device_profile: PathBuf,
    /// Threads, of which one launches for the GPU
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// These models alone, with commas between
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Write the table to this file
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A model by its name.
struct Model {
    name: &'static str,
    of: Extents,
    build: fn(Extents) -> Vec<u8>,
}

const fn extents(hidden: usize, time: usize) -> Extents {
    Extents { time, batch: 1, hidden }
}

const MODELS: [Model; 8] = [
    Model { name: "one-layer", of: extents(512, 25), build: |of| stacked(of, 1) },
    Model { name: "four-layers", of: extents(128, 64), build: |of| stacked(of, 4) },
    Model { name: "bidirectional", of: extents(256, 50), build: bidirectional },
    Model { name: "encoder-decoder", of: extents(128, 50), build: encoder_decoder },
    Model { name: "ensemble", of: extents(128, 50), build: ensemble },
    Model { name: "four-branches", of: extents(64, 50), build: |of| branches(of, 4) },
    Model { name: "eight-branches", of: extents(32, 32), build: |of| branches(of, 8) },
    Model { name: "sixteen-branches", of: extents(16, 32), build: |of| branches(of, 16) },
];

/// Objectives as multiples of the GPU alone.
const OBJECTIVES: [f64; 4] = [1.0, 1.2, 1.5, 2.0];

/// What is told of a model.
struct Row {
    name: &'static str,
    of: Extents,
    cpu_us: f64,
    gpu_us: f64,
    gpu_bytes: usize,
    /// Everything on the GPU, in as many streams as gain.
    streams: Plan,
    best: Plan,
    /// The plan of the least bytes within each objective; `None` where none was found.
    light: Vec<Option<Plan>>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.models {
        std::fs::create_dir_all(folder)?;
        for model in &MODELS {
            std::fs::write(folder.join(format!("{}.onnx", model.name)), (model.build)(model.of))?;
        }
        return Ok(());
    }
    let device = Profile::read(&arguments.device_profile)?;
    let engine = Engine::builder().with_threads(arguments.threads).with_pinning(Pinning::None).build()?;
    let mut rows = Vec::with_capacity(MODELS.len());
    let wanted = |model: &&Model| arguments.only.is_empty() || arguments.only.iter().any(|n| n == model.name);
    for model in MODELS.iter().filter(wanted) {
        rows.push(planned(model, &engine, &arguments, &device).with_context(|| model.name)?);
    }
    let text = document(&rows, &device, &arguments);
    match &arguments.out {
        Some(path) => std::fs::write(path, &text)?,
        None => println!("{text}"),
    }
    Ok(())
}

fn planned(model: &Model, engine: &Engine, arguments: &Arguments, device: &Profile) -> Result<Row> {
    let bytes = (model.build)(model.of);
    let load = |devices: &str| -> Result<Session> {
        let devices: Devices = devices.parse()?;
        Ok(Session::builder().with_engine(engine).with_devices(devices).load_bytes(bytes.clone())?)
    };
    let session = load("cpu,cuda:0")?;
    let shape = model.of.sequence();
    let mut profile = match &arguments.profiles {
        Some(folder) => Profile::read(&folder.join(format!("{}.json", model.name)))?,
        None => {
            let x = Tensor::new(&shape, vec![0.1f32; shape.iter().product()])?;
            session.profile([("x", &x)], &ProfileOptions::default().with_cpu_alone())?
        }
    };
    profile.merge(device.clone().of_devices());
    let cpu = load("cpu")?.plan([("x", shape)], &profile)?.plan;
    let plan = |mode| session.plan_with([("x", shape)], &profile, PlanOptions::default().with_mode(mode));
    let best = plan(Mode::Latency)?.plan;
    let gpu_us = best.device_us.context("no step runs on the GPU")?;
    let gpu_bytes = best.device_bytes.unwrap_or_default();
    let mut light = Vec::with_capacity(OBJECTIVES.len());
    for times in OBJECTIVES {
        // The least time that is told apart longer, so that the GPU alone is within its own.
        let slo = Duration::from_secs_f64(gpu_us * times / 1e6) + Duration::from_nanos(1);
        light.push(match plan(Mode::Memory { slo }) {
            Ok(planning) => Some(planning.plan),
            Err(recurve::Error::Plan { source: PlanError::Slo { .. } }) => None,
            Err(error) => return Err(error.into()),
        });
    }
    // With threads on which everything takes far too long, all that can run on the GPU does.
    let mut slow = profile.clone();
    for cost in slow.operators.values_mut() {
        for (_, m) in cost.lanes.iter_mut().filter(|(lane, _)| lane.starts_with("cpu:")) {
            [&mut m.median_us, &mut m.min_us, &mut m.p90_us].into_iter().for_each(|us| *us *= 1e4);
        }
    }
    let streams = session.plan([("x", shape)], &slow)?.plan;
    let Model { name, of, .. } = *model;
    Ok(Row { name, of, cpu_us: cpu.predicted_us, gpu_us, gpu_bytes, streams, best, light })
}

fn bytes_of(plan: &Plan) -> usize {
    plan.device.as_ref().map_or(0, PlannedDevice::bytes)
}

fn kib(bytes: usize) -> String {
    format!("{:.0}", bytes as f64 / 1024.0)
}

/// How much less `now` is than `before`, in parts of a hundred.
fn less(now: f64, before: f64) -> f64 {
    100.0 * (1.0 - now / before)
}

fn document(rows: &[Row], device: &Profile, arguments: &Arguments) -> String {
    let mut text = String::from("# Placement on threads and a GPU, predicted by a synthetic profile\n\n");
    let from = Path::new(&arguments.device_profile).display();
    let _ = writeln!(
        text,
        "**Nothing here was run on a GPU.** What the GPU takes is **synthetic**: computed from published figures, see the\n\
         notes of `{from}` below. What the CPU takes was measured, each operator\n\
         by itself on one thread and, for the CPU alone, on two. Times are what the plans' instructions are predicted to\n\
         take, copies and hand-overs included; bytes are those of the GPU's memory, weights, constants and the arena.\n\
         Written by `cargo run -p recurve-benches --bin placement`, {} threads, of which\n\
         one launches for the GPU; batch 1, f32.\n",
        arguments.threads
    );
    let _ = writeln!(text, "## Least time\n");
    text += "GPU alone is one stream, as `--device cuda:0` runs a model; beside it everything on the GPU in several streams.\n\n";
    text += "| model | hidden, steps | CPU alone µs | GPU alone µs (synthetic) | in streams µs | both µs | less than GPU alone | steps on GPU, CPU | streams | copies | rewrite |\n";
    text += "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n";
    for row in rows {
        let there = row.best.device.as_ref().map_or(0, |d| d.steps.len());
        let streams =
            row.best.device.as_ref().map_or(0, |d| d.streams.iter().max().map_or(1, |most| most + 1));
        let copies = row.best.device.as_ref().map_or(0, |d| d.copies.len());
        let _ = writeln!(
            text,
            "| {} | {}, {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} % | {}, {} | {streams} | {copies} | {} |",
            row.name,
            row.of.hidden,
            row.of.time,
            row.cpu_us,
            row.gpu_us,
            row.streams.predicted_us,
            row.best.predicted_us,
            less(row.best.predicted_us, row.gpu_us),
            there,
            row.best.steps.len() - there,
            row.best.rewrite
        );
    }
    let _ = writeln!(text, "\n## Least GPU memory within an objective, as multiples of the GPU alone\n");
    text += "KiB, and how much less than the GPU alone; `-` where no plan was found within it.\n\n";
    text += "| model | GPU alone | 1.0 × | 1.2 × | 1.5 × | 2.0 × |\n|---|---:|---:|---:|---:|---:|\n";
    for row in rows {
        let cell = |plan: &Option<Plan>| match plan {
            Some(plan) => {
                let share = less(bytes_of(plan) as f64, row.gpu_bytes.max(1) as f64);
                format!("{} ({share:.0} %)", kib(bytes_of(plan)))
            }
            None => "-".to_owned(),
        };
        let cells: Vec<String> = row.light.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | {} | {} |", row.name, kib(row.gpu_bytes), cells.join(" | "));
    }
    let _ = writeln!(text, "\n## The plans of the least GPU memory within 1.5 ×\n");
    text += "Steps that are brought weights have them copied in every run, of which the bytes are told.\n\n";
    text += "| model | GPU KiB | µs | objective µs | steps on GPU, CPU | brought weights | KiB copied | rewrite |\n";
    text += "|---|---:|---:|---:|---|---:|---:|---|\n";
    for row in rows {
        let Some(plan) = row.light.get(2).and_then(Option::as_ref) else { continue };
        let of = |count: fn(&PlannedDevice) -> usize| plan.device.as_ref().map_or(0, count);
        let there = of(|device| device.steps.len());
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {there}, {} | {} | {} | {} |",
            row.name,
            kib(bytes_of(plan)),
            plan.predicted_us,
            row.gpu_us * OBJECTIVES[2],
            plan.steps.len() - there,
            of(|device| device.brought.len()),
            kib(of(PlannedDevice::brought_bytes)),
            plan.rewrite
        );
    }
    let _ = writeln!(text, "\n## Aims and what came out\n");
    let mut aims = |name: &str, count: usize, of: usize| {
        let _ = writeln!(text, "- {name}: {count} of {of} models.");
    };
    let never_worse = rows.iter().filter(|r| r.best.predicted_us <= r.gpu_us.min(r.cpu_us) * 1.0001).count();
    aims("Never slower than the faster of CPU alone and GPU alone", never_worse, rows.len());
    let fast = rows.iter().filter(|r| less(r.best.predicted_us, r.gpu_us) >= 19.4).count();
    aims("At least 19.4 % less time than the GPU alone", fast, rows.len());
    let small = |r: &&Row| {
        let within = r.light.get(2).and_then(Option::as_ref);
        within.is_some_and(|plan| less(bytes_of(plan) as f64, r.gpu_bytes.max(1) as f64) >= 67.5)
    };
    aims(
        "At least 67.5 % less GPU memory within 1.5 × the GPU alone",
        rows.iter().filter(small).count(),
        rows.len(),
    );
    let _ = writeln!(text, "\n## Notes of the synthetic profile\n");
    for device in device.devices.values() {
        for note in &device.notes {
            let _ = writeln!(text, "- {note}");
        }
    }
    text
}
