//! `recurve plan`: places a model's operators on the threads and a GPU, and tells what that should take.

mod chart;
mod compare;
mod pareto;

use super::DOCUMENT_VERSION;
use super::profile::{CacheArguments, Measuring, listed, measure};
use crate::arguments::{FusionArguments, InputArguments, ModelArguments, TimeArguments};
use crate::document::Document;
use crate::exit::Exit;
use crate::failure::InvalidFile;
use crate::files;
use crate::gpu_memory;
use crate::inputs;
use crate::legend;
use crate::placement::PlacementArguments;
use crate::quantity;
use crate::rewrite::in_words;
use crate::run_trace::Traced;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::{Context, Result};
use chart::{chart, words};
use compare::{Comparison, Ran};
use recurve::plans::{FrontPoint, Plan, PlanOptions, PlannedCopy, PlannedStep, Planning};
use recurve::profiles::{DeviceSource, OperatorCost, Profile, ProfileError};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  recurve plan model.onnx --dim batch=1,time=50 --gantt plan.svg --out plan.json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    #[command(flatten)]
    fusion: FusionArguments,
    #[command(flatten)]
    inputs: InputArguments,
    /// What the plan is to be best at
    #[arg(long, value_enum, default_value_t, value_name = "MODE", help_heading = "Placement")]
    mode: Mode,
    #[command(flatten)]
    placement: PlacementArguments,
    #[command(flatten)]
    cache: CacheArguments,
    /// Plan by this profile, which `recurve profile --out` wrote on any machine, instead of measuring: not with --no-cache,
    /// --refresh, --seed or --timeout
    #[arg(long, value_name = "F.json", help_heading = "Profile")]
    #[arg(conflicts_with_all = ["no_cache", "refresh", "seed", "timeout"])]
    profile: Option<PathBuf>,
    /// With a GPU among --devices, which need not be here: take what it costs from this profile, measured elsewhere or
    /// synthetic, and the rest as without it
    #[arg(long, value_name = "F.json", help_heading = "Profile")]
    device_profile: Option<PathBuf>,
    #[command(flatten)]
    time: TimeArguments,
    /// Write the plan to this file, for `recurve run --plan`
    #[arg(long, value_name = "F.json", help_heading = "Results")]
    out: Option<PathBuf>,
    /// Draw the plan
    #[arg(long, value_name = "F.svg", help_heading = "Results")]
    gantt: Option<PathBuf>,
    /// Write the plan as trace events, for Perfetto and Chrome
    #[arg(long, value_name = "F.json", help_heading = "Results")]
    trace: Option<PathBuf>,
    /// Show the prediction of the plan that is made now beside this trace, which `recurve run --trace` wrote; use the options
    /// of the run
    #[arg(long, value_name = "F.json", help_heading = "Results")]
    compare: Option<PathBuf>,
    /// With a GPU among --devices: also print, of the plans that were looked at, those that no other beats in GPU memory and
    /// time
    #[arg(long, help_heading = "Results")]
    pareto: bool,
    /// With --pareto: draw those
    #[arg(long, value_name = "F.svg", requires = "pareto", help_heading = "Results")]
    pareto_svg: Option<PathBuf>,
    /// Write the scheduling instance, for `recurve schedule`: each thread has a memory of its own in it, and so have all
    /// threads together, so that hand-overs between threads are transfers
    #[arg(long, value_name = "F.json", help_heading = "Results")]
    emit_instance: Option<PathBuf>,
}

/// What a plan is best at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum Mode {
    /// Least time
    #[default]
    Latency,
    /// Least memory of the GPU within --slo
    Memory,
}

/// The document of `recurve plan --json`.
#[derive(Debug, Serialize)]
struct PlanDocument<'a> {
    version: u32,
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    front: Vec<Point>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

#[derive(Debug, Serialize)]
struct Point {
    device_bytes: usize,
    predicted_us: f64,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let Arguments { out, gantt, trace, emit_instance, pareto_svg, .. } = arguments;
    files::check([out, gantt, trace, emit_instance, pareto_svg])?;
    let placement = &arguments.placement;
    let mode = placement.mode(arguments.mode == Mode::Memory, recurve::settings::Mode::Latency)?;
    placement.needs_gpu(&[
        (arguments.pareto, "--pareto"),
        (arguments.device_profile.is_some(), "--device-profile"),
    ])?;
    let read = |path: &PathBuf| -> Result<Profile> {
        let text = files::read(path)?;
        Document::Profile.expect(path, &text)?;
        let profile = Profile::from_json(&text).map_err(recurve::Error::from);
        profile.with_context(|| format!("`{}` cannot be planned by", path.display()))
    };
    let ran = arguments.compare.as_deref().map(Ran::read).transpose()?;
    let device = arguments.device_profile.as_ref().map(read).transpose()?;
    if let (Some(path), Some(device), Some(gpu)) =
        (&arguments.device_profile, &device, placement.devices.gpu())
        && !device.devices.contains_key(&gpu)
    {
        let known: Vec<&str> = device.devices.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "no GPU".to_owned() } else { known.join(", ") };
        let problem = format!("--device-profile `{}` is of {known}, not of {gpu}", path.display());
        return Err(InvalidFile::new(problem, "name in --devices the GPU that the profile is of").into());
    }
    let given = arguments.profile.as_ref().map(read).transpose()?;
    if let (Some(path), Some(profile)) = (&arguments.profile, &given) {
        refuse_without_cpu(path, profile)?;
        if let Err(ProfileError::Other { what }) = profile.check_here() {
            terminal.narrate(format!("note: the profile was measured {what}"));
        }
    }
    let session = arguments.model.load(placement.apply(arguments.fusion.builder()), terminal)?;
    let inputs = inputs::prepare(&session, &arguments.inputs, terminal)?;
    if let Some(profile) = &given {
        let threads = session.engine().threads();
        let known = thread_counts(profile);
        if !known.contains(&threads) {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            terminal.narrate(format!(
                "note: the profile has times of {} threads and none of {threads}: no operator is placed on all threads at once",
                listed(&known)
            ));
        }
    }
    let mut profile = match given {
        Some(profile) => profile,
        None => {
            let measuring = Measuring { cpu_alone: device.is_some() };
            measure(&session, &inputs, (&arguments.cache, &arguments.time), measuring, terminal)?
        }
    };
    if let Some(device) = device {
        // Of the machine that it comes from, the CPU is not meant; nor what else is known of a GPU.
        profile = profile.of_cpu_and(None);
        profile.merge(device.of_devices());
    }
    let shapes: Vec<(&str, &[usize])> =
        inputs.iter().filter_map(|i| Some((i.name.as_str(), i.value.as_tensor()?.shape()))).collect();
    let mut options = PlanOptions::default().with_mode(mode);
    if arguments.pareto {
        options = options.with_front();
    }
    let spinner = terminal.progress(None, "planning");
    let planning = session.plan_with(shapes, &profile, options);
    spinner.finish_and_clear();
    let Planning { plan, instance, front, .. } = planning?;
    // What cannot be followed is not shown as a plan; what runs on a GPU was checked without it.
    if plan.device.is_none() {
        session.follow(&plan)?;
    }
    let compare = |ran: Ran| Comparison::of(&plan, &Traced::of(&arguments.model.file.path, &inputs)?, ran);
    let comparison = ran.map(compare).transpose()?;
    if let Some(note) = comparison.as_ref().and_then(Comparison::note) {
        terminal.narrate(note);
    }
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> Result<String>| -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        files::write(path, &text()?)?;
        terminal.narrate(format!("wrote {}", path.display()));
        Ok(())
    };
    write(&arguments.out, &|| Ok(plan.to_json()))?;
    write(&arguments.emit_instance, &|| Ok(instance.clone()))?;
    write(&arguments.gantt, &|| {
        chart(&plan).map(|(problem, made)| recurve_scheduler::gantt_in_words(&problem, &made, &words(&plan)))
    })?;
    write(&arguments.trace, &|| {
        chart(&plan).map(|(problem, made)| recurve_scheduler::trace(&problem, &made).to_string())
    })?;
    write(&arguments.pareto_svg, &|| Ok(pareto::svg(&front)))?;
    let front = if arguments.pareto { front } else { Vec::new() };
    if terminal.json() {
        let point = |p: &FrontPoint| Point { device_bytes: p.device_bytes, predicted_us: p.predicted_us };
        let front = front.iter().map(point).collect();
        terminal.document(&PlanDocument { version: DOCUMENT_VERSION, plan: &plan, front, comparison })?;
    } else {
        let mut shown = text(&plan, &profile, placement, terminal);
        if arguments.pareto {
            shown += &pareto::text(&front, terminal);
        }
        if let Some(comparison) = &comparison {
            shown += &comparison.text(terminal);
        }
        terminal.print(&shown)?;
    }
    Ok(Exit::Success)
}

/// The numbers of threads that a profile has times of.
fn thread_counts(profile: &Profile) -> BTreeSet<usize> {
    let lanes = profile.operators.values().flat_map(|cost| cost.lanes.keys());
    lanes.filter_map(|lane| lane.strip_prefix("cpu:")?.parse().ok()).collect()
}

/// Refuses a profile by which no thread can be given work.
fn refuse_without_cpu(path: &Path, profile: &Profile) -> Result<(), InvalidFile> {
    let of_cpu = |cost: &OperatorCost| cost.lanes.keys().any(|lane| lane.starts_with("cpu:"));
    if profile.operators.values().any(of_cpu) {
        return Ok(());
    }
    let of = profile.devices.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let problem = match &*of {
        "" => format!("`{}` holds no measurement", path.display()),
        of => {
            format!("`{}` is of {of} alone: it does not tell what operators take on the CPU", path.display())
        }
    };
    Err(InvalidFile::new(
        problem,
        "`recurve profile MODEL --out F.json` writes what --profile reads; a profile of a GPU goes with --device-profile",
    ))
}

/// What is said under the table of steps.
const LEGEND: &str = "cpu0 is the first thread, cpu* all threads together. Starts and times are predicted; the source of a time is\n\
    `measured`, `estimated` from similar operators, `emulated` (measured on the emulator, which says nothing of\n\
    a GPU) or `synthetic` (computed from published figures).\n";

fn micros(us: f64) -> String {
    quantity::time(Duration::from_secs_f64(us / 1e6))
}

/// Where the time of a step is known from.
fn source(step: &PlannedStep) -> String {
    match step.segment {
        0 => step.timing.to_string(),
        steps => format!("{} in a run of {steps}", step.timing),
    }
}

/// The same where a GPU has several streams.
const STREAMS: &str = "A number behind the GPU, as in cuda:0/1, is that of one of its streams, whose steps go on beside those of the others.\n";

/// The same where steps are parts of a node.
const PARTS: &str = "A name such as `X/12` is of the part of the recurrence `X` that begins with its step 12; an operator `Copy` puts a value\n\
    into the output of its name.\n";

fn text(plan: &Plan, profile: &Profile, placement: &PlacementArguments, terminal: &Terminal) -> String {
    let gpu = placement.devices.gpu();
    let header =
        ["step", "operator", "place", "start", "time", "source", "bytes written"].map(str::to_owned).to_vec();
    let mut order: Vec<usize> = (0..plan.steps.len()).collect();
    order.sort_by(|&a, &b| plan.steps[a].start_us.total_cmp(&plan.steps[b].start_us).then(a.cmp(&b)));
    let row = |&at: &usize| {
        let step = &plan.steps[at];
        vec![
            step.name.clone(),
            step.op.clone(),
            step.place.clone(),
            micros(step.start_us),
            micros(step.cost_us),
            source(step),
            quantity::bytes(step.bytes as f64),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(order.iter().map(row)).collect();
    let mut text = format!("{}\n{}{LEGEND}", terminal.heading("steps"), table(&rows, &[3, 4, 6]));
    if plan.device.as_ref().is_some_and(|device| !device.streams.is_empty()) {
        text += STREAMS;
    }
    text += legend::of_fused(plan.steps.iter().map(|step| &*step.op));
    if plan.rewrite.contains("pieces") || plan.steps.iter().any(|step| step.op == "Copy") {
        text += PARTS;
    }
    let text = text + &copies(plan, terminal);
    let pair = |name: &str, value: String| vec![name.to_owned(), value];
    // What --place asks for holds for the plan and its bound, and not for what they are compared with.
    let free = if placement.places() { ", without --place" } else { "" };
    let mut rows = vec![
        pair("predicted time", micros(plan.predicted_us)),
        pair(&format!("each operator on all threads{free}"), micros(plan.together_us)),
        pair(&format!("everything on one thread{free}"), micros(plan.alone_us)),
    ];
    let on_device = gpu.as_deref().map_or("on the GPU", gpu_memory::on);
    // This keeps to --place, too.
    let can = if placement.places() { "can and may" } else { "can" };
    rows.extend(plan.device_us.map(|us| pair(&format!("all steps that {can} run {on_device}"), micros(us))));
    let bound = if placement.places() {
        "no placement of these steps that keeps to --place takes less than"
    } else {
        "no placement of these steps takes less than"
    };
    let threads = match &plan.device {
        Some(device) => format!("{}, of which one launches for {}", plan.workers, device.device),
        None => plan.workers.to_string(),
    };
    rows.extend([
        pair(bound, micros(plan.bound_us)),
        pair("threads", threads),
        pair("model as it is run", in_words(&plan.rewrite).unwrap_or_else(|| "as it was loaded".to_owned())),
        pair("host memory for the values between steps", quantity::bytes(plan.arena_bytes as f64)),
    ]);
    if let Some(gpu) = gpu.filter(|_| plan.device.is_none()) {
        rows.push(pair(&format!("memory of {gpu}"), "0 B: nothing runs there".to_owned()));
    }
    if let Some(device) = &plan.device {
        let (all, weights) = (device.bytes(), device.weight_bytes);
        let [all, arena, weights] = [all, all - weights, weights].map(|n| quantity::bytes(n as f64));
        let name = format!("memory of {}", device.device);
        rows.push(pair(
            &name,
            match device.brought_bytes() {
                0 => format!("{all}: values {arena}, weights {weights}"),
                _ => format!("{all}: values and rooms for weights {arena}, weights that stay {weights}"),
            },
        ));
        if !device.brought.is_empty() {
            let [bytes, steps] = [device.brought_bytes(), device.brought.len()];
            let bytes = quantity::bytes(bytes as f64);
            let to = if steps == 1 { "1 step".to_owned() } else { format!("{steps} steps") };
            rows.push(pair(
                "weights copied in every run",
                format!("{bytes}, to {to}, from pinned host memory"),
            ));
        }
        if let Some(known) = profile.devices.get(&device.device) {
            let source = match known.source {
                DeviceSource::Emulated => "measured on the emulator: a GPU takes other times".to_owned(),
                DeviceSource::Synthetic => format!("computed from published figures: {}", known.name),
                _ => format!("measured on {}", known.name),
            };
            rows.push(pair(&format!("times of {}", device.device), source));
        }
    }
    if let Err(ProfileError::Other { what }) = profile.check_here() {
        rows.push(pair("profile", format!("measured {what}")));
    }
    text + &format!("{}\n{}", terminal.heading("plan"), table(&rows, &[]))
}

/// What is copied between the memories.
fn copies(plan: &Plan, terminal: &Terminal) -> String {
    let Some(device) = plan.device.as_ref().filter(|device| !device.copies.is_empty()) else {
        return String::new();
    };
    let header = ["copy", "of", "to", "start", "time", "source", "bytes"].map(str::to_owned).to_vec();
    let row = |(at, copy): (usize, &PlannedCopy)| {
        let to = if copy.up { device.device.clone() } else { "host".to_owned() };
        let (start, cost) = (micros(copy.start_us), micros(copy.cost_us));
        let of = copy.name.clone();
        vec![at.to_string(), of, to, start, cost, copy.timing.to_string(), quantity::bytes(copy.bytes as f64)]
    };
    let rows: Vec<_> = std::iter::once(header).chain(device.copies.iter().enumerate().map(row)).collect();
    format!("{}\n{}", terminal.heading("copies"), table(&rows, &[0, 3, 4, 6]))
}
