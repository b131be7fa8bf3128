//! What can go wrong between a document and a schedule.

use std::fmt;
use std::path::PathBuf;

/// Every error of this crate.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON, or not a document of this format (unknown key, wrong type, number out of range).
    #[error("the document does not follow the format")]
    Json(#[from] serde_json::Error),
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file is no text.
    #[error("{} is no document: it is not text", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
    },
    /// The document has a version that this crate does not read.
    #[error("version {found} is not supported, only {supported}")]
    Version {
        /// What the document says.
        found: u32,
        /// What is read.
        supported: u32,
    },
    /// Two things of one kind share a name.
    #[error("two {kind}s are named {name:?}")]
    Duplicate {
        /// What kind of thing.
        kind: Kind,
        /// The shared name.
        name: String,
    },
    /// A name that nothing carries.
    #[error("{user:?} names the {kind} {name:?}, which does not exist")]
    Unknown {
        /// What kind of thing was looked for.
        kind: Kind,
        /// The name looked for.
        name: String,
        /// Who names it.
        user: String,
    },
    /// A time or rate that is not a finite number in its range.
    #[error("the {quantity} of {name:?} is {value}, which is not in its range")]
    Number {
        /// Which number.
        quantity: &'static str,
        /// Of which task, tensor, weight or link.
        name: String,
        /// The value found.
        value: f64,
    },
    /// A sum of times or bytes leaves the range in which it is exact.
    #[error("the sum of all {quantity} exceeds {limit}")]
    Overflow {
        /// What is summed.
        quantity: &'static str,
        /// The largest sum that is accepted.
        limit: u64,
    },
    /// There are more things than the tables can number.
    #[error("{name:?} has {count} {quantity}, more than {limit}")]
    TooMany {
        /// What is counted.
        quantity: &'static str,
        /// Where.
        name: String,
        /// How many there are.
        count: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// A task's costs do not match the processors.
    #[error("task {task:?} has {found} costs for {expected} processors")]
    CostCount {
        /// The task.
        task: String,
        /// Number of processors.
        expected: usize,
        /// Number of costs.
        found: usize,
    },
    /// A tensor is written by two tasks.
    #[error("tensor {tensor:?} is written by {first:?} and by {second:?}")]
    TwoWriters {
        /// The tensor.
        tensor: String,
        /// One writer.
        first: String,
        /// The other.
        second: String,
    },
    /// The tasks depend on each other in a circle.
    #[error("task {task:?} depends on itself through {length} tasks")]
    Cycle {
        /// One task of the circle.
        task: String,
        /// How many tasks lie on it.
        length: usize,
    },
    /// A task that no processor can run with its inputs and outputs in reach.
    #[error("task {task:?} can run on no processor")]
    Nowhere {
        /// The task.
        task: String,
    },
    /// A tensor that cannot get where it is needed.
    #[error("tensor {tensor:?} cannot reach memory {memory:?}")]
    Unreachable {
        /// The tensor.
        tensor: String,
        /// Where it is needed.
        memory: String,
    },
    /// No list scheduler found a way over the links that there are.
    #[error("no schedule was found that the links allow")]
    DeadEnd,
    /// No schedule within the capacities was found; with a bound, none exists.
    #[error("memory {memory:?} holds {capacity} bytes, and the least found to suffice is {reachable:?}")]
    Capacity {
        /// The memory that overflows.
        memory: String,
        /// Its capacity.
        capacity: u64,
        /// The least peak of that memory among the schedules found.
        reachable: Option<u64>,
        /// A proved lower bound of the peak, where it exceeds the capacity.
        bound: Option<u64>,
    },
    /// No schedule within the latency objective was found; with a bound, none exists.
    #[error("no schedule found takes at most {slo_us} us, the best found takes {reachable_us} us")]
    Slo {
        /// The objective.
        slo_us: f64,
        /// The least makespan found.
        reachable_us: f64,
        /// A proved lower bound of the makespan, where it exceeds the objective.
        bound_us: Option<f64>,
    },
    /// The exact search is for small instances.
    #[error("the exact search takes at most {limit} tasks, not {tasks}")]
    TooLarge {
        /// Tasks of the instance.
        tasks: usize,
        /// The limit.
        limit: usize,
    },
    /// The exact search ran out of its node budget before it had a proof.
    #[error("the exact search ended after {nodes} nodes without a proof")]
    Unproved {
        /// Nodes visited.
        nodes: u64,
    },
    /// The request names a memory that the instance does not have.
    #[error("the instance has no memory {name:?}; it has {}", known.join(", "))]
    NoSuchMemory {
        /// The name given.
        name: String,
        /// The memories that there are.
        known: Vec<String>,
    },
    /// Options that do not go together.
    #[error("{option} {problem}")]
    Usage {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The kinds of named things in a document.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A memory.
    Memory,
    /// A processor.
    Processor,
    /// A link between two memories.
    Link,
    /// A tensor.
    Tensor,
    /// A weight.
    Weight,
    /// A task.
    Task,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Processor => "processor",
            Self::Link => "link",
            Self::Tensor => "tensor",
            Self::Weight => "weight",
            Self::Task => "task",
        })
    }
}

/// What an error means to the caller; the command maps it to an exit code.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A file could not be accessed.
    Io,
    /// The document is malformed.
    Document,
    /// The document is well formed, and no schedule meets what is asked.
    Infeasible,
    /// The request does not fit the instance or itself.
    Usage,
}

impl Error {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::Write { .. } => ErrorKind::Io,
            Self::Capacity { .. } | Self::Slo { .. } | Self::DeadEnd => ErrorKind::Infeasible,
            Self::TooLarge { .. }
            | Self::Unproved { .. }
            | Self::NoSuchMemory { .. }
            | Self::Usage { .. } => ErrorKind::Usage,
            _ => ErrorKind::Document,
        }
    }
}
