//! What runs a session's graph: the CPU's program, or that of a GPU.

use super::arguments::{self, ValueSpec};
use crate::cpu::{RunContext, Slot};
use crate::cuda::{Direct, GpuError, GpuFailure, GpuProgram, GpuUse, HostTrip};
use crate::device::Device;
use crate::error::{Error, OpError, Refusal};
use crate::exec::Program;
use crate::graph::{Graph, Node, NodeError};
use crate::precision::Stored;
use crate::tensor::ValueRef;
use std::sync::Arc;

/// See the module's documentation.
#[derive(Debug)]
pub(super) enum Runner {
    Cpu(Arc<Program>),
    Gpu { device: Device, program: Box<GpuProgram>, opset: i64 },
}

impl Runner {
    /// The graph that runs.
    pub(super) fn graph(&self) -> &Graph {
        match self {
            Self::Cpu(program) => program.graph(),
            Self::Gpu { program, .. } => program.graph(),
        }
    }

    /// What ran on the host although the graph runs on a GPU, with its nodes.
    pub(super) fn trips(&self) -> Vec<(&Node, HostTrip)> {
        match self {
            Self::Cpu(_) => Vec::new(),
            Self::Gpu { program, .. } => program.trips(),
        }
    }

    /// What weights are stored in on its GPU.
    pub(super) fn stored(&self) -> Option<Stored> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu { program, .. } => Some(program.stored()),
        }
    }

    /// What it takes of its GPU.
    pub(super) fn gpu_use(&self) -> Option<GpuUse> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu { program, .. } => program.usage(),
        }
    }

    /// Binds, checks the slots against `outputs`, and runs.
    pub(super) fn run(
        &self,
        values: &[ValueRef<'_>],
        slots: &mut [Slot<'_>],
        outputs: &[ValueSpec],
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        match self {
            Self::Cpu(program) => {
                let bound = program.bind(values, context).map_err(NodeError::at_run)?;
                check(outputs, slots, |index| bound.output_form(index))?;
                bound.run(program, values, slots, context).map_err(NodeError::at_run)
            }
            Self::Gpu { device, program, opset } => {
                let failed = |failure| gpu_error(failure, *device, *opset, context);
                let bound = program.bind(values, context).map_err(failed)?;
                check(outputs, slots, |index| bound.output_form(index))?;
                bound.run(program, (values, &Direct::default()), slots, context).map_err(failed)
            }
        }
    }
}

pub(super) fn check<'f>(
    outputs: &[ValueSpec],
    slots: &[Slot<'_>],
    form: impl Fn(usize) -> Option<(crate::DType, &'f [usize])>,
) -> Result<(), Error> {
    let mut misfits = Vec::new();
    for ((slot, spec), index) in slots.iter().zip(outputs).zip(0..) {
        let problem = arguments::problem_of_place(slot, form(index));
        misfits.extend(problem.map(|problem| arguments::misfit("output", &spec.name, problem)));
    }
    Error::misfits(misfits)
}

/// What the caller is told of a failure on `device` while the model was loaded.
pub(super) fn at_load(failure: GpuFailure, device: Device, opset: i64, context: RunContext<'_>) -> Error {
    match failure {
        GpuFailure::Node(error) => error.at_load(),
        other => gpu_error(other, device, opset, context),
    }
}

/// What the caller is told of a failure on `device`.
pub(super) fn gpu_error(failure: GpuFailure, device: Device, opset: i64, context: RunContext<'_>) -> Error {
    match failure {
        GpuFailure::Node(error) => error.at_run(),
        GpuFailure::Rejected(nodes) => {
            let refusal = |(node, op, reject)| Refusal { node, op, opset, reason: OpError::Gpu(reject) };
            Error::Unsupported { refusals: nodes.into_iter().map(refusal).collect() }
        }
        // Which of the two ended it is what the caller asks.
        GpuFailure::Gpu(GpuError::Interrupted) => match context.interrupt.check() {
            Err(OpError::Cancelled) => Error::Cancelled,
            _ => Error::Deadline,
        },
        GpuFailure::Gpu(source) => Error::Gpu { device, source },
    }
}
