//! What a plan predicted beside what a run along it took.

use crate::document::Document;
use crate::failure::InvalidFile;
use crate::files;
use crate::quantity;
use crate::run_trace::{Traced, VERSION};
use crate::table::table;
use crate::terminal::Terminal;
use anyhow::Result;
use recurve::plans::Plan;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs of so many times what is predicted are far from it: with nothing else on the cores few take a third more.
const FAR: f64 = 2.0;

/// The trace of a run, as `recurve run --trace` writes it.
#[derive(Debug, Deserialize)]
struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
    #[serde(rename = "otherData")]
    of: Traced,
}

#[derive(Debug, Deserialize)]
struct Event {
    name: String,
    ph: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    args: Arguments,
}

#[derive(Debug, Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    processor: String,
}

/// Prediction and run of a whole plan, and of each of its steps and copies.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) predicted_us: f64,
    pub(super) actual_us: f64,
    /// Runs before the one that was traced; `null` where the trace does not tell.
    runs_before: Option<usize>,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: String,
    place: String,
    predicted_us: f64,
    /// `null` where the trace has no such step.
    actual_us: Option<f64>,
}

/// A trace and the file that it comes from.
#[derive(Debug)]
pub(super) struct Ran {
    path: PathBuf,
    trace: Trace,
}

impl Ran {
    /// Reads the trace of a run; that of a plan is told by its name.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = files::read(path)?;
        let hint = "`recurve run MODEL --plan P.json --trace F.json` writes what --compare reads";
        let wrong = |what: String| InvalidFile::new(format!("`{}` is {what}", path.display()), hint);
        let trace: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| wrong(format!("no trace of a run: {e}")))?;
        if trace.get("traceEvents").is_some() && trace.get("otherData").is_none() {
            return Err(
                wrong("the trace of a plan, which tells what was predicted, not of a run".into()).into()
            );
        }
        if let Some(other) =
            trace.get("otherData").and_then(|of| Document::other_version(&of.to_string(), VERSION))
        {
            return Err(wrong(format!("a trace that is not read: {other}")).into());
        }
        let trace = serde_json::from_value(trace).map_err(|e| wrong(format!("no trace of a run: {e}")))?;
        Ok(Self { path: path.to_owned(), trace })
    }
}

impl Comparison {
    /// Of `plan` for what `of` says with a trace. One of another model, of other shapes, or of a run that did not follow this
    /// plan is refused.
    pub(super) fn of(plan: &Plan, of: &Traced, Ran { path, trace }: Ran) -> Result<Self> {
        let other = |what: String| {
            let hint =
                "compare with a run along the same plan: the same model, --dim and options, with --plan";
            InvalidFile::new(format!("`{}` is the trace of {what}", path.display()), hint)
        };
        if trace.of.model != of.model {
            return Err(other(format!("another model, `{}`; this is `{}`", trace.of.file, of.file)).into());
        }
        if trace.of.inputs != of.inputs {
            let [theirs, own] = [&trace.of, of].map(|of| of.inputs.join(", "));
            return Err(other(format!("a run on {theirs}; the plan is for {own}")).into());
        }
        let mut bars: Vec<Event> = trace.events.into_iter().filter(|e| e.ph == "X").collect();
        bars.sort_by(|a, b| a.ts.total_cmp(&b.ts));
        let ends = bars.iter().map(|e| e.ts + e.dur).fold(0.0, f64::max);
        let begin = bars.first().map_or(0.0, |e| e.ts);
        // A step that all threads shared has a bar for each of them, of one beginning.
        let mut take = |name: &str, place: &str| {
            let at = bars.iter().position(|e| e.name == name && e.args.processor == place)?;
            let found = bars.remove(at);
            bars.retain(|e| e.name != name || e.ts > found.ts);
            Some(found.dur)
        };
        let mut steps: Vec<Step> = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            // A run tells the device, and not which of its streams; the thread that leads others, and not how many.
            let told = step.place.split(['/', '-']).next().unwrap_or_default();
            let actual_us = take(&step.name, told);
            let (name, place) = (step.name.clone(), step.place.clone());
            if actual_us.is_none() {
                return Err(other(format!(
                    "a run along another plan, or none: this one has `{name}` on {place}"
                ))
                .into());
            }
            steps.push(Step { name, place, predicted_us: step.cost_us, actual_us });
        }
        if let Some(device) = &plan.device {
            for (at, copy) in device.copies.iter().enumerate() {
                let name = format!("copy {at}");
                let place = format!("{} {}", if copy.up { "to" } else { "from" }, device.device);
                let actual_us = take(&name, &place);
                let name = format!("{name} of {}", copy.name);
                steps.push(Step { name, place, predicted_us: copy.cost_us, actual_us });
            }
        }
        if let Some(Event { name, args, .. }) = bars.first() {
            return Err(other(format!(
                "a run along another plan, or none: it has `{name}` on {}",
                args.processor
            ))
            .into());
        }
        let (predicted_us, runs_before) = (plan.predicted_us, trace.of.runs_before);
        Ok(Self { predicted_us, actual_us: ends - begin, runs_before, steps })
    }

    /// What is to be said of a run that is not what was predicted.
    pub(super) fn note(&self) -> Option<&'static str> {
        if self.runs_before == Some(0) {
            return Some(
                "note: the run that was traced is the first of its process, which touches memory for the first time and finds \
                 caches empty; predictions are of later ones: trace one without --warmup 0",
            );
        }
        (self.actual_us > FAR * self.predicted_us).then_some(
            "note: the run took more than twice what was predicted: something else may have used the cores, in it or while \
             operators were measured; trace another, or measure again with `recurve profile --refresh`",
        )
    }

    pub(super) fn text(&self, terminal: &Terminal) -> String {
        let time = |us: f64| quantity::time(Duration::from_secs_f64(us.max(0.0) / 1e6));
        let ratio = |predicted: f64, actual: f64| {
            if predicted > 0.0 { format!("{:.2}", actual / predicted) } else { "-".to_owned() }
        };
        let header = ["step", "place", "predicted", "actual", "ratio"].map(str::to_owned).to_vec();
        let row = |step: &Step| {
            let actual = step.actual_us.map_or_else(|| "not in the trace".to_owned(), time);
            let share = step.actual_us.map_or_else(|| "-".to_owned(), |us| ratio(step.predicted_us, us));
            vec![step.name.clone(), step.place.clone(), time(step.predicted_us), actual, share]
        };
        let all = vec![
            "all".to_owned(),
            String::new(),
            time(self.predicted_us),
            time(self.actual_us),
            ratio(self.predicted_us, self.actual_us),
        ];
        let rows: Vec<_> = [header].into_iter().chain(self.steps.iter().map(row)).chain([all]).collect();
        format!("{}\n{}", terminal.heading("predicted and actual"), table(&rows, &[2, 3, 4]))
    }
}
