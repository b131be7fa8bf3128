//! The answer document: what `schedule --json` prints.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::instance::VERSION;
use crate::peak::peaks;
use crate::schedule::{Run, Schedule, Transfer};

/// A schedule in names, with what it amounts to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Version of the document.
    pub version: u32,
    /// The algorithm's name.
    pub algorithm: String,
    /// End of the last task or needed transfer.
    pub makespan_us: f64,
    /// No schedule is shorter.
    pub lower_bound_us: f64,
    /// Peak bytes by memory.
    pub peak_bytes: BTreeMap<String, u64>,
    /// Where and when tasks run.
    pub tasks: Vec<TaskLine>,
    /// When tensors move.
    pub transfers: Vec<TransferLine>,
    /// In memory mode: the Pareto points found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub front: Option<Vec<Point>>,
}

/// One task's place and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskLine {
    /// The task.
    pub name: String,
    /// Its processor.
    pub processor: String,
    /// Start.
    pub start_us: f64,
    /// Finish.
    pub finish_us: f64,
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferLine {
    /// The tensor.
    pub tensor: String,
    /// Memory read.
    pub from: String,
    /// Memory written.
    pub to: String,
    /// Start.
    pub start_us: f64,
    /// Finish.
    pub finish_us: f64,
}

/// A point of the Pareto front: a schedule exists that has both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Peak bytes of the memory in question.
    pub peak_bytes: u64,
    /// Makespan.
    pub makespan_us: f64,
}

/// To the picosecond: sums of times end in digits that mean nothing.
pub(crate) fn rounded(us: f64) -> f64 {
    const STEPS: f64 = 1e6;
    let whole = (us * STEPS).round() / STEPS;
    if whole.is_finite() { whole } else { us }
}

impl Answer {
    /// Puts a schedule into names.
    pub fn new(problem: &Problem, algorithm: &str, schedule: &Schedule, lower_bound: f64) -> Self {
        let names = &problem.names;
        let task = |(t, r): (usize, &Run)| TaskLine {
            name: names.tasks[t].clone(),
            processor: names.processors[r.processor as usize].clone(),
            start_us: rounded(r.start),
            finish_us: rounded(r.finish),
        };
        let transfer = |m: &Transfer| TransferLine {
            tensor: names.tensors[m.tensor as usize].clone(),
            from: names.memories[m.from as usize].clone(),
            to: names.memories[m.to as usize].clone(),
            start_us: rounded(m.start),
            finish_us: rounded(m.finish),
        };
        Self {
            version: VERSION,
            algorithm: algorithm.to_owned(),
            makespan_us: rounded(schedule.makespan),
            lower_bound_us: rounded(lower_bound.min(schedule.makespan)),
            peak_bytes: names.memories.iter().cloned().zip(peaks(problem, schedule)).collect(),
            tasks: schedule.runs.iter().enumerate().map(task).collect(),
            transfers: schedule.transfers.iter().map(transfer).collect(),
            front: None,
        }
    }
}
