//! # Size
//! The input's number of elements, an `int64` without axes. Opsets 1, 13, 19, 21, 23, 24, 25.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Size",
    domain: "",
    since: &[1, 13, 19, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Size;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Size))
}

impl Op for Size {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let fact = TensorFact::known(DType::I64, &[]);
        Ok(vec![
            match &inputs.tensor(0)?.shape {
                Some(shape) if shape.contains(&Dim::Known(0)) => fact.with_integers(vec![0.into()]),
                Some(shape) => {
                    let count = shape.iter().fold(Dim::Known(1), |a, d| &a * d);
                    fact.with_integers(vec![Integer::Extent(count)])
                }
                None => fact,
            }
            .into(),
        ])
    }

    fn cpu(&self, _: &CpuSite<'_>) -> Result<Kernel, OpError> {
        Ok(Kernel::new(|io| {
            let count = io.tensor(0)?.len() as i64;
            io.output::<i64>(0)?.fill(count);
            Ok(())
        }))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let count = inputs.tensor(0)?.len() as i128;
        Ok(vec![RefTensor::ints(DType::I64, &[], vec![count]).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 5);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    Case::new([g.any_tensor(dtype, &shape)])
}
