//! `recurve run`: runs a model and says what came out and how long it took.

use super::DOCUMENT_VERSION;
use crate::arguments::{ExecutionArguments, InputArguments, ModelArguments, TimeArguments};
use crate::document;
use crate::exit::Exit;
use crate::failure::UsageError;
use crate::files;
use crate::gpu_memory::GpuMemory;
use crate::host_trips::{self, TripEntry};
use crate::inputs::{self, Input, Source};
use crate::latency::{Latency, disturbance, microseconds};
use crate::legend;
use crate::peak_rss::peak_rss_bytes;
use crate::placement::PlacementArguments;
use crate::precision::PrecisionEntry;
use crate::quantity::{self, parse_some, parse_whole, plural};
use crate::rewrite::in_words;
use crate::run_trace::Traced;
use crate::summary::{OutputEntry, ValueSummary};
use crate::table::table;
use crate::terminal::Terminal;
use crate::{npy, npz, run_trace};
use anyhow::{Context, Result};
use recurve::model::Fact;
use recurve::plans::{Plan, PlanError};
use recurve::settings::Precision;
use recurve::times::{NodeTime, NodeTimes, RunEvent};
use recurve::weights::Deviation;
use recurve::{Device, Fallback, Outputs, RunOptions, Session, TensorView, Value};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  recurve run model.onnx --inputs x.npz --outputs y.npz --runs 100 --warmup 10"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    #[command(flatten)]
    execution: ExecutionArguments,
    #[command(flatten)]
    inputs: InputArguments,
    /// Write the outputs of the last run to this NPZ file
    #[arg(long, value_name = "F.npz", help_heading = "Runs")]
    outputs: Option<PathBuf>,
    /// Measured runs
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_some, allow_negative_numbers = true)]
    #[arg(help_heading = "Runs")]
    runs: NonZeroUsize,
    /// Runs before those that are measured; with --mode at least one, which measures and plans [default: 0, and with --trace
    /// as many as let three runs come before the one that is traced]
    #[arg(long, value_name = "N", value_parser = parse_whole::<usize>)]
    #[arg(allow_negative_numbers = true, help_heading = "Runs")]
    warmup: Option<usize>,
    /// Print what each node takes in the measured runs: mean, least, share of all; not with --trace
    #[arg(long, help_heading = "Runs")]
    profile_nodes: bool,
    /// Write what the last measured run did as trace events, for Perfetto and Chrome; not with --profile-nodes or --device
    #[arg(long, value_name = "F.json", conflicts_with = "profile_nodes", help_heading = "Runs")]
    trace: Option<PathBuf>,
    /// How operators are placed on the threads, and with --devices on a GPU; not with --plan or --device
    #[arg(long, value_enum, default_value_t, value_name = "MODE", help_heading = "Placement")]
    mode: Mode,
    /// Follow this plan, which `recurve plan --out` wrote for the same shapes and number of threads; not with --mode or
    /// --device
    #[arg(long, value_name = "F.json", conflicts_with = "mode", help_heading = "Placement")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    placement: PlacementArguments,
    /// With --mode latency or memory: neither use nor keep measurements and plans in the user's cache
    #[arg(long, help_heading = "Placement")]
    no_cache: bool,
    /// With --mode latency or memory: measure again what the user's cache has, try plans again, and keep that; not with
    /// --no-cache
    #[arg(long, conflicts_with = "no_cache", help_heading = "Placement")]
    refresh: bool,
    #[command(flatten)]
    time: TimeArguments,
}

/// Runs before one that is traced, unless the user says how many: the first touches memory that was never touched, those
/// behind it fill caches.
const WARM: usize = 3;

/// How operators are placed on the threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum Mode {
    /// One after the other, each on all threads
    #[default]
    Together,
    /// By a plan for the least time, where it is faster or --place asks for the GPU; operators are measured first
    Latency,
    /// By a plan for the least memory of the GPU within --slo; operators are measured first
    Memory,
}

/// The document of `recurve run --json`.
#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    load_ms: f64,
    threads: usize,
    /// Threads of the plan that `--plan` gives: on an engine of one, one more launches for a GPU.
    #[serde(skip)]
    workers: usize,
    seed: u64,
    runs: usize,
    warmup: usize,
    latency_us: Latency,
    /// With `--plan` or `--mode`: the rewrite of the plan that was followed, and what it took where it misses the objective,
    /// or why none was.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// `null` where the system does not tell.
    peak_rss_bytes: Option<u64>,
    rss_before_load_bytes: Option<u64>,
    inputs: Vec<InputEntry>,
    outputs: Vec<OutputEntry>,
    /// Nodes that ran on the CPU although the model runs on a GPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    host_trips: Vec<TripEntry>,
    /// With `--precision`: what weights are stored in, and how far outputs are from those with the model's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<PrecisionEntry>,
    /// What the model takes of the GPU that it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<GpuMemory>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<NodeEntry>>,
}

#[derive(Debug, Serialize)]
struct InputEntry {
    #[serde(flatten)]
    value: OutputEntry,
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct NodeEntry {
    name: String,
    op: String,
    runs: u64,
    total_us: f64,
    min_us: f64,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    arguments.check()?;
    files::check([&arguments.outputs, &arguments.trace])?;
    let mode = match arguments.mode {
        Mode::Together | Mode::Memory => recurve::settings::Mode::Together,
        Mode::Latency => recurve::settings::Mode::Latency,
    };
    let mode = arguments.placement.mode(arguments.mode == Mode::Memory, mode)?;
    if arguments.execution.device == Device::Cpu {
        arguments.placement.needs_gpu(&[])?;
    }
    let mut builder = arguments.placement.apply(arguments.execution.builder()).with_mode(mode);
    if arguments.no_cache {
        builder = builder.with_profile_cache(None);
    }
    if arguments.refresh {
        builder = builder.with_profile_refresh();
    }
    let rss_before_load_bytes = peak_rss_bytes();
    let session = arguments.model.load(builder, terminal)?;
    let plan = arguments.plan.as_deref().map(read_plan).transpose()?;
    if let Some(plan) = &plan {
        session.follow(plan)?;
    }
    if arguments.outputs.is_some() {
        check_writable(&session)?;
    }
    let inputs = inputs::prepare(&session, &arguments.inputs, terminal)?;
    if let Some(plan) = &plan {
        fits(plan, &inputs)?;
    }
    let times = NodeTimes::new();
    let (outputs, latency, events) = measure(&session, &inputs, arguments, &times, terminal)?;
    let own = arguments.execution.device;
    let device = (own != Device::Cpu).then(|| own.to_string()).or_else(|| arguments.placement.devices.gpu());
    let device = device.or_else(|| Some(plan.as_ref()?.device.as_ref()?.device.clone()));
    if let Some(path) = &arguments.trace {
        let of = Traced::of(&arguments.model.file.path, &inputs)?.behind(arguments.runs_before());
        let trace = run_trace::document(&events, session.engine().threads(), device.as_deref(), &of);
        files::write(path, &trace.to_string())?;
        terminal.narrate(format!("wrote {}", path.display()));
    }
    if let Some(path) = &arguments.outputs {
        write_outputs(path, &outputs)?;
        terminal.narrate(format!("wrote {}", path.display()));
    }
    // What the comparison takes is no part of what the model takes.
    let peak_rss_bytes = peak_rss_bytes();
    let deviations = deviations(&session, &inputs, arguments, terminal)?;
    let document = Document {
        version: DOCUMENT_VERSION,
        load_ms: session.load_time().as_secs_f64() * 1e3,
        threads: session.engine().threads(),
        workers: plan.as_ref().map_or_else(|| session.engine().threads(), |plan| plan.workers),
        seed: arguments.inputs.seed,
        runs: arguments.runs.get(),
        warmup: arguments.warmup(),
        latency_us: latency,
        plan: placement(&session, &inputs, arguments),
        peak_rss_bytes,
        rss_before_load_bytes,
        inputs: inputs.iter().map(input_entry).collect(),
        outputs: outputs.iter().map(|(name, value)| entry(name, value)).collect(),
        host_trips: session.host_trips().into_iter().map(TripEntry::from).collect(),
        precision: PrecisionEntry::of(&session, deviations),
        gpu: device.zip(session.gpu_use()).map(|(device, of)| GpuMemory::new(device, of)),
        nodes: arguments.profile_nodes.then(|| times.nodes().iter().map(node_entry).collect()),
    };
    if terminal.json() {
        terminal.document(&document)?;
    } else {
        terminal.print(&text(&document, terminal))?;
    }
    Ok(Exit::Success)
}

/// How far the outputs are from those with the model's weights, where others are used.
fn deviations(
    session: &Session,
    inputs: &[Input],
    arguments: &Arguments,
    terminal: &Terminal,
) -> Result<Option<Vec<Deviation>>> {
    if arguments.model.file.precision == Precision::F32 {
        return Ok(None);
    }
    let exact = arguments.model.load_in(Precision::F32, arguments.execution.builder(), terminal)?;
    let given = inputs.iter().map(|input| (input.name.as_str(), &input.value));
    Ok(Some(session.deviations(&exact, given)?))
}

impl Arguments {
    /// Runs before those that are measured: where a plan is made, the first run makes it.
    fn warmup(&self) -> usize {
        let untold = || self.trace.as_ref().map_or(0, |_| WARM.saturating_sub(self.runs.get() - 1));
        self.warmup.unwrap_or_else(untold).max(usize::from(self.mode != Mode::Together))
    }

    /// Runs before the last one, which is traced.
    fn runs_before(&self) -> usize {
        self.warmup() + self.runs.get() - 1
    }

    /// Refuses what would have no effect.
    fn check(&self) -> Result<(), UsageError> {
        let on_cpu = self.execution.device == Device::Cpu;
        let planned = self.plan.is_some() || self.mode != Mode::Together;
        let gpu_in_plans = self.placement.devices.has_gpu();
        let problem = match () {
            () if !on_cpu && planned => {
                "--device runs everything in one place: --plan and --mode go with --devices"
            }
            () if !planned && self.placement.is_for_plans() => {
                "--devices and --place are for plans: --plan, --mode latency or --mode memory"
            }
            () if on_cpu && !planned && self.placement.limits_gpu() => {
                "--gpu-memory-limit is for a GPU: name one with --device, or with --devices for --plan or --mode"
            }
            () if self.plan.is_some() && self.no_cache => "--no-cache goes with --mode, and not with --plan",
            () if self.plan.is_some() && self.refresh => "--refresh goes with --mode, and not with --plan",
            () if !on_cpu && self.trace.is_some() => {
                "--trace records the threads of the CPU; --profile-nodes times nodes of a GPU"
            }
            () if on_cpu && !gpu_in_plans && self.execution.fallback == Fallback::Cpu => {
                "--fallback cpu is for a GPU: name one with --device, such as --device cuda:0"
            }
            () if self.no_cache && self.mode == Mode::Together => {
                "--no-cache goes with --mode latency and --mode memory"
            }
            () if self.refresh && self.mode == Mode::Together => {
                "--refresh goes with --mode latency and --mode memory"
            }
            () => return Ok(()),
        };
        Err(UsageError::new(problem))
    }
}

fn read_plan(path: &Path) -> Result<Plan> {
    let text = files::read(path)?;
    document::Document::Plan.expect(path, &text)?;
    let plan = Plan::from_json(&text).map_err(recurve::Error::from);
    plan.with_context(|| format!("`{}` cannot be followed", path.display()))
}

/// Refuses a plan for inputs of other shapes, which no run would follow.
fn fits(plan: &Plan, inputs: &[Input]) -> Result<(), recurve::Error> {
    for planned in &plan.inputs {
        let shape = |input: &Input| Some(input.value.as_tensor()?.shape().to_vec());
        let given = inputs.iter().find(|input| input.name == planned.name).and_then(shape);
        if given.as_ref() != Some(&planned.shape) {
            let given = given.map_or_else(|| "another form".to_owned(), |shape| format!("{shape:?}"));
            let what = format!("inputs {planned}; here `{}` has {given}", planned.name);
            return Err(PlanError::Other { what }.into());
        }
    }
    Ok(())
}

/// What is said of plans, where one was asked for.
fn placement(session: &Session, inputs: &[Input], arguments: &Arguments) -> Option<String> {
    if arguments.plan.is_none() && arguments.mode == Mode::Together {
        return None;
    }
    let shapes = || inputs.iter().filter_map(|i| Some((i.name.as_str(), i.value.as_tensor()?.shape())));
    if let Some(lost) = session.lost_device() {
        return Some(format!("without {}, which failed: {}", lost.device, lost.error));
    }
    Some(match session.followed(shapes()) {
        Some(rewrite) => {
            let rewrite = in_words(&rewrite).map(|words| format!(", {words}")).unwrap_or_default();
            let gpu = arguments.placement.devices.gpu().filter(|_| session.gpu_use().is_none());
            let gpu =
                gpu.map(|gpu| format!("; nothing runs on {gpu}: 0 B of its memory")).unwrap_or_default();
            let late = session.late(shapes()).map(quantity::time);
            let late = late.map(|took| {
                format!("; it misses the objective: it took {took} when it was tried, and no other plan less")
            });
            format!("followed{rewrite}{gpu}{}", late.unwrap_or_default())
        }
        None => session.unplanned(shapes()).map_or_else(|| "none".to_owned(), |why| why.to_string()),
    })
}

fn measure(
    session: &Session,
    inputs: &[Input],
    arguments: &Arguments,
    times: &NodeTimes,
    terminal: &Terminal,
) -> Result<(Outputs, Latency, Vec<RunEvent>)> {
    let warm = arguments.time.options();
    let measured = if arguments.profile_nodes { warm.clone().with_node_times(times) } else { warm.clone() };
    let runs = arguments.runs.get();
    let warmup = arguments.warmup();
    let label = if arguments.mode == Mode::Together { "running" } else { "planning and running" };
    let bar = terminal.progress(Some((warmup + runs) as u64), label);
    let run = |options: &RunOptions| {
        let given = inputs.iter().map(|input| (input.name.as_str(), &input.value));
        session.run_with(given, options)
    };
    let mut latencies = Vec::with_capacity(runs);
    let mut events = Vec::new();
    let mut last = None;
    let result = (|| {
        for _ in 0..warmup {
            run(&warm)?;
            bar.inc(1);
        }
        tracing::info!(runs, "the runs that are measured begin");
        for at in 0..runs {
            // Only the last run is traced, since tracing takes time.
            let traced = (arguments.trace.is_some() && at + 1 == runs).then(NodeTimes::with_events);
            let options = traced.as_ref().map(|traced| warm.clone().with_node_times(traced));
            let start = Instant::now();
            let outputs = run(options.as_ref().unwrap_or(&measured))?;
            latencies.push(start.elapsed());
            events = traced.map(|traced| traced.events()).unwrap_or_default();
            last = Some(outputs);
            bar.inc(1);
        }
        Ok::<(), recurve::Error>(())
    })();
    bar.finish_and_clear();
    result?;
    let steady = latencies.get(usize::from(warmup == 0)..).unwrap_or_default();
    if let Some(note) = disturbance(steady, session.engine().threads()) {
        terminal.narrate(note);
    }
    let (outputs, latency) = last.zip(Latency::of(latencies)).context("the model was not run")?;
    Ok((outputs, latency, events))
}

/// Refuses outputs that NPZ does not have before any work is done.
fn check_writable(session: &Session) -> Result<()> {
    for spec in session.outputs() {
        let writable = match &spec.fact {
            Fact::Tensor(tensor) => npy::check_writable(tensor.dtype),
            Fact::Sequence(_) => Err(npy::ArrayError::Unwritable("a sequence")),
            Fact::Optional(_) => Err(npy::ArrayError::Unwritable("an optional value")),
        };
        writable.map_err(|source| npz::ArchiveError::Output {
            name: spec.name.to_string(),
            source: source.into(),
        })?;
    }
    Ok(())
}

fn write_outputs(path: &Path, outputs: &Outputs) -> Result<()> {
    let tensors: Vec<(&str, TensorView<'_>)> =
        outputs.iter().filter_map(|(name, value)| Some((name, value.as_tensor()?.view()))).collect();
    Ok(npz::write(path, tensors)?)
}

fn entry(name: &str, value: &Value) -> OutputEntry {
    OutputEntry { name: name.to_owned(), value: ValueSummary::of(value) }
}

fn input_entry(input: &Input) -> InputEntry {
    let source = match input.source {
        Source::File => "file",
        Source::Seed => "seed",
    };
    InputEntry { value: entry(&input.name, &input.value), source }
}

fn node_entry(node: &NodeTime) -> NodeEntry {
    NodeEntry {
        name: node.name.to_string(),
        op: node.op.clone(),
        runs: node.runs,
        total_us: microseconds(node.total),
        min_us: microseconds(node.min),
    }
}

fn text(document: &Document, terminal: &Terminal) -> String {
    let micros = |us: f64| quantity::time(Duration::from_secs_f64(us / 1e6));
    let mut text = String::new();
    let mut section = |title: &str, rows: &[Vec<String>], right: &[usize]| {
        text.push_str(&terminal.heading(title));
        text.push('\n');
        text.push_str(&table(rows, right));
    };
    let value_row = |value: &OutputEntry| {
        let [form, summary] = value.value.cells();
        vec![value.name.clone(), form, summary]
    };
    let inputs: Vec<_> = document
        .inputs
        .iter()
        .map(|input| {
            let [form, _] = input.value.value.cells();
            vec![input.value.name.clone(), form, format!("from {}", input.source)]
        })
        .collect();
    section("inputs", &inputs, &[]);
    section("outputs", &document.outputs.iter().map(value_row).collect::<Vec<_>>(), &[]);
    if let Some(nodes) = &document.nodes {
        let all: f64 = nodes.iter().map(|node| node.total_us).sum();
        let mut order: Vec<&NodeEntry> = nodes.iter().collect();
        order.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));
        let row = |node: &&NodeEntry| {
            let share = if all > 0.0 { node.total_us / all * 100.0 } else { 0.0 };
            let mean = micros(node.total_us / node.runs as f64);
            vec![node.name.clone(), node.op.clone(), mean, micros(node.min_us), format!("{share:.1} %")]
        };
        let header = ["node", "operator", "mean", "min", "share"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(header).chain(order.iter().map(row)).collect();
        section("nodes", &rows, &[2, 3, 4]);
    }
    if !document.host_trips.is_empty() {
        section("on the CPU", &host_trips::rows(&document.host_trips), &[2, 3, 4]);
    }
    if let Some(precision) = &document.precision {
        section("weights", &precision.rows(), &[]);
        let deviations = precision.deviation_rows();
        if !deviations.is_empty() {
            section("outputs beside those with the model's weights", &deviations, &[]);
        }
    }
    if let Some(gpu) = &document.gpu {
        section(gpu.heading(), &gpu.rows(), &[1]);
    }
    let Latency { min, p50, p99 } = document.latency_us;
    let (runs, threads) = (plural(document.runs, "run"), plural(document.workers, "thread"));
    let latency = match (document.runs, document.warmup) {
        // One time has no distribution, and the first run prepares what later ones use.
        (1, 0) => format!("{}  (the first run, {threads}; --runs and --warmup measure more)", micros(min)),
        (1, _) => format!("{}  ({runs}, {threads})", micros(min)),
        _ => format!("min {}  p50 {}  p99 {}  ({runs}, {threads})", micros(min), micros(p50), micros(p99)),
    };
    let mut rows =
        vec![vec!["load".to_owned(), micros(document.load_ms * 1e3)], vec!["latency".to_owned(), latency]];
    if let Some(plan) = &document.plan {
        rows.push(vec!["plan".to_owned(), plan.clone()]);
    }
    if let Some(bytes) = document.peak_rss_bytes {
        let before = document.rss_before_load_bytes.map_or(String::new(), |before| {
            format!(", {} before the model was loaded", quantity::bytes(before as f64))
        });
        rows.push(vec!["peak RSS".to_owned(), quantity::bytes(bytes as f64) + &before]);
    }
    section("measured", &rows, &[]);
    let nodes = document.nodes.iter().flatten().map(|node| &*node.op);
    text + legend::of_fused(nodes.chain(document.host_trips.iter().map(TripEntry::op)))
}
