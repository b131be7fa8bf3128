//! Errors: one enum for the crate, and the error of a single operator that the graph wraps with the node's
//! name.

use crate::cost::ProfileError;
use crate::cuda::{GpuError, GpuReject};
use crate::device::Device;
use crate::dtype::DType;
use crate::plan::PlanError;
use std::fmt::Write as _;
use std::path::PathBuf;

/// What a single operator objects to. The node that it belongs to is named by the error that wraps it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// An attribute is missing, of the wrong type, unknown, or has a value outside its range.
    #[error("attribute `{name}` {problem}")]
    Attribute {
        /// The attribute.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A required input is absent, or there are too many.
    #[error("input {index} {problem}")]
    Input {
        /// Position of the input.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An input has an element type that the operator does not take.
    #[error("input {index} is {got}, which this operator does not take here")]
    DType {
        /// Position of the input.
        index: usize,
        /// The type that it has.
        got: DType,
    },
    /// Shapes do not fit each other or the operator.
    #[error("{0}")]
    Shape(String),
    /// A value (an index, an axis, a repeat count) is outside its range.
    #[error("{0}")]
    Value(String),
    /// The operator, its version or this form of it is not supported.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// An allocation would exceed the memory limit, or the system refused it.
    #[error("{requested} bytes more {}", match limit {
        &usize::MAX => "are more than the system gives".to_owned(),
        limit => format!("would exceed the memory limit of {limit} bytes"),
    })]
    Memory {
        /// Bytes asked for.
        requested: usize,
        /// The limit in force, `usize::MAX` where there is none.
        limit: usize,
    },
    /// The deadline passed.
    #[error("the deadline passed")]
    Deadline,
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// A node inside a control-flow body failed.
    #[error("in its body, {}", place(node, op))]
    Body {
        /// The inner node.
        node: String,
        /// Its operator.
        op: String,
        /// What it objects to.
        #[source]
        source: Box<OpError>,
    },
    /// It does not run on the GPU.
    #[error("{0}; with `Fallback::Cpu` it runs on the CPU")]
    Gpu(GpuReject),
    /// An invariant of the engine does not hold; always a bug.
    #[error("internal error: {0}")]
    Internal(String),
}

impl OpError {
    /// An attribute problem.
    pub(crate) fn attribute(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Attribute { name: name.into(), problem: problem.into() }
    }

    /// An input problem.
    pub(crate) fn input(index: usize, problem: impl Into<String>) -> Self {
        Self::Input { index, problem: problem.into() }
    }

    /// A shape problem.
    pub(crate) fn shape(what: impl Into<String>) -> Self {
        Self::Shape(what.into())
    }

    /// A value problem.
    pub(crate) fn value(what: impl Into<String>) -> Self {
        Self::Value(what.into())
    }

    /// Something that is not supported.
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }

    /// A broken invariant.
    pub(crate) fn internal(what: impl Into<String>) -> Self {
        Self::Internal(what.into())
    }

    fn kind(&self, at_load: bool) -> ErrorKind {
        match self {
            Self::Unsupported(_) | Self::DType { .. } | Self::Gpu(_) => ErrorKind::Unsupported,
            Self::Memory { .. } => ErrorKind::MemoryLimit,
            Self::Deadline => ErrorKind::Deadline,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Internal(_) => ErrorKind::Internal,
            Self::Body { source, .. } => source.kind(at_load),
            _ if at_load => ErrorKind::InvalidModel,
            _ => ErrorKind::InvalidInput,
        }
    }
}

/// One node that cannot run, in the report of [`Error::Unsupported`].
#[derive(Debug)]
pub struct Refusal {
    /// The node's name, or one made from its first output.
    pub node: String,
    /// Its operator with domain, such as `com.microsoft:MatMulNBits`.
    pub op: String,
    /// The operator-set version that the model imports for the domain.
    pub opset: i64,
    /// Why it is refused.
    pub reason: OpError,
}

impl std::fmt::Display for Refusal {
    /// The node and the whole chain of reasons, which for a node inside bodies names the inner ones.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ({}, opset {}): {}", self.node, self.op, self.opset, self.reason)?;
        let mut cause = std::error::Error::source(&self.reason);
        while let Some(inner) = cause {
            write!(f, ": {inner}")?;
            cause = inner.source();
        }
        Ok(())
    }
}

/// An input or output of the caller that does not fit, in the report of [`Error::Arguments`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Misfit {
    /// `input` or `output`.
    pub role: &'static str,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

impl From<PlanError> for Error {
    fn from(source: PlanError) -> Self {
        Self::Plan { source }
    }
}

impl From<ProfileError> for Error {
    fn from(source: ProfileError) -> Self {
        Self::Profile { source }
    }
}

impl From<Misfit> for Error {
    fn from(Misfit { role, name, problem }: Misfit) -> Self {
        Self::Argument { role, name, problem }
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`: {}", self.role, self.name, self.problem)
    }
}

/// Where the decoding of a file stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
#[non_exhaustive]
pub struct Undecoded {
    /// What was found, in terms of the file format.
    pub what: String,
}

/// Everything that can go wrong, with the thing named. `Display` is one clause; what caused it is in `source()`, which
/// `{:#}` of `anyhow` and its like print behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file that holds the data of one of the model's tensors could not be read.
    #[error("cannot read `{}`, the data of tensor `{tensor}`", path.display())]
    ExternalData {
        /// The tensor.
        tensor: String,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are of some other format.
    #[error("this is no ONNX model, but a file of another format")]
    NotOnnx {
        /// Where that was seen.
        #[source]
        source: Undecoded,
    },
    /// An ONNX model that is damaged or contradicts itself.
    #[error("not a valid ONNX model: {what}")]
    Model {
        /// What is wrong, with the name of the thing.
        what: String,
    },
    /// Nodes that this engine does not run, all of them.
    #[error("{} of the model's nodes cannot run: {}", refusals.len(), listed(refusals))]
    Unsupported {
        /// The nodes and the reasons.
        refusals: Vec<Refusal>,
    },
    /// A node failed while the model was prepared.
    #[error("{} is not valid", place(node, op))]
    Prepare {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is wrong.
        #[source]
        source: OpError,
    },
    /// A node failed while it ran.
    #[error("{} failed", place(node, op))]
    Run {
        /// The node; a graph or an output, where `op` says so.
        node: String,
        /// Its operator, or `graph` or `output`.
        op: String,
        /// What is wrong.
        #[source]
        source: OpError,
    },
    /// An input or output of the caller does not fit the model, or a tensor what is done with it.
    #[error("{role} `{name}`: {problem}")]
    Argument {
        /// `input`, `output` or `tensor`.
        role: &'static str,
        /// Its name; of a tensor its element type, behind which its shape may stand.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Several inputs or outputs of the caller do not fit the model, all of them.
    #[error("{} arguments do not fit: {}", misfits.len(), listed(misfits))]
    Arguments {
        /// Each with what is wrong.
        misfits: Vec<Misfit>,
    },
    /// The memory limit, or the system's memory, does not suffice.
    #[error("{what} needs {requested} bytes, more than {}", match limit {
        &usize::MAX => "the system gives".to_owned(),
        limit => format!("the memory limit of {limit} bytes leaves"),
    })]
    Memory {
        /// What was to be stored.
        what: String,
        /// Bytes asked for.
        requested: usize,
        /// The limit in force, `usize::MAX` where there is none.
        limit: usize,
    },
    /// The deadline of the run passed.
    #[error("the deadline passed")]
    Deadline,
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// A GPU or its driver failed.
    #[error("{device} {}", match source {
        GpuError::OutOfMemory { .. } | GpuError::Limit { .. } => "has too little memory",
        _ => "cannot be used",
    })]
    Gpu {
        /// Which one.
        device: Device,
        /// What happened.
        #[source]
        source: GpuError,
    },
    /// The model is not planned, or a plan does not fit it.
    #[error("{}", match source {
        PlanError::Malformed { .. } | PlanError::Invalid { .. } | PlanError::Other { .. } => "the plan cannot be followed",
        _ => "no plan can be made",
    })]
    Plan {
        /// Why.
        #[source]
        source: PlanError,
    },
    /// A profile cannot be used or kept.
    #[error("the profile cannot be used")]
    Profile {
        /// Why.
        #[source]
        source: ProfileError,
    },
    /// A setting has no meaning or contradicts another.
    #[error("setting `{name}` {problem}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An invariant of the engine does not hold; always a bug.
    #[error("internal error: {what}")]
    Internal {
        /// The invariant.
        what: String,
    },
}

/// Class of an [`Error`]; the codes are stable across versions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read.
    Io,
    /// The model is malformed.
    InvalidModel,
    /// The model is well-formed but holds something that this engine does not run.
    Unsupported,
    /// The caller's inputs, outputs or settings do not fit.
    InvalidInput,
    /// The memory limit does not suffice.
    MemoryLimit,
    /// A GPU or its driver failed.
    Device,
    /// A plan or profile is malformed, or for something else.
    InvalidPlan,
    /// The model cannot be planned.
    Unplannable,
    /// The deadline passed.
    Deadline,
    /// The run was cancelled.
    Cancelled,
    /// A bug of this engine.
    Internal,
}

impl ErrorKind {
    /// Stable code, such as `invalid_model`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::InvalidModel => "invalid_model",
            Self::Unsupported => "unsupported",
            Self::InvalidInput => "invalid_input",
            Self::MemoryLimit => "memory_limit",
            Self::Device => "device",
            Self::InvalidPlan => "invalid_plan",
            Self::Unplannable => "unplannable",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }
}

impl Error {
    /// The error's class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } | Self::ExternalData { .. } => ErrorKind::Io,
            Self::NotOnnx { .. } | Self::Model { .. } => ErrorKind::InvalidModel,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Prepare { source, .. } => source.kind(true),
            Self::Run { source, .. } => source.kind(false),
            Self::Argument { .. } | Self::Arguments { .. } | Self::Setting { .. } => ErrorKind::InvalidInput,
            Self::Memory { .. } => ErrorKind::MemoryLimit,
            Self::Gpu { .. } => ErrorKind::Device,
            Self::Plan { source } => match source {
                PlanError::Malformed { .. } | PlanError::Invalid { .. } | PlanError::Other { .. } => {
                    ErrorKind::InvalidPlan
                }
                PlanError::Unplaceable { .. } => ErrorKind::InvalidInput,
                PlanError::Scheduler(_) => ErrorKind::Internal,
                _ => ErrorKind::Unplannable,
            },
            Self::Profile { source: ProfileError::Io { .. } } => ErrorKind::Io,
            Self::Profile { .. } => ErrorKind::InvalidPlan,
            Self::Deadline => ErrorKind::Deadline,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// The error for what does not fit, if anything does not.
    pub(crate) fn misfits(mut misfits: Vec<Misfit>) -> Result<(), Self> {
        match misfits.len() {
            0 => Ok(()),
            1 => Err(misfits.swap_remove(0).into()),
            _ => Err(Self::Arguments { misfits }),
        }
    }

    /// A malformed model.
    pub(crate) fn model(what: impl Into<String>) -> Self {
        Self::Model { what: what.into() }
    }

    /// A failure of a running node; deadline and cancellation are not the node's.
    pub(crate) fn run(node: &str, op: &str, source: OpError) -> Self {
        match source {
            OpError::Deadline => Self::Deadline,
            OpError::Cancelled => Self::Cancelled,
            source => Self::Run { node: node.into(), op: op.into(), source },
        }
    }
}

/// What stands for an operator in errors about a graph as a whole, and about an output.
pub(crate) const GRAPH: &str = "graph";
pub(crate) const OUTPUT: &str = "output";

/// What an error is about, in words.
pub(crate) fn place(node: &str, op: &str) -> String {
    match (op, node) {
        (GRAPH, "") => "the graph".to_owned(),
        (GRAPH | OUTPUT, name) => format!("{op} `{name}`"),
        _ => format!("node `{node}` ({op})"),
    }
}

fn listed(items: &[impl std::fmt::Display]) -> String {
    const SHOWN: usize = 20;
    let mut text = String::new();
    for item in items.iter().take(SHOWN) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let _ = write!(text, "{item}");
    }
    if items.len() > SHOWN {
        let _ = write!(text, "; and {} more", items.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_and_outputs_are_not_called_nodes() {
        let named = [place("n", "Add"), place("g", GRAPH), place("", GRAPH), place("y", OUTPUT)];
        assert_eq!(named, ["node `n` (Add)", "graph `g`", "the graph", "output `y`"]);
    }

    #[test]
    fn a_gpu_without_room_is_not_called_unusable() {
        let of = |source| Error::Gpu { device: Device::Emulated, source }.to_string();
        assert_eq!(of(GpuError::Limit { requested: 9, limit: 7 }), "emulated has too little memory");
        assert_eq!(of(GpuError::NoDriver), "emulated cannot be used");
    }

    #[test]
    fn memory_without_a_limit_is_what_the_system_gives() {
        let of = |limit| Error::Memory { what: "`y`".to_owned(), requested: 9, limit }.to_string();
        assert_eq!(of(7), "`y` needs 9 bytes, more than the memory limit of 7 bytes leaves");
        assert_eq!(of(usize::MAX), "`y` needs 9 bytes, more than the system gives");
        let of = |limit| OpError::Memory { requested: 9, limit }.to_string();
        assert_eq!(of(7), "9 bytes more would exceed the memory limit of 7 bytes");
        assert_eq!(of(usize::MAX), "9 bytes more are more than the system gives");
    }
}
