//! `recurve profile`: measures a model's operators on this machine.

use super::DOCUMENT_VERSION;
use crate::arguments::{FusionArguments, InputArguments, ModelArguments, TimeArguments};
use crate::exit::Exit;
use crate::files;
use crate::inputs::{self, Input};
use crate::latency::SCATTER;
use crate::legend;
use crate::placement::DevicesArguments;
use crate::quantity::{self, plural};
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::Session;
use recurve::profiles::{Measured, Profile, ProfileCache, ProfileOptions, ProfiledNode};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What was measured before is taken from the user's cache and marked so; times are true only while \
        nothing else uses the cores.\n\nExample:\n  recurve profile model.onnx --dim batch=1,time=50 --out profile.json"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    #[command(flatten)]
    fusion: FusionArguments,
    #[command(flatten)]
    inputs: InputArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    time: TimeArguments,
    #[command(flatten)]
    devices: DevicesArguments,
    /// Write the profile to this file
    #[arg(long, value_name = "F.json", help_heading = "Profile")]
    out: Option<PathBuf>,
}

/// What was measured before.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Profile")]
pub(crate) struct CacheArguments {
    /// Neither use nor keep measurements in the user's cache; not with --refresh
    #[arg(long)]
    no_cache: bool,
    /// Measure again what the user's cache has, and keep that
    #[arg(long, conflicts_with = "no_cache")]
    refresh: bool,
}

impl CacheArguments {
    fn cache(&self) -> Option<ProfileCache> {
        ProfileCache::user().filter(|_| !self.no_cache)
    }

    /// What is taken instead of measuring.
    fn known(&self) -> Option<Profile> {
        self.cache().filter(|_| !self.refresh).map(|cache| cache.load())
    }
}

/// The document of `recurve profile --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    profile: &'a Profile,
    /// Nodes that run and have no time in it, since their shapes depend on data.
    unmeasured: Vec<UnmeasuredEntry<'a>>,
}

#[derive(Debug, Serialize)]
struct UnmeasuredEntry<'a> {
    node: &'a str,
    op: &'a str,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let session = arguments.model.load(arguments.devices.apply(arguments.fusion.builder()), terminal)?;
    let inputs = inputs::prepare(&session, &arguments.inputs, terminal)?;
    files::check([&arguments.out])?;
    let before = arguments.cache.known();
    let profile =
        measure(&session, &inputs, (&arguments.cache, &arguments.time), Measuring::default(), terminal)?;
    if let Some(path) = &arguments.out {
        files::write(path, &profile.to_json())?;
        terminal.narrate(format!("wrote {}", path.display()));
    }
    let given = inputs.iter().map(|input| (input.name.as_str(), &input.value));
    let nodes = session.profiled(given)?;
    if terminal.json() {
        let unmeasured = unmeasured(&nodes).map(|n| UnmeasuredEntry { node: &n.name, op: &n.op }).collect();
        terminal.document(&Document { version: DOCUMENT_VERSION, profile: &profile, unmeasured })?;
    } else {
        terminal.print(&text(&profile, &nodes, before.as_ref(), terminal))?;
    }
    Ok(Exit::Success)
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measuring {
    /// Not the GPU, though plans may use it.
    pub(crate) cpu_alone: bool,
}

/// Measures what is not known yet, with a bar that tells the time left.
pub(crate) fn measure(
    session: &Session,
    inputs: &[Input],
    (arguments, time): (&CacheArguments, &TimeArguments),
    measuring: Measuring,
    terminal: &Terminal,
) -> Result<Profile> {
    let before = arguments.known();
    let bar = terminal.progress(Some(0), "measuring");
    let (shown, say, begun) = (bar.clone(), terminal.beside_bars(), Once::new());
    let mut options = ProfileOptions::default().with_progress(move |done, all| {
        begun.call_once(|| say(&format!("measuring {}", plural(all, "operator time"))));
        shown.set_length(all as u64);
        shown.set_position(done as u64);
    });
    if let Some(cache) = arguments.cache() {
        options = options.with_cache(cache);
    }
    if arguments.refresh {
        options = options.with_refresh();
    }
    if measuring.cpu_alone {
        options = options.with_cpu_alone();
    }
    if let Some(limit) = time.limit() {
        options = options.with_timeout(limit);
    }
    let given = || inputs.iter().map(|input| (input.name.as_str(), &input.value));
    let profile = session.profile(given(), &options);
    bar.finish_and_clear();
    let profile = profile?;
    if let Some(names) = scattered(&profile, &session.profiled(given())?, before.as_ref()) {
        terminal.narrate(format!(
            "note: the times of {names} scatter: something else used the cores, and may have disturbed other times, too; \
             measure again with --refresh while nothing does"
        ));
    }
    Ok(profile)
}

/// What is said under the table of operators.
const LEGEND: &str = "Nodes of one operator, attributes, types and shapes share a row. `p90`: nine runs in ten were faster. `from`\n\
    tells new measurements from those of the cache. --json and --out have the signature that each time is kept under.\n";

/// What is said under the table of hand-overs.
const HANDOVERS: &str = "A hand-over is the time from the end of work on one thread to the start of what waits for it on another; plans count\n\
    one wherever work goes from thread to thread.\n";

/// Nodes that were measured now, and whose runs took times that are too different to be the operator's alone, the first by
/// name.
fn scattered(profile: &Profile, nodes: &[ProfiledNode], before: Option<&Profile>) -> Option<String> {
    const NAMED: usize = 3;
    let wide = |m: &Measured| m.p90_us > SCATTER * m.min_us;
    let scatters = |node: &&ProfiledNode| {
        let Some(signature) = &node.signature else { return false };
        let Some(cost) = profile.operators.get(signature) else { return false };
        cost.lanes.iter().any(|(lane, time)| wide(time) && kept(before, signature, lane) != Some(time))
    };
    let all: Vec<&ProfiledNode> = nodes.iter().filter(scatters).collect();
    let mut names: Vec<String> = all.iter().take(NAMED).map(|n| format!("`{}` ({})", n.name, n.op)).collect();
    if all.len() > NAMED {
        names.push(format!("{} more", all.len() - NAMED));
    }
    (!names.is_empty()).then(|| listed(&names))
}

/// What was known of an operator.
fn kept<'a>(before: Option<&'a Profile>, signature: &str, lane: &str) -> Option<&'a Measured> {
    before?.operators.get(signature)?.lanes.get(lane)
}

/// Nodes that run and were not measured; copies of a value to an output are no nodes.
fn unmeasured(nodes: &[ProfiledNode]) -> impl Iterator<Item = &ProfiledNode> {
    nodes.iter().filter(|node| node.signature.is_none() && node.op != "Copy")
}

/// `a, b and c`.
pub(super) fn listed(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.join(", "),
    }
}

/// The rows of the operators by the nodes that they are of, in the order in which they run.
fn operator_rows(profile: &Profile, nodes: &[ProfiledNode], before: Option<&Profile>) -> Vec<Vec<String>> {
    let mut order: Vec<(&str, Vec<&ProfiledNode>)> = Vec::new();
    for node in nodes {
        let Some(of) = &node.signature else { continue };
        match order.iter_mut().find(|(signature, _)| *signature == of) {
            Some((_, of)) => of.push(node),
            None => order.push((of, vec![node])),
        }
    }
    let mut rows = Vec::new();
    for (signature, of) in order {
        let (Some(cost), [first, others @ ..]) = (profile.operators.get(signature), &of[..]) else {
            continue;
        };
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        for (lane, measured) in &cost.lanes {
            let kept = kept(before, signature, lane);
            let mut row = vec![format!("{}{more}", first.name), first.op.clone(), lane_name(lane)];
            row.extend(times(measured));
            row.push(from(kept == Some(measured)));
            rows.push(row);
        }
    }
    rows
}

fn times(m: &Measured) -> [String; 4] {
    let [median, min, p90] =
        [m.median_us, m.min_us, m.p90_us].map(|us| quantity::time(Duration::from_secs_f64(us / 1e6)));
    [median, min, p90, m.runs.to_string()]
}

fn from(kept: bool) -> String {
    if kept { "cache" } else { "now" }.to_owned()
}

fn text(profile: &Profile, nodes: &[ProfiledNode], before: Option<&Profile>, terminal: &Terminal) -> String {
    let header = |names: &[&str]| -> Vec<String> {
        names.iter().chain(&["median", "min", "p90", "runs", "from"]).map(|name| (*name).to_owned()).collect()
    };
    let mut shown = vec![header(&["node", "operator", "on"])];
    shown.extend(operator_rows(profile, nodes, before));
    let mut text = format!("{}\n{}{LEGEND}", terminal.heading("operators"), table(&shown, &[3, 4, 5, 6]));
    text += legend::of_fused(nodes.iter().map(|node| &*node.op));
    let unmeasured: Vec<String> = unmeasured(nodes).map(|n| format!("`{}` ({})", n.name, n.op)).collect();
    if !unmeasured.is_empty() {
        text = text + "Not measured, since their shapes depend on data: " + &listed(&unmeasured) + ".\n";
    }
    let mut rows = vec![header(&["hand-over", "on"])];
    for (threads, handover) in &profile.handover {
        let kept = before.is_some_and(|known| known.handover.get(threads) == Some(handover));
        let kinds = [
            ("to all threads and back", &handover.phase),
            ("from thread to thread", &handover.flag),
            ("to a thread that sleeps", &handover.wake),
        ];
        for (kind, measured) in kinds {
            let mut row = vec![kind.to_owned(), quantity::plural(*threads, "thread")];
            row.extend(times(measured));
            row.push(from(kept));
            rows.push(row);
        }
    }
    if rows.len() > 1 {
        text = text + &terminal.heading("hand-overs") + "\n" + &table(&rows, &[2, 3, 4, 5]) + HANDOVERS;
    }
    text + &devices(profile, terminal)
}

/// What is known of GPUs and of copies to them and from them.
fn devices(profile: &Profile, terminal: &Terminal) -> String {
    let micros = |us: f64| quantity::time(Duration::from_secs_f64(us / 1e6));
    let mut text = String::new();
    for (name, device) in &profile.devices {
        let mut rows = vec![["what", "median", "min", "p90", "runs", "source"].map(str::to_owned).to_vec()];
        let mut add = |what: String, measured: Option<Measured>| {
            let Some(m) = measured else { return };
            let [median, min, p90] = [m.median_us, m.min_us, m.p90_us].map(micros);
            rows.push(vec![what, median, min, p90, m.runs.to_string(), device.source.to_string()]);
        };
        add("a kernel in a stream".to_owned(), device.kernel);
        add("a kernel in a graph".to_owned(), device.graph_node);
        add("a launch and its end".to_owned(), device.round_trip);
        for link in profile.links.iter().filter(|link| link.from == *name || link.to == *name) {
            let what = format!("{} from {} to {}", quantity::bytes(link.bytes as f64), link.from, link.to);
            add(what, Some(link.time));
        }
        let known = if device.name == *name { String::new() } else { format!(": {}", device.name) };
        let title = terminal.heading(&format!("{name}{known}"));
        text = text + &title + "\n" + &table(&rows, &[1, 2, 3, 4]);
    }
    text
}

/// `cpu:2` as `2 threads`; devices as they are called.
fn lane_name(lane: &str) -> String {
    let threads = lane.strip_prefix("cpu:").and_then(|count| count.parse().ok());
    threads.map_or_else(|| lane.to_owned(), |count| quantity::plural(count, "thread"))
}
