//! What an operator is given to run on a GPU, and what it gives back.

use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts};
use crate::tensor::{Shape, Tensor};
use recurve_kernels::launch::{Buffer, Device, Launch, Reject};
use std::sync::Arc;

/// Why an operator has no launches.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuReject {
    /// No kernel family computes it.
    #[error("no GPU kernel computes it")]
    NoKernel,
    /// Its shapes or results depend on data.
    #[error("what it makes depends on data that is on the GPU")]
    DataDependent,
    /// It runs bodies, which run on the CPU only.
    #[error("control flow runs on the CPU only")]
    ControlFlow,
    /// A form of it that the kernels do not take.
    #[error("{0} is not computed by a GPU kernel")]
    Form(String),
    /// Its kernel family refuses it.
    #[error("its kernel refuses it: {0:?}")]
    Kernel(Reject),
}

impl From<Reject> for GpuReject {
    fn from(reject: Reject) -> Self {
        Self::Kernel(reject)
    }
}

/// What [`crate::ops::Op::gpu`] is given: as the CPU's site, and the device.
pub(crate) struct GpuSite<'a> {
    /// Facts of the inputs, shapes known.
    pub(crate) inputs: Facts<'a>,
    /// Facts of the outputs, shapes known.
    pub(crate) outputs: &'a [Fact],
    /// What the launches run on.
    pub(crate) device: Device,
}

impl GpuSite<'_> {
    /// Shape of input `index`.
    pub(crate) fn input_shape(&self, index: usize) -> Result<Shape, GpuReject> {
        let fact = self.inputs.0.get(index).copied().flatten();
        fact.and_then(|f| f.tensor()?.known_shape()).ok_or(GpuReject::DataDependent)
    }

    /// Shape of output `index`.
    pub(crate) fn output_shape(&self, index: usize) -> Result<Shape, GpuReject> {
        let fact = self.outputs.get(index);
        fact.and_then(|f| f.tensor()?.known_shape()).ok_or(GpuReject::DataDependent)
    }

    /// Element type of input `index`.
    pub(crate) fn dtype(&self, index: usize) -> Result<DType, GpuReject> {
        self.inputs.tensor(index).map(|fact| fact.dtype).map_err(|_| GpuReject::NoKernel)
    }

    /// Input `index`, when it is a constant.
    pub(crate) fn constant(&self, index: usize) -> Option<&Tensor> {
        self.inputs.0.get(index).copied().flatten()?.tensor()?.as_constant()
    }
}

/// Where the operands of a launch are.
pub(crate) struct Operands<'a> {
    /// The inputs; absent ones have address 0.
    pub(crate) inputs: &'a [Buffer],
    /// The outputs; those that are not wanted have address 0.
    pub(crate) outputs: &'a [Buffer],
    /// What [`GpuKernel::with_weights`] packed.
    pub(crate) weights: &'a [Buffer],
    /// What [`GpuKernel::with_data`] gave.
    pub(crate) data: &'a [Buffer],
    /// As many bytes as [`GpuKernel::with_workspace`] asked for.
    pub(crate) workspace: Buffer,
}

/// The launches of one operator, in order.
pub(crate) type Launches = Vec<Arc<dyn Launch>>;

/// Constants in the order in which a kernel reads them.
pub(crate) struct Weights {
    /// The form: a node's weights of one form are packed once, whatever shapes it is bound to.
    pub(crate) form: String,
    /// Packs them.
    pub(crate) pack: Box<dyn Fn() -> Vec<u8> + Send + Sync>,
}

type Prepare = dyn Fn(&Operands<'_>) -> Result<Launches, Reject> + Send + Sync;

/// An operator prepared for a GPU: its launches, once it is known where the operands are.
pub(crate) struct GpuKernel {
    prepare: Box<Prepare>,
    workspace: usize,
    weights: Vec<Weights>,
    data: Vec<Vec<u8>>,
}

impl GpuKernel {
    /// A kernel without workspace and data.
    pub(crate) fn new(
        prepare: impl Fn(&Operands<'_>) -> Result<Launches, Reject> + Send + Sync + 'static,
    ) -> Self {
        Self { prepare: Box::new(prepare), workspace: 0, weights: Vec::new(), data: Vec::new() }
    }

    /// Asks for `bytes` of device memory while it runs; its content at the start is arbitrary.
    pub(crate) fn with_workspace(mut self, bytes: usize) -> Self {
        self.workspace = bytes;
        self
    }

    /// Asks for constants to be on the device as `pack` makes them.
    pub(crate) fn with_weights(
        mut self,
        form: impl Into<String>,
        pack: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.weights.push(Weights { form: form.into(), pack: Box::new(pack) });
        self
    }

    /// Asks for `bytes` to be on the device for this binding: programs and tables.
    pub(crate) fn with_data(mut self, bytes: Vec<u8>) -> Self {
        self.data.push(bytes);
        self
    }

    /// Asks for all of these to be on the device.
    pub(super) fn with_resident(mut self, weights: Vec<Weights>, data: Vec<Vec<u8>>) -> Self {
        self.weights.extend(weights);
        self.data.extend(data);
        self
    }

    /// Takes what is to be on the device out of it.
    pub(super) fn take_resident(&mut self) -> (Vec<Weights>, Vec<Vec<u8>>) {
        (std::mem::take(&mut self.weights), std::mem::take(&mut self.data))
    }

    /// Bytes of workspace.
    pub(super) fn workspace(&self) -> usize {
        self.workspace
    }

    /// The constants to be packed.
    pub(super) fn weights(&self) -> &[Weights] {
        &self.weights
    }

    /// What is to be on the device.
    pub(super) fn data(&self) -> &[Vec<u8>] {
        &self.data
    }

    /// The launches.
    pub(super) fn prepare(&self, operands: &Operands<'_>) -> Result<Launches, Reject> {
        (self.prepare)(operands)
    }
}

impl std::fmt::Debug for GpuKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuKernel(workspace {}, data {})", self.workspace, self.data.len())
    }
}
