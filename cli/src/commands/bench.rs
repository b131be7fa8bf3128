//! `recurve bench`: measures a model's latency over some seconds, and compares it with an earlier measurement.
//!
//! The time is cut into rounds, so that a disturbance shows as a round that differs from the others.

use super::DOCUMENT_VERSION;
use crate::arguments::{ExecutionArguments, InputArguments, ModelArguments, TimeArguments};
use crate::document;
use crate::exit::Exit;
use crate::failure::InvalidFile;
use crate::files;
use crate::inputs::{self, Input};
use crate::latency::Latency;
use crate::quantity::{self, plural};
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::{Context, Result};
use recurve::Session;
use recurve::profiles::Machine;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Rounds of a measurement.
const ROUNDS: usize = 9;
/// Medians of rounds scatter where the largest is more than so many times the least.
const SCATTER: f64 = 1.15;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  recurve bench model.onnx --dim batch=1,time=50 --out before.json\n  \
        recurve bench model.onnx --dim batch=1,time=50 --baseline before.json --assert 5%")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) model: ModelArguments,
    #[command(flatten)]
    execution: ExecutionArguments,
    #[command(flatten)]
    inputs: InputArguments,
    #[command(flatten)]
    time: TimeArguments,
    /// Seconds to measure for, after a tenth of that to warm up
    #[arg(long, value_name = "S", default_value_t = 3.0, value_parser = parse_seconds)]
    #[arg(allow_negative_numbers = true, help_heading = "Measurement")]
    seconds: f64,
    /// Write the measurement to this file, for --baseline
    #[arg(long, value_name = "F.json", help_heading = "Measurement")]
    out: Option<PathBuf>,
    /// Compare with this measurement, of the same shapes, threads, device, precision and fusion
    #[arg(long, value_name = "F.json", help_heading = "Measurement")]
    baseline: Option<PathBuf>,
    /// With --baseline: end with code 6 when the median is more than so many per cent above the baseline's, such as 5%
    #[arg(long, value_name = "P%", value_parser = parse_percent, requires = "baseline")]
    #[arg(allow_hyphen_values = true, help_heading = "Measurement")]
    assert: Option<f64>,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("seconds above 0 and up to a day are needed".to_owned()),
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim().strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent),
        _ => Err("a percentage of at least 0 is needed, such as 5%".to_owned()),
    }
}

/// What was measured, as `--out` keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Measurement {
    version: u32,
    recurve: String,
    machine: Machine,
    /// Of the model file, without data that lies beside it.
    model: String,
    threads: usize,
    device: String,
    precision: String,
    fusion: bool,
    inputs: Vec<Shaped>,
    runs: usize,
    latency_us: Latency,
    /// The median of each round.
    rounds_us: Vec<f64>,
    /// Operations of one run, `null` where they depend on data.
    flops: Option<f64>,
}

impl Measurement {
    /// Least and largest median of the rounds, in microseconds.
    fn range(&self) -> (f64, f64) {
        let least = self.rounds_us.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.rounds_us.iter().copied().fold(0.0, f64::max))
    }

    /// How many times the least median of a round the largest is.
    fn spread(&self) -> Option<f64> {
        let (least, most) = self.range();
        (least > 0.0 && least.is_finite()).then(|| most / least)
    }
}

#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Shaped {
    name: String,
    dtype: String,
    shape: Vec<usize>,
}

/// The document of `recurve bench --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    measured: &'a Measurement,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Comparison>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Comparison {
    p50_us: f64,
    /// The median over the baseline's: above 1 is slower.
    ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<bool>,
}

pub(crate) fn run(arguments: &Arguments, terminal: &Terminal) -> Result<Exit> {
    files::check([&arguments.out])?;
    let baseline = arguments.baseline.as_deref().map(read).transpose()?;
    let session = arguments.model.load(arguments.execution.builder(), terminal)?;
    let inputs = inputs::prepare(&session, &arguments.inputs, terminal)?;
    let setting = Measurement {
        version: DOCUMENT_VERSION,
        recurve: crate::environment::VERSION.to_owned(),
        machine: Machine::here(),
        model: files::hash_of(&arguments.model.file.path)?,
        threads: session.engine().threads(),
        device: arguments.execution.device.to_string(),
        precision: arguments.model.file.precision.to_string(),
        fusion: arguments.execution.fuses(),
        inputs: inputs.iter().filter_map(shaped).collect(),
        runs: 0,
        latency_us: Latency::default(),
        rounds_us: Vec::new(),
        flops: flops(&session, &inputs)?,
    };
    if let Some(before) = &baseline {
        comparable(before, &setting, terminal)?;
    }
    let measured = measure(&session, &inputs, setting, arguments, terminal)?;
    if let Some(spread) = measured.spread().filter(|spread| *spread > SCATTER) {
        terminal.narrate(format!(
            "note: the medians of the rounds differ by {}: something else used the cores; measure again while nothing does",
            difference(spread)
        ));
    }
    let comparison = baseline.map(|before| {
        let p50_us = before.latency_us.p50;
        let ratio = measured.latency_us.p50 / p50_us;
        Comparison { p50_us, ratio, passed: arguments.assert.map(|percent| ratio <= 1.0 + percent / 100.0) }
    });
    if let Some(path) = &arguments.out {
        let mut text =
            serde_json::to_string_pretty(&measured).context("the measurement cannot be written")?;
        text.push('\n');
        files::write(path, &text)?;
        terminal.narrate(format!("wrote {}", path.display()));
    }
    if terminal.json() {
        terminal.document(&Document { measured: &measured, baseline: comparison })?;
    } else {
        terminal.print(&text(&measured, comparison, terminal))?;
    }
    if let (Some(Comparison { passed: Some(false), ratio, .. }), Some(percent)) =
        (comparison, arguments.assert)
    {
        let slower = (ratio - 1.0) * 100.0;
        terminal
            .complain("error", &format!("{slower:.1} % slower than the baseline; {percent} % are allowed"));
        return Ok(Exit::Slower);
    }
    Ok(Exit::Success)
}

/// So many times as much, in words.
fn difference(ratio: f64) -> String {
    if ratio < 2.0 { format!("{:.0} %", (ratio - 1.0) * 100.0) } else { format!("a factor of {ratio:.1}") }
}

fn read(path: &Path) -> Result<Measurement> {
    let text = files::read(path)?;
    document::Document::Measurement.expect(path, &text)?;
    let wrong = |what: String| {
        InvalidFile::new(
            format!("`{}` is no measurement: {what}", path.display()),
            "`recurve bench MODEL --out F.json` writes what --baseline reads",
        )
    };
    if let Some(other) = document::Document::other_version(&text, DOCUMENT_VERSION) {
        return Err(wrong(other).into());
    }
    let read: Measurement = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if !(read.latency_us.p50.is_finite() && read.latency_us.p50 > 0.0) {
        return Err(wrong("its median is no time".to_owned()).into());
    }
    Ok(read)
}

/// Refuses a baseline of something else; one of another machine is noted.
fn comparable(before: &Measurement, now: &Measurement, terminal: &Terminal) -> Result<(), InvalidFile> {
    let of = |m: &Measurement| {
        let inputs: Vec<String> =
            m.inputs.iter().map(|input| format!("{} {:?}", input.name, input.shape)).collect();
        [
            m.threads.to_string(),
            m.device.clone(),
            m.precision.clone(),
            m.fusion.to_string(),
            inputs.join(", "),
        ]
    };
    let settings = ["threads", "device", "precision", "fusion", "inputs"];
    let mut both = settings.into_iter().zip(of(before)).zip(of(now));
    if let Some(((what, before), now)) = both.find(|((_, before), now)| before != now) {
        return Err(InvalidFile::new(
            format!("the baseline was measured with other {what}: {before}, now {now}"),
            "--threads, --device, --precision, --no-fusion, --dim and --inputs must be those of the baseline",
        ));
    }
    if before.model != now.model {
        return Err(InvalidFile::new(
            "the baseline was measured with another model file",
            "`recurve bench MODEL --out F.json` measures this one",
        ));
    }
    if before.machine != now.machine {
        terminal.narrate("note: the baseline was measured on another machine");
    }
    Ok(())
}

fn shaped(input: &Input) -> Option<Shaped> {
    let tensor = input.value.as_tensor()?;
    let (dtype, shape) = (tensor.dtype().name().to_owned(), tensor.shape().to_vec());
    Some(Shaped { name: input.name.clone(), dtype, shape })
}

fn flops(session: &Session, inputs: &[Input]) -> Result<Option<f64>> {
    let shapes = inputs.iter().filter_map(|i| Some((i.name.as_str(), i.value.as_tensor()?.shape())));
    let graph = session.graph(shapes)?;
    Ok(graph.nodes.iter().map(|node| node.cost.map(|cost| cost.flops)).sum())
}

fn measure(
    session: &Session,
    inputs: &[Input],
    setting: Measurement,
    arguments: &Arguments,
    terminal: &Terminal,
) -> Result<Measurement> {
    let (seconds, options) = (arguments.seconds, arguments.time.options());
    let bar = terminal.progress(Some(ROUNDS as u64), "measuring");
    let run = || -> Result<Duration, recurve::Error> {
        let given = inputs.iter().map(|input| (input.name.as_str(), &input.value));
        let start = Instant::now();
        session.run_with(given, &options)?;
        Ok(start.elapsed())
    };
    // One run at least, however long it takes.
    let round = |seconds: f64| -> Result<Vec<Duration>, recurve::Error> {
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let mut times = vec![run()?];
        while Instant::now() < until {
            times.push(run()?);
        }
        Ok(times)
    };
    let result = (|| {
        round(seconds / 10.0)?;
        let (mut all, mut rounds_us) = (Vec::new(), Vec::with_capacity(ROUNDS));
        for _ in 0..ROUNDS {
            let times = round(seconds / ROUNDS as f64)?;
            all.extend_from_slice(&times);
            rounds_us.extend(Latency::of(times).map(|latency| latency.p50));
            bar.inc(1);
        }
        Ok::<_, recurve::Error>((all, rounds_us))
    })();
    bar.finish_and_clear();
    let (all, rounds_us) = result?;
    let runs = all.len();
    let latency_us = Latency::of(all).context("the model was not run")?;
    Ok(Measurement { runs, latency_us, rounds_us, ..setting })
}

/// What is said under the table.
const LEGEND: &str = "Half of the runs took at most p50, 99 in 100 at most p99. The time is cut into rounds: where the p50 of each lie\n\
    far apart, something disturbed the measurement. A multiplication and an addition are two operations.\n";

fn text(measured: &Measurement, comparison: Option<Comparison>, terminal: &Terminal) -> String {
    let micros = |us: f64| quantity::time(Duration::from_secs_f64(us / 1e6));
    let Latency { min, p50, p99 } = measured.latency_us;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let (best, worst) = measured.range();
    let (runs, threads) = (plural(measured.runs, "run"), plural(measured.threads, "thread"));
    let mut rows = vec![
        row("p50", micros(p50)),
        row("min", micros(min)),
        row("p99", micros(p99)),
        row("p50 of each round", format!("{} to {}", micros(best), micros(worst))),
        row("measured", format!("{runs} in {ROUNDS} rounds, {threads}, {}", measured.device)),
    ];
    if let Some(flops) = measured.flops {
        let rate = quantity::count(flops / (p50 / 1e6));
        rows.push(row("one run", format!("{} operations, {rate} a second at p50", quantity::count(flops))));
    }
    if let Some(Comparison { p50_us, ratio, .. }) = comparison {
        rows.push(row("baseline", format!("p50 {}; now {ratio:.3} of it", micros(p50_us))));
    }
    format!("{}\n{}{LEGEND}", terminal.heading("latency"), table(&rows, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_differences_are_told_as_factors() {
        for (ratio, words) in
            [(1.23, "23 %"), (1.994, "99 %"), (2.0, "a factor of 2.0"), (11_840.07, "a factor of 11840.1")]
        {
            assert_eq!(difference(ratio), words);
        }
    }
}
