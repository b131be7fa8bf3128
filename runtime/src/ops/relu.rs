//! # Relu
//! `y = max(x, 0)`, elementwise; NaN stays NaN. Opsets 6, 13, 14.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Compute, Number, dispatch};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::NUMBERS;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Relu",
    domain: "",
    since: &[6, 13, 14],
    until: None,
    dtypes: NUMBERS,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Relu;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Relu))
}

impl Op for Relu {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, NUMBERS)?;
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => Ok(Kernel::new(|io| {
            let x = io.input::<T>(0)?;
            for (y, x) in io.output::<T>(0)?.iter_mut().zip(x) {
                let v = x.load();
                *y = if v < Compute::zero() { T::default() } else { *x };
            }
            Ok(())
        })))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let data = match &x.data {
            RefData::Float(v) => RefData::Float(v.iter().map(|&v| if v < 0.0 { 0.0 } else { v }).collect()),
            RefData::Int(v) => RefData::Int(v.iter().map(|&v| v.max(0)).collect()),
            _ => return Err(OpError::internal("Relu of another type")),
        };
        Ok(vec![RefTensor { data, ..x.clone() }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(NUMBERS);
    Case::new([g.any_tensor(dtype, &shape)])
}
