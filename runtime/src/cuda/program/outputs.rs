//! The outputs of a graph on a GPU: where each comes from when all steps have run, and how it comes to the caller.

use super::bound::{GpuBound, State, Step, Work};
use super::place::Source;
use super::{GpuFailure, GpuProgram, node_error};
use crate::cpu::{RunContext, Slot};
use crate::cuda::Direct;
use crate::dtype::DType;
use crate::error::OpError;
use crate::memory::Buffer;
use crate::tensor::{Shape, Tensor, ValueRef, element_count};

/// An output of the graph; its form is known unless it depends on data.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) source: Source,
    pub(super) form: Option<(DType, Shape)>,
}

impl Output {
    /// What is copied on the device for it when all steps have run: to where, from where and how many bytes. `to` is where the
    /// caller has it, where it is written there; else it passes through pinned memory.
    pub(super) fn transfer(
        &self,
        state: &State,
        direct: &Direct,
        to: Option<u64>,
    ) -> Option<(u64, u64, usize)> {
        match (&self.source, to) {
            (Source::Device { place, staging }, to) => {
                let (from, bytes) = place.address(&state.arena)?;
                Some((to.unwrap_or(state.pinned.address() + *staging as u64), from, bytes))
            }
            (Source::Input(at), Some(to)) => Some((to, direct.input(*at)?, self.bytes()?)),
            _ => None,
        }
    }

    /// Its bytes, where they are known.
    fn bytes(&self) -> Option<usize> {
        let (dtype, shape) = self.form.as_ref()?;
        element_count(shape).and_then(|n| dtype.bytes(n))
    }

    pub(super) fn store(
        &self,
        program: &GpuProgram,
        state: &State,
        inputs: &[ValueRef<'_>],
        slot: &mut Slot<'_>,
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let graph_error = |source| GpuFailure::Node(node_error(&program.graph, usize::MAX, source));
        let missing = || graph_error(OpError::internal("an output was not made"));
        let held = match &self.source {
            Source::Input(at) => *inputs.get(*at).ok_or_else(missing)?,
            Source::Constant(tensor) => ValueRef::Tensor(tensor.view()),
            Source::Slot(at) => state.slots[*at].as_ref().ok_or_else(missing)?.as_ref(),
            Source::Device { staging, .. } => return self.read(program, state, *staging, slot, context),
        };
        crate::exec::store(slot, held, context).map_err(graph_error)
    }

    /// Reads it from pinned memory.
    fn read(
        &self,
        program: &GpuProgram,
        state: &State,
        staging: usize,
        slot: &mut Slot<'_>,
        context: RunContext<'_>,
    ) -> Result<(), GpuFailure> {
        let graph_error = |source| GpuFailure::Node(node_error(&program.graph, usize::MAX, source));
        match slot {
            Slot::Fixed { bytes, .. } => state.pinned.read(staging, bytes)?,
            Slot::Made(place) => {
                let (dtype, shape) =
                    self.form.as_ref().ok_or_else(|| graph_error(OpError::internal("a form is missing")))?;
                let bytes = self.bytes().ok_or_else(|| graph_error(context.budget.overflow()))?;
                let mut buffer = Buffer::zeroed(bytes, context.budget).map_err(graph_error)?;
                state.pinned.read(staging, buffer.bytes_mut())?;
                let tensor = Tensor::from_buffer(*dtype, shape, buffer).map_err(graph_error)?;
                **place = Some(tensor.into());
            }
            Slot::Absent => {}
        }
        Ok(())
    }
}

impl GpuBound {
    /// Whether the device can write output `index` where the caller has it on the device, given which inputs are read
    /// there.
    pub(crate) fn writes_directly(&self, index: usize, reads: impl Fn(usize) -> bool) -> bool {
        let Some(output) = self.outputs.get(index).filter(|output| output.form.is_some()) else {
            return false;
        };
        match output.source {
            Source::Device { .. } => true,
            Source::Input(at) => reads(at),
            Source::Constant(_) | Source::Slot(_) => false,
        }
    }

    /// Whether the host reads input `input` in a run that writes the outputs of which `direct` tells on the device.
    pub(crate) fn host_reads(&self, input: usize, direct: impl Fn(usize) -> bool) -> bool {
        let given = |source: &Source| matches!(source, Source::Input(at) if *at == input);
        let step = |step: &Step| match &step.work {
            Work::Host(host) => host.given.iter().flatten().any(|of| given(&of.source)),
            Work::Device(_) => false,
        };
        let mut outputs = self.outputs.iter().enumerate();
        self.steps.iter().any(step) || outputs.any(|(at, output)| !direct(at) && given(&output.source))
    }

    /// Whether an output is input `input` as it is.
    pub(crate) fn passes(&self, input: usize) -> bool {
        self.outputs.iter().any(|output| matches!(output.source, Source::Input(at) if at == input))
    }
}
