//! Operators that take one tensor and give one of the same shape.

use crate::cpu::program::operator_kernel;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::recurrence::Activation;
use crate::ops::{Accuracy, Op, OpDef};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// A function of each element of one tensor.
pub(in crate::ops) trait Map: Debug + Send + Sync + 'static {
    /// Element types of the input.
    const DTYPES: &'static [DType];
    const ACCURACY: Accuracy;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError>
    where
        Self: Sized;

    /// Element type of the output.
    fn output(&self, input: DType) -> DType {
        input
    }

    /// The output's fact with what is known of its content.
    fn with_content(&self, fact: TensorFact, _input: &TensorFact) -> TensorFact {
        fact
    }

    /// Whether the output is the input, bit for bit.
    fn keeps(&self, _input: DType) -> bool {
        false
    }

    /// The activation function of recurrent operators that it is.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// The function of an element of type `input`, for programs.
    fn scalar(&self, _b: &mut Builder, _x: Reg, _input: DType) -> Option<Reg> {
        None
    }

    /// A kernel of its own, for types that no program handles.
    fn kernel(&self, _input: DType) -> Option<Result<Kernel, OpError>> {
        None
    }

    /// Launches for types that no program handles.
    fn gpu(&self, _site: &GpuSite<'_>) -> Option<Result<GpuKernel, GpuReject>> {
        None
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError>;

    fn case(g: &mut Gen) -> Case;
}

/// The definition of the operator `M`.
pub(in crate::ops) const fn map<M: Map>(name: &'static str, since: &'static [i64]) -> OpDef {
    OpDef {
        name,
        domain: "",
        since,
        until: None,
        dtypes: M::DTYPES,
        accuracy: M::ACCURACY,
        parse: |spec| Ok(Arc::new(Mapped(M::parse(spec)?))),
        case: M::case,
    }
}

/// A tensor of `dtype` of the same shape as `x`.
pub(in crate::ops) fn same_shape(x: &TensorFact, dtype: DType) -> TensorFact {
    TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(dtype) }
}

#[derive(Debug)]
struct Mapped<M>(M);

impl<M: Map> Op for Mapped<M> {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, M::DTYPES)?;
        Ok(vec![self.0.with_content(same_shape(x, self.0.output(x.dtype)), x).into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, _: &[Fact]) -> bool {
        inputs.tensor(0).is_ok_and(|x| self.0.keeps(x.dtype))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        match self.0.kernel(site.inputs.tensor(0)?.dtype) {
            Some(kernel) => kernel,
            None => operator_kernel(self, site),
        }
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        match self.0.gpu(site) {
            Some(kernel) => kernel,
            None => families::map::of_nest(site, self.nest(site.inputs, site.outputs)),
        }
    }

    fn scalar(&self, inputs: Facts<'_>, b: &mut Builder, operands: &[Option<Reg>]) -> Option<Reg> {
        let input = inputs.tensor(0).ok()?.dtype;
        self.0.scalar(b, operands.first().copied().flatten()?, input)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        Ok(vec![self.0.reference(inputs.tensor(0)?)?.into()])
    }

    fn activation(&self) -> Option<Activation> {
        self.0.activation()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
