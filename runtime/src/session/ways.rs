//! The ways in which a run of tensors that lie on a GPU can be made: on that GPU, along a plan, and on the CPU. Each tells
//! what it reads and writes there, and what of it the host needs.

use super::plans::Followed;
use super::runner::{Runner, gpu_error};
use crate::cpu::{RunContext, Slot};
use crate::cuda::{Direct, GpuBound, GpuProgram};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::exec::{Bound, Program};
use crate::graph::NodeError;
use crate::tensor::ValueRef;
use std::sync::Arc;

/// What a run does with the inputs and outputs that lie on a GPU.
#[derive(Debug)]
pub(super) struct Reach {
    /// By input, whether the host reads it, so that it has to be in the host's memory.
    pub(super) host: Vec<bool>,
    /// By input, whether it may still be read when outputs are written.
    pub(super) late: Vec<bool>,
    /// By output, whether the device writes it where it lies.
    pub(super) written: Vec<bool>,
}

/// See the module's documentation.
pub(super) trait Way {
    /// Dtype and shape of output `index`, when they do not depend on data.
    fn form(&self, index: usize) -> Option<(DType, &[usize])>;

    /// What is done where these inputs and these outputs lie on the GPU.
    fn reach(&self, inputs: &[bool], outputs: &[bool]) -> Reach;

    /// Runs with a slot for each output; those that are `direct` have no bytes, and neither have inputs that the host does
    /// not read.
    fn run(
        &self,
        values: (&[ValueRef<'_>], &Direct),
        slots: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), Error>;
}

struct OnGpu<'r> {
    program: &'r GpuProgram,
    bound: Arc<GpuBound>,
    device: Device,
    opset: i64,
}

struct OnCpu<'r> {
    program: &'r Program,
    bound: Arc<Bound>,
}

impl Runner {
    /// Whether the content of input `index` has to be known for [`Self::way`].
    pub(super) fn decides(&self, index: usize) -> bool {
        match self {
            Self::Cpu(_) => true,
            Self::Gpu { program, .. } => program.decides(index),
        }
    }

    /// The way for inputs of these forms.
    pub(super) fn way(
        &self,
        values: &[ValueRef<'_>],
        context: RunContext<'_>,
    ) -> Result<Box<dyn Way + '_>, Error> {
        Ok(match self {
            Self::Cpu(program) => {
                let bound = program.bind(values, context).map_err(NodeError::at_run)?;
                Box::new(OnCpu { program, bound })
            }
            Self::Gpu { device, program, opset } => {
                let failed = |failure| gpu_error(failure, *device, *opset, context);
                let bound = program.bind(values, context).map_err(failed)?;
                Box::new(OnGpu { program, bound, device: *device, opset: *opset })
            }
        })
    }
}

impl Way for OnGpu<'_> {
    fn form(&self, index: usize) -> Option<(DType, &[usize])> {
        self.bound.output_form(index)
    }

    fn reach(&self, inputs: &[bool], outputs: &[bool]) -> Reach {
        let outputs = outputs.iter().enumerate();
        let written: Vec<bool> =
            outputs.map(|(at, bound)| *bound && self.bound.writes_directly(at, |at| inputs[at])).collect();
        let bound = |input: usize| inputs[input];
        let host = |at: usize| bound(at) && self.bound.host_reads(at, |output| written[output]);
        // Inputs are copied before the first step, but for those that are outputs.
        let late = |at: usize| bound(at) && self.bound.passes(at);
        let all = 0..inputs.len();
        Reach { host: all.clone().map(host).collect(), late: all.map(late).collect(), written }
    }

    fn run(
        &self,
        values: (&[ValueRef<'_>], &Direct),
        slots: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        let ran = self.bound.run(self.program, values, slots, context);
        ran.map_err(|failure| gpu_error(failure, self.device, self.opset, context))
    }
}

impl Way for Followed {
    fn form(&self, index: usize) -> Option<(DType, &[usize])> {
        self.bound.output_form(index)
    }

    fn reach(&self, inputs: &[bool], outputs: &[bool]) -> Reach {
        let touched = self.course.host_touches(&self.bound, &self.program);
        let both = |bound: &[bool], of: &dyn Fn(usize) -> bool| {
            bound.iter().enumerate().map(|(at, bound)| *bound && of(at)).collect()
        };
        Reach {
            host: both(inputs, &|at| touched.inputs[at]),
            // Streams copy to the caller while others still read what the caller gave.
            late: inputs.to_vec(),
            written: both(outputs, &|at| !touched.outputs[at]),
        }
    }

    fn run(
        &self,
        values: (&[ValueRef<'_>], &Direct),
        slots: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        self.follow(values, slots, context)
    }
}

impl Way for OnCpu<'_> {
    fn form(&self, index: usize) -> Option<(DType, &[usize])> {
        self.bound.output_form(index)
    }

    fn reach(&self, inputs: &[bool], outputs: &[bool]) -> Reach {
        Reach { host: inputs.to_vec(), late: vec![false; inputs.len()], written: vec![false; outputs.len()] }
    }

    fn run(
        &self,
        (values, _): (&[ValueRef<'_>], &Direct),
        slots: &mut [Slot<'_>],
        context: RunContext<'_>,
    ) -> Result<(), Error> {
        self.bound.run(self.program, values, slots, context).map_err(NodeError::at_run)
    }
}
