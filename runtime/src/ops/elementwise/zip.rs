//! Operators that take two tensors and broadcast them to one shape.

use crate::cpu::program::operator_kernel;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact, broadcast_dims};
use crate::loops::program::{Builder, Reg};
use crate::ops::attributes::NodeSpec;
use crate::ops::{Accuracy, Op, OpDef};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

/// A function of pairs of elements of two tensors.
pub(in crate::ops) trait Zip: Debug + Send + Sync + 'static {
    /// Element types of the first input.
    const DTYPES: &'static [DType];
    const ACCURACY: Accuracy;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError>
    where
        Self: Sized;

    /// Element type of the output, or a refusal of the second input's.
    fn output(&self, a: DType, b: DType) -> Result<DType, OpError> {
        if a == b { Ok(a) } else { Err(OpError::DType { index: 1, got: b }) }
    }

    /// Shape of the output; by default what both broadcast to.
    fn shape(&self, a: &TensorFact, b: &TensorFact) -> Result<TensorFact, OpError> {
        broadcast_fact(a.dtype, &[a, b])
    }

    /// The output's fact with what is known of its content.
    fn with_content(&self, fact: TensorFact, _a: &TensorFact, _b: &TensorFact) -> TensorFact {
        fact
    }

    /// The function of elements of these types, for programs.
    fn scalar(&self, _b: &mut Builder, _p: Reg, _q: Reg, _inputs: [DType; 2]) -> Option<Reg> {
        None
    }

    /// A kernel of its own, for what no program computes.
    fn kernel(&self, _site: &CpuSite<'_>, _a: DType, _b: DType) -> Option<Result<Kernel, OpError>> {
        None
    }

    /// The output for tensors that were broadcast to one shape.
    fn reference(&self, a: &RefTensor, b: &RefTensor) -> Result<RefTensor, OpError>;

    fn case(g: &mut Gen) -> Case;
}

/// The definition of the operator `Z`.
pub(in crate::ops) const fn zip<Z: Zip>(name: &'static str, since: &'static [i64]) -> OpDef {
    OpDef {
        name,
        domain: "",
        since,
        until: None,
        dtypes: Z::DTYPES,
        accuracy: Z::ACCURACY,
        parse: |spec| Ok(Arc::new(Zipped(Z::parse(spec)?))),
        case: Z::case,
    }
}

/// A tensor of `dtype` and the shape that `inputs` broadcast to.
pub(in crate::ops) fn broadcast_fact(dtype: DType, inputs: &[&TensorFact]) -> Result<TensorFact, OpError> {
    let shapes: Option<Vec<_>> = inputs.iter().map(|f| f.shape.as_deref()).collect();
    match shapes {
        Some(shapes) => Ok(TensorFact::new(dtype, broadcast_dims(&shapes)?)),
        None => Ok(TensorFact::unranked(dtype)),
    }
}

#[derive(Debug)]
struct Zipped<Z>(Z);

impl<Z: Zip> Op for Zipped<Z> {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let (a, b) = (inputs.typed(0, Z::DTYPES)?, inputs.tensor(1)?);
        let dtype = self.0.output(a.dtype, b.dtype)?;
        let fact = TensorFact { dtype, ..self.0.shape(a, b)? };
        Ok(vec![self.0.with_content(fact, a, b).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        match self.0.kernel(site, site.inputs.tensor(0)?.dtype, site.inputs.tensor(1)?.dtype) {
            Some(kernel) => kernel,
            None => operator_kernel(self, site),
        }
    }

    fn scalar(&self, inputs: Facts<'_>, b: &mut Builder, operands: &[Option<Reg>]) -> Option<Reg> {
        let types = [inputs.tensor(0).ok()?.dtype, inputs.tensor(1).ok()?.dtype];
        let [Some(p), Some(q)] = *operands else { return None };
        self.0.scalar(b, p, q, types)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let pair = RefTensor::broadcast(&[inputs.tensor(0)?, inputs.tensor(1)?])?;
        Ok(vec![self.0.reference(&pair[0], &pair[1])?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
