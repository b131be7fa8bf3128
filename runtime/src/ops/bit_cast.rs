//! # BitCast
//! The same bytes as another element type of the same width. Opset 26.

use super::attributes::NodeSpec;
use super::elementwise::{draw_numbers, draw_shape, same_shape};
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "BitCast",
    domain: "",
    since: &[26],
    until: None,
    dtypes: NUMBERS_AND_BOOL,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct BitCast {
    to: DType,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let to = spec.dtype("to")?.ok_or_else(|| OpError::attribute("to", "is missing"))?;
    if !NUMBERS_AND_BOOL.contains(&to) {
        return Err(OpError::unsupported(format!("a cast of bits to {to}")));
    }
    Ok(Arc::new(BitCast { to }))
}

impl Op for BitCast {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, NUMBERS_AND_BOOL)?;
        if x.dtype.bits() != self.to.bits() {
            return Err(OpError::attribute(
                "to",
                format!("is {}, no type of the width of {}", self.to, x.dtype),
            ));
        }
        Ok(vec![same_shape(x, self.to).into()])
    }

    fn alias_of(&self) -> Option<usize> {
        Some(0)
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let x = io.tensor(0)?;
            let y = io.output_bytes(0)?;
            let n = y.len();
            y.copy_from_slice(&x.bytes()[..n]);
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?.to_tensor()?;
        let bytes = x.bytes().to_vec().into();
        let y =
            Tensor::from_bytes(self.to, x.shape(), bytes).map_err(|e| OpError::internal(e.to_string()))?;
        Ok(vec![RefTensor::from_tensor(&y)?.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let (from, shape) = (*g.pick(NUMBERS_AND_BOOL), draw_shape(g));
    let fitting: Vec<DType> = NUMBERS_AND_BOOL.iter().copied().filter(|d| d.bits() == from.bits()).collect();
    Case::new([draw_numbers(g, from, &shape, (-10.0, 10.0))]).dtype("to", *g.pick(&fitting))
}
