//! Why an operator has no launches on a GPU.

use crate::dtype::DType;
use crate::graph::fact::Fact;
use recurve_kernels::launch::Reject;

/// Why an operator has no launches.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuReject {
    /// No kernel family computes it.
    #[error("no GPU kernel computes it")]
    NoKernel,
    /// It draws random numbers in a branch that data on the GPU decides about, in a plan.
    #[error("its random numbers are drawn on the host")]
    Random,
    /// What it reads under another shape is on the host.
    #[error("what it is a view of is on the host")]
    OnHost,
    /// Its shapes or results depend on data.
    #[error("what it makes depends on data that is on the GPU")]
    DataDependent,
    /// It reads or makes strings.
    #[error("text is not computed on a GPU")]
    Text,
    /// It reads or makes what is no tensor.
    #[error("sequences and optional values are not computed on a GPU")]
    NoTensor,
    /// It runs bodies, and which or how often depends on data in a plan, or values change their shapes from step to step or
    /// from branch to branch.
    #[error("its steps, or which branch it takes, depend on data that is on the GPU")]
    ControlFlow,
    /// A type of its elements that the kernels do not compute.
    #[error("{0} is not computed by its GPU kernels")]
    ElementType(DType),
    /// A form of it that the kernels do not take.
    #[error("no GPU kernel computes {0}")]
    Form(String),
    /// A node inside it is not valid for the shapes at hand.
    #[error("inside it, {0}")]
    Member(String),
    /// Its kernel family refuses it.
    #[error("its kernel refuses it: {0}")]
    Kernel(Reject),
}

impl GpuReject {
    /// Why there is no memory on a device for all of these values beforehand.
    pub(crate) fn without_memory<'a>(facts: impl Iterator<Item = &'a Fact> + Clone) -> Self {
        if facts.clone().any(|fact| fact.tensor().is_none()) {
            return Self::NoTensor;
        }
        let mut types = facts.filter_map(Fact::tensor).map(|tensor| tensor.dtype);
        if types.any(|dtype| dtype == DType::String) { Self::Text } else { Self::DataDependent }
    }
}

impl From<Reject> for GpuReject {
    fn from(reject: Reject) -> Self {
        Self::Kernel(reject)
    }
}
