//! `recurve plan`: places a model's operators on the threads, and tells what that should take.

use super::DOCUMENT_VERSION;
use super::profile::{CacheArguments, measure};
use crate::arguments::{FusionArguments, InputArguments, ModelArguments, TimeArguments};
use crate::document::Document;
use crate::exit::Exit;
use crate::files;
use crate::inputs;
use crate::quantity;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::{Plan, Planning, Profile};
use recurve_scheduler::{Instance, Problem, Run, Schedule};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  recurve plan model.onnx --dim batch=1,time=50 --gantt plan.svg --out plan.json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    fusion: FusionArguments,
    #[command(flatten)]
    inputs: InputArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    time: TimeArguments,
    /// What the plan is to be best at
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    mode: Mode,
    /// Plan by this profile, of any machine, instead of measuring
    #[arg(long, value_name = "F.json")]
    profile: Option<PathBuf>,
    /// Write the plan to this file, for `recurve run --plan`
    #[arg(long, value_name = "F.json")]
    out: Option<PathBuf>,
    /// Draw the plan
    #[arg(long, value_name = "F.svg")]
    gantt: Option<PathBuf>,
    /// Write the plan as trace events, for Perfetto and Chrome
    #[arg(long, value_name = "F.json")]
    trace: Option<PathBuf>,
    /// Write the scheduling instance, for `recurve schedule`, which shows hand-overs between threads as transfers
    #[arg(long, value_name = "F.json")]
    emit_instance: Option<PathBuf>,
}

/// What a plan is best at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
enum Mode {
    /// Least time
    #[default]
    Latency,
}

/// The document of `recurve plan --json`.
#[derive(Debug, Serialize)]
struct PlanDocument<'a> {
    version: u32,
    plan: &'a Plan,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let Mode::Latency = arguments.mode;
    let Arguments { out, gantt, trace, emit_instance, .. } = arguments;
    files::check([out, gantt, trace, emit_instance])?;
    let session = arguments.model.load(arguments.fusion.builder(), terminal)?;
    let inputs = inputs::prepare(&session, &arguments.inputs, terminal)?;
    let profile = match &arguments.profile {
        Some(path) => {
            // A file that cannot be read is told by the profile's own reader.
            Document::Profile.expect(path, &std::fs::read_to_string(path).unwrap_or_default())?;
            Profile::read(path).map_err(recurve::Error::from)?
        }
        None => measure(&session, &inputs, (&arguments.cache, &arguments.time), terminal)?,
    };
    let shapes: Vec<(&str, &[usize])> =
        inputs.iter().filter_map(|i| Some((i.name.as_str(), i.value.as_tensor()?.shape()))).collect();
    let Planning { plan, instance, .. } = session.plan(shapes, &profile)?;
    // What cannot be followed is not shown as a plan.
    session.follow(&plan)?;
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> Result<String>| -> Result<()> {
        let Some(path) = path else { return Ok(()) };
        files::write(path, &text()?)?;
        terminal.narrate(format!("wrote {}", path.display()));
        Ok(())
    };
    write(&arguments.out, &|| Ok(plan.to_json()))?;
    write(&arguments.emit_instance, &|| Ok(instance.clone()))?;
    let drawn = || -> Result<(Problem, Schedule)> {
        let instance = Instance::from_json(&instance)?;
        let problem = Problem::new(&instance)?;
        Ok((problem, schedule(&plan, &instance)))
    };
    write(&arguments.gantt, &|| drawn().map(|(problem, made)| recurve_scheduler::gantt(&problem, &made)))?;
    write(&arguments.trace, &|| {
        let (problem, made) = drawn()?;
        Ok(recurve_scheduler::trace(&problem, &made).to_string())
    })?;
    if terminal.json() {
        terminal.document(&PlanDocument { version: DOCUMENT_VERSION, plan: &plan })?;
    } else {
        terminal.print(&text(&plan, terminal))?;
    }
    Ok(Exit::Success)
}

/// The plan as a schedule of the instance that it came from: hand-overs take time in it and are not drawn.
fn schedule(plan: &Plan, instance: &Instance) -> Schedule {
    let processors = &instance.machine.processors;
    let runs = plan.steps.iter().map(|step| {
        let processor = processors.iter().position(|p| p.name == step.place).unwrap_or_default();
        Run { processor: processor as u32, start: step.start_us, finish: step.start_us + step.cost_us }
    });
    Schedule { runs: runs.collect(), transfers: Vec::new(), makespan: plan.predicted_us }
}

fn text(plan: &Plan, terminal: &Terminal) -> String {
    let micros = |us: f64| quantity::time(Duration::from_secs_f64(us / 1e6));
    let header =
        ["step", "operator", "place", "start", "cost", "source", "writes"].map(str::to_owned).to_vec();
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
            step.timing.to_string(),
            quantity::bytes(step.bytes as f64),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(order.iter().map(row)).collect();
    let text = format!("{}\n{}", terminal.heading("steps"), table(&rows, &[3, 4, 6]));
    let pair = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = vec![
        pair("predicted", micros(plan.predicted_us)),
        pair("all together", micros(plan.together_us)),
        pair("one thread", micros(plan.alone_us)),
        pair("lower bound", micros(plan.bound_us)),
        pair("threads", plan.workers.to_string()),
        pair("rewrite", plan.rewrite.clone()),
        pair("arena", quantity::bytes(plan.arena_bytes as f64)),
    ];
    text + &format!("{}\n{}", terminal.heading("plan"), table(&rows, &[]))
}
