//! A schedule: where and when every task runs and every tensor moves.

use crate::Problem;

/// One task's place and time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Index of the processor.
    pub processor: u32,
    /// Start in microseconds.
    pub start: f64,
    /// Finish in microseconds.
    pub finish: f64,
}

/// One transfer of a tensor over a direct link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transfer {
    /// Index of the tensor.
    pub tensor: u32,
    /// Index of the memory read.
    pub from: u32,
    /// Index of the memory written.
    pub to: u32,
    /// Start in microseconds.
    pub start: f64,
    /// Finish in microseconds.
    pub finish: f64,
}

/// A complete schedule of a problem.
///
/// Runs are in task order; transfers are in the order of their start, a copy of a copy behind the copy.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// One entry per task.
    pub runs: Vec<Run>,
    /// Every transfer.
    pub transfers: Vec<Transfer>,
    /// End of the last task or needed transfer.
    pub makespan: f64,
}

impl Schedule {
    /// Puts the parts together: orders the transfers and finds the makespan.
    pub(crate) fn new(problem: &Problem, runs: Vec<Run>, mut transfers: Vec<Transfer>) -> Self {
        // Stable, so that transfers of no length that depend on each other keep their order.
        transfers.sort_by(|a, b| a.start.total_cmp(&b.start).then(a.finish.total_cmp(&b.finish)));
        let needed = transfers.iter().filter(|m| problem.needed.row(m.tensor as usize).contains(&m.to));
        let makespan = runs.iter().map(|r| r.finish).chain(needed.map(|m| m.finish)).fold(0.0, f64::max);
        Self { runs, transfers, makespan }
    }

    /// The processor of each task.
    pub fn processors(&self) -> Vec<u32> {
        self.runs.iter().map(|r| r.processor).collect()
    }
}
