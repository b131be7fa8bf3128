//! # Flatten
//! The input as a matrix: axes before `axis` are its rows, the others its columns. Opsets 1, 9, 11 (negative
//! axes), 13, 21, 23, 24, 25.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::reshaped::reshaped_copy;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, keeps_shape};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Flatten",
    domain: "",
    since: &[1, 9, 11, 13, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Flatten {
    axis: i64,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Flatten { axis: spec.int_or("axis", 1)? }))
}

impl Op for Flatten {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, MOVABLE)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::ranked(x.dtype, 2).into()]) };
        let rank = shape.len() as i64;
        if self.axis < -rank || self.axis > rank {
            return Err(OpError::value(format!("axis {} is outside a tensor of rank {rank}", self.axis)));
        }
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis } as usize;
        let count = |dims: &[Dim]| match dims {
            // A product of one is that extent even where it is unknown.
            dims if dims.contains(&Dim::Known(0)) => Dim::Known(0),
            dims => dims.iter().fold(Dim::Known(1), |a, d| &a * d),
        };
        let fact = TensorFact::new(x.dtype, vec![count(&shape[..axis]), count(&shape[axis..])]);
        Ok(vec![fact.with_content_of(x).into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        keeps_shape(inputs, outputs)
    }

    fn alias_of(&self) -> Option<usize> {
        Some(0)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        reshaped_copy(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = if self.axis < 0 { self.axis + x.shape.len() as i64 } else { self.axis } as usize;
        let shape = vec![x.shape[..axis].iter().product(), x.shape[axis..].iter().product()];
        Ok(vec![RefTensor { shape, ..x.clone() }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 5);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let opset = *g.pick(&[7, 11, 25]);
    let least = if opset >= 11 { -(rank as i64) } else { 0 };
    let axis = g.int(least, rank as i64);
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset);
    if rank >= 1 && g.chance(0.2) { case } else { case.int("axis", axis) }
}
