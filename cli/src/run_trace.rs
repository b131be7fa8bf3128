//! What a run did, as trace events in the form in which `recurve plan --trace` writes what it should do.

use crate::files;
use crate::inputs::Input;
use crate::latency::microseconds;
use anyhow::Result;
use recurve::times::{RunEvent, RunLane};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Version of what a trace tells of its run.
pub(crate) const VERSION: u32 = 1;

/// What ran, so that the trace is not taken for that of something else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Traced {
    /// Version of this; traces that are older do not tell, and are of the first.
    #[serde(default = "first_version")]
    pub(crate) version: u32,
    /// Name of the file.
    pub(crate) file: String,
    /// Of its content.
    pub(crate) model: String,
    /// Names and shapes of the inputs.
    pub(crate) inputs: Vec<String>,
    /// Runs of the model in the same process before the one that was traced; traces that are older do not tell.
    #[serde(default)]
    pub(crate) runs_before: Option<usize>,
}

fn first_version() -> u32 {
    1
}

impl Traced {
    /// A run of the model at `path` on these inputs.
    pub(crate) fn of(path: &Path, inputs: &[Input]) -> Result<Self> {
        let shape = |input: &Input| Some(format!("{}{:?}", input.name, input.value.as_tensor()?.shape()));
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let inputs = inputs.iter().filter_map(shape).collect();
        Ok(Self { version: VERSION, file, model: files::hash_of(path)?, inputs, runs_before: None })
    }

    /// The same, behind so many runs.
    pub(crate) fn behind(self, runs: usize) -> Self {
        Self { runs_before: Some(runs), ..self }
    }
}

/// The trace document of one run on `threads` threads, and `device` where plans may use one: a row for each, on which a
/// node that all shared stands everywhere, and one for the copies of each direction.
pub(crate) fn document(events: &[RunEvent], threads: usize, device: Option<&str>, of: &Traced) -> Value {
    let begin = events.iter().map(|e| microseconds(e.start)).fold(f64::INFINITY, f64::min);
    let mut rows: Vec<String> = (0..threads).map(|row| format!("cpu{row}")).collect();
    let on_device = rows.len();
    if let Some(device) = device.filter(|_| events.iter().any(|e| e.lane != RunLane::Cpu)) {
        rows.extend([device.to_owned(), format!("to {device}"), format!("from {device}")]);
    }
    let named = rows.iter().enumerate().flat_map(|(row, name)| {
        [
            json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name}}),
            json!({"name": "thread_sort_index", "ph": "M", "pid": 1, "tid": row, "args": {"sort_index": row}}),
        ]
    });
    let mut written: Vec<Value> = named.collect();
    for event in events {
        let (processor, on) = match (event.lane, event.worker) {
            (RunLane::Cpu, None) => ("cpu*".to_owned(), 0..threads),
            (RunLane::Cpu, Some(worker)) => (format!("cpu{worker}"), worker..worker + 1),
            (lane, _) => {
                let row = on_device
                    + match lane {
                        RunLane::ToDevice => 1,
                        RunLane::FromDevice => 2,
                        _ => 0,
                    };
                (rows.get(row).cloned().unwrap_or_default(), row..row + 1)
            }
        };
        for row in on {
            written.push(json!({
                "name": *event.name, "cat": "task", "ph": "X", "pid": 1, "tid": row,
                "ts": microseconds(event.start) - begin, "dur": microseconds(event.took),
                "args": {"processor": processor, "operator": event.op}
            }));
        }
    }
    json!({"traceEvents": written, "displayTimeUnit": "ns", "otherData": of})
}
