//! Control flow that data on the device decides: launches in parts, between which the host reads *flags*, a few bytes, and
//! decides which part is next. No tensor comes to the host for it.
//!
//! Flags lie in the host's memory that the device reaches: a loop's body writes its condition there and reads the number of
//! the round from there; a condition that lies elsewhere is copied there. The addresses of a part's launches never change,
//! so that each part is captured once.

use crate::cpu::body::truth_of;
use crate::cuda::site::{GpuKernel, GpuReject, GpuSite, Launches, Operands, Prepare, Weights};
use crate::dtype::DType;
use crate::precision::StoredWeights;
use crate::tensor::Shape;
use recurve_kernels::launch::{Buffer, Reject};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of the flags.
pub(crate) const FLAGS: usize = 32;
/// Where the number of the round is among them, an i64.
pub(crate) const ROUND: usize = 0;
/// Where a condition is, a truth value.
pub(crate) const CONDITION: usize = 8;
/// Where the most rounds are, an i64.
pub(crate) const LIMIT: usize = 16;

/// Launches in parts, and what decides between them.
pub(crate) struct Flow {
    pub(crate) parts: Vec<Box<Prepare>>,
    pub(crate) course: Course,
}

/// What decides.
#[derive(Debug)]
pub(crate) enum Course {
    /// Part 1 runs where the truth value that is this input holds, else part 0.
    Branch { condition: usize },
    /// Part 0, then parts 1 and 2 in turn while the loop goes on, then part 3 behind an even number of rounds, or part 4.
    Loop(Rounds),
}

/// A loop.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// The most rounds.
    pub(crate) limit: Known<i64>,
    /// Whether there is a first one.
    pub(crate) begins: Known<bool>,
    /// Whether the body writes a condition that ends the loop.
    pub(crate) ends: bool,
    /// Whether the body reads the number of the round.
    pub(crate) numbered: bool,
    pub(crate) collected: Vec<Collected>,
}

/// What is known beforehand, or where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known<T> {
    /// This.
    Is(T),
    /// What input `.0` holds.
    Input(usize),
}

impl Known<i64> {
    /// The number that is input `input`, or no limit where it is not there.
    pub(super) fn count(site: &GpuSite<'_>, input: usize) -> Result<Self, GpuReject> {
        if !site.inputs.has(input) {
            return Ok(Self::Is(i64::MAX));
        }
        let Some(tensor) = site.constant(input) else { return Ok(Self::Input(input)) };
        let values = tensor.view().to_i64s().map_err(|_| GpuReject::ControlFlow)?;
        values.first().copied().map(Self::Is).ok_or(GpuReject::ControlFlow)
    }
}

impl Known<bool> {
    /// The truth value that is input `input`, or true where it is not there.
    pub(super) fn truth(site: &GpuSite<'_>, input: usize) -> Result<Self, GpuReject> {
        if !site.inputs.has(input) {
            return Ok(Self::Is(true));
        }
        let Some(tensor) = site.constant(input) else { return Ok(Self::Input(input)) };
        truth_of(tensor.view().into()).map(Self::Is).map_err(|_| GpuReject::ControlFlow)
    }
}

/// An output that has a slice of every round: how many there are is known behind the last one, so that it grows beside the
/// arena and is read to the host then.
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    pub(crate) output: usize,
    /// Where a round leaves its slice in the workspace, and its bytes.
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
}

impl Flow {
    /// Whether output `output` comes to be on the host.
    pub(crate) fn collects(&self, output: usize) -> bool {
        match &self.course {
            Course::Branch { .. } => false,
            Course::Loop(rounds) => rounds.collected.iter().any(|of| of.output == output),
        }
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Flow({} parts, {:?})", self.parts.len(), self.course)
    }
}

/// What the kernels of a flow want on the device, side by side.
#[derive(Default)]
pub(super) struct Pool {
    weights: Vec<Weights>,
    data: Vec<Vec<u8>>,
    stored: Vec<StoredWeights>,
    can_fault: bool,
}

/// One kernel of a flow, and which of what lies on the device is its own.
pub(super) struct Held {
    kernel: GpuKernel,
    weights: Range<usize>,
    data: Range<usize>,
}

impl Pool {
    /// Takes a kernel in.
    pub(super) fn hold(&mut self, mut kernel: GpuKernel) -> Held {
        let first = (self.weights.len(), self.data.len());
        self.can_fault |= kernel.can_fault();
        self.stored.extend_from_slice(kernel.stored());
        let (weights, data) = kernel.take_resident();
        self.weights.extend(weights);
        self.data.extend(data);
        Held { kernel, weights: first.0..self.weights.len(), data: first.1..self.data.len() }
    }

    /// Takes bytes in, and gives their number among the data.
    pub(super) fn data(&mut self, bytes: Vec<u8>) -> usize {
        self.data.push(bytes);
        self.data.len() - 1
    }

    /// The flow as a kernel, whose launches are those of all parts.
    pub(super) fn kernel(self, flow: Flow, workspace: usize) -> GpuKernel {
        let flow = Arc::new(flow);
        let all = flow.clone();
        let kernel = GpuKernel::new(move |operands| {
            let parts = all.parts.iter().map(|part| part(operands));
            Ok(parts.collect::<Result<Vec<Launches>, Reject>>()?.concat())
        });
        let kernel = if self.can_fault { kernel.with_fault() } else { kernel };
        let kernel = kernel.with_workspace(workspace).with_resident(self.weights, self.data);
        kernel.with_stored(self.stored).with_flow(flow)
    }
}

impl Held {
    /// Its launches on these operands.
    pub(super) fn launches(
        &self,
        all: &Operands<'_>,
        inputs: &[Buffer],
        outputs: &[Buffer],
        workspace: Buffer,
    ) -> Result<Launches, Reject> {
        self.kernel.prepare(&Operands {
            inputs,
            outputs,
            weights: all.weights.get(self.weights.clone()).unwrap_or(&[]),
            data: all.data.get(self.data.clone()).unwrap_or(&[]),
            workspace,
            fault: all.fault,
            flags: Buffer::default(),
        })
    }

    /// Bytes of its workspace.
    pub(super) fn workspace(&self) -> usize {
        self.kernel.workspace()
    }
}
