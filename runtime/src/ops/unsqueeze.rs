//! # Unsqueeze
//! The input with axes of extent 1 put in, at the places that `axes` names in the output. Opsets 1, 11 (negative
//! axes), 13 (axes as input), 21, 23, 24, 25.

use super::attributes::{IntList, KnownInts, NodeSpec};
use super::{Accuracy, Op, OpDef};
use crate::cpu::reshaped::reshaped_copy;
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, keeps_shape, normal_axes};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Unsqueeze",
    domain: "",
    since: &[1, 11, 13, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
pub(crate) struct Unsqueeze {
    axes: IntList,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    match IntList::parse(spec, "axes", spec.opset >= 13, 1)? {
        IntList::Absent if spec.opset >= 13 => Err(OpError::input(1, "is missing")),
        IntList::Absent => Err(OpError::attribute("axes", "is missing")),
        axes => Ok(Arc::new(Unsqueeze { axes })),
    }
}

impl Op for Unsqueeze {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, if matches!(self.axes, IntList::Input(_)) { 2 } else { 1 })?;
        let x = inputs.typed(0, MOVABLE)?;
        let axes = self.axes.known(inputs)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let most = |n: usize| {
            let rank = shape.len() + n.min(super::MOST_AXES + 1);
            if rank > super::MOST_AXES { Err(OpError::shape(format!("{rank} axes"))) } else { Ok(rank) }
        };
        let axes = match axes {
            KnownInts::Known(axes) => axes,
            KnownInts::Unknown(Some(n)) => return Ok(vec![TensorFact::ranked(x.dtype, most(n)?).into()]),
            _ => return Ok(vec![TensorFact::unranked(x.dtype).into()]),
        };
        let rank = most(axes.len())?;
        let axes = normal_axes(&axes, rank)?;
        let mut old = shape.iter();
        let out = (0..rank).map(|a| {
            if axes.contains(&a) { Dim::Known(1) } else { old.next().cloned().unwrap_or(Dim::Known(1)) }
        });
        Ok(vec![TensorFact::new(x.dtype, out.collect()).with_content_of(x).into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        keeps_shape(inputs, outputs)
    }

    fn alias_of(&self) -> Option<usize> {
        Some(0)
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        reshaped_copy(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axes = self.axes.reference(inputs)?.unwrap_or_default();
        let rank = (x.shape.len() + axes.len()) as i64;
        let mut axes: Vec<i64> = axes.into_iter().map(|a| if a < 0 { a + rank } else { a }).collect();
        axes.sort_unstable();
        let mut shape = x.shape.clone();
        for axis in axes {
            shape.insert(axis as usize, 1);
        }
        Ok(vec![RefTensor { shape, ..x.clone() }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let opset = *g.pick(&[7, 11, 13, 25]);
    let count = g.size(0, 3);
    let all = rank + count;
    let axes: Vec<i64> = g.permutation(all)[..count]
        .iter()
        .map(|&a| a as i64 - if opset >= 11 && g.chance(0.5) { all as i64 } else { 0 })
        .collect();
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset);
    if opset < 13 {
        return case.ints("axes", &axes);
    }
    let case = case.input(Tensor::new(&[count], axes).unwrap_or_else(|_| Tensor::scalar(0i64)));
    if g.chance(0.6) { case.constant(1) } else { case }
}
