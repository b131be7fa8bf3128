//! `recurve profile`: measures a model's operators on this machine.

use super::DOCUMENT_VERSION;
use crate::arguments::{FusionArguments, InputArguments, ModelArguments};
use crate::exit::Exit;
use crate::inputs::{self, Input};
use crate::quantity;
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::{Context, Result};
use recurve::{Measured, Profile, ProfileCache, ProfileOptions, Session};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve profile model.onnx --dim batch=1,time=50 --out profile.json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    fusion: FusionArguments,
    #[command(flatten)]
    inputs: InputArguments,
    #[command(flatten)]
    cache: CacheArguments,
    /// Write the profile to this file
    #[arg(long, value_name = "F.json")]
    out: Option<PathBuf>,
}

/// What was measured before.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Profile")]
pub(crate) struct CacheArguments {
    /// Neither use nor keep measurements in the user's cache
    #[arg(long)]
    no_cache: bool,
}

/// The document of `recurve profile --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    version: u32,
    profile: &'a Profile,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    let session = arguments.model.load(arguments.fusion.builder(), terminal)?;
    let inputs = inputs::prepare(&session, &arguments.inputs, terminal)?;
    let profile = measure(&session, &inputs, &arguments.cache, terminal)?;
    if let Some(path) = &arguments.out {
        std::fs::write(path, profile.to_json())
            .with_context(|| format!("`{}` cannot be written", path.display()))?;
        terminal.narrate(format!("wrote {}", path.display()));
    }
    if terminal.json() {
        terminal.document(&Document { version: DOCUMENT_VERSION, profile: &profile })?;
    } else {
        terminal.print(&text(&profile, terminal))?;
    }
    Ok(Exit::Success)
}

/// Measures what is not known yet, with a bar that tells the time left.
pub(crate) fn measure(
    session: &Session,
    inputs: &[Input],
    arguments: &CacheArguments,
    terminal: &Terminal,
) -> Result<Profile> {
    let bar = terminal.progress(Some(0), "measuring");
    let shown = bar.clone();
    let mut options = ProfileOptions::default().with_progress(move |done, all| {
        shown.set_length(all as u64);
        shown.set_position(done as u64);
    });
    if let Some(cache) = ProfileCache::user().filter(|_| !arguments.no_cache) {
        options = options.with_cache(cache);
    }
    let given = inputs.iter().map(|input| (input.name.as_str(), &input.value));
    let profile = session.profile(given, &options);
    bar.finish_and_clear();
    Ok(profile?)
}

fn text(profile: &Profile, terminal: &Terminal) -> String {
    let micros = |us: f64| quantity::time(Duration::from_secs_f64(us / 1e6));
    let times = |m: &Measured| [micros(m.median_us), micros(m.min_us), micros(m.p90_us), m.runs.to_string()];
    let header = |first: &str, second: &str| {
        [first, second, "median", "min", "p90", "runs"].map(str::to_owned).to_vec()
    };
    let mut rows = vec![header("signature", "lane")];
    for (signature, cost) in &profile.operators {
        for (lane, measured) in &cost.lanes {
            rows.push([signature.clone(), lane.clone()].into_iter().chain(times(measured)).collect());
        }
    }
    let text = format!("{}\n{}", terminal.heading("operators"), table(&rows, &[2, 3, 4, 5]));
    let mut rows = vec![header("hand-over", "threads")];
    for (threads, handover) in &profile.handover {
        let kinds = [("phase", &handover.phase), ("flag", &handover.flag), ("wake", &handover.wake)];
        for (kind, measured) in kinds {
            rows.push([kind.to_owned(), threads.to_string()].into_iter().chain(times(measured)).collect());
        }
    }
    let handovers = match rows.len() {
        1 => String::new(),
        _ => format!("{}\n{}", terminal.heading("hand-overs"), table(&rows, &[1, 2, 3, 4, 5])),
    };
    text + &handovers
}
