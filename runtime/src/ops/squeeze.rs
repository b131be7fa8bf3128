//! # Squeeze
//! The input without the named axes, each of extent 1, or without all axes of extent 1 where none are named.
//! Opsets 1, 11 (negative axes), 13 (axes as input), 21, 23, 24, 25.

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
    name: "Squeeze",
    domain: "",
    since: &[1, 11, 13, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
pub(crate) struct Squeeze {
    axes: IntList,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Squeeze { axes: IntList::parse(spec, "axes", spec.opset >= 13, 1)? }))
}

impl Op for Squeeze {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, if matches!(self.axes, IntList::Input(_)) { 2 } else { 1 })?;
        let x = inputs.typed(0, MOVABLE)?;
        let unranked = || Ok(vec![TensorFact::unranked(x.dtype).into()]);
        let axes = self.axes.known(inputs)?;
        let Some(shape) = &x.shape else { return unranked() };
        let left: Vec<Dim> = match axes {
            KnownInts::Unknown(count) => {
                return match count.map(|n| shape.len().checked_sub(n)) {
                    None => unranked(),
                    Some(Some(rank)) => Ok(vec![TensorFact::ranked(x.dtype, rank).into()]),
                    Some(None) => Err(OpError::value("more axes are named than there are")),
                };
            }
            // An extent that is not known may be 1.
            KnownInts::Absent if shape.iter().any(|d| d.known().is_none()) => return unranked(),
            KnownInts::Absent => shape.iter().filter(|d| **d != Dim::Known(1)).cloned().collect(),
            KnownInts::Known(axes) => {
                let axes = normal_axes(&axes, shape.len())?;
                if let Some(a) = axes.iter().find(|&&a| shape[a].known().is_some_and(|d| d != 1)) {
                    return Err(OpError::shape(format!("axis {a} has extent {}, not 1", shape[*a])));
                }
                let kept = shape.iter().enumerate().filter(|(a, _)| !axes.contains(a));
                kept.map(|(_, d)| d.clone()).collect()
            }
        };
        Ok(vec![TensorFact::new(x.dtype, left).with_content_of(x).into()])
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
        let rank = x.shape.len() as i64;
        let axes: Option<Vec<i64>> = self
            .axes
            .reference(inputs)?
            .map(|axes| axes.into_iter().map(|a| if a < 0 { a + rank } else { a }).collect());
        let dropped = |a: usize, d: usize| axes.as_ref().map_or(d == 1, |axes| axes.contains(&(a as i64)));
        let kept = x.shape.iter().enumerate().filter(|&(a, &d)| !dropped(a, d));
        let shape = kept.map(|(_, &d)| d).collect();
        Ok(vec![RefTensor { shape, ..x.clone() }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 5);
    let mut shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let opset = *g.pick(&[7, 11, 13, 25]);
    let count = g.size(0, rank);
    let axes: Vec<i64> = g.permutation(rank)[..count].iter().map(|&a| a as i64).collect();
    for &a in &axes {
        shape[a as usize] = 1;
    }
    let case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset);
    if g.chance(0.3) {
        return case;
    }
    let axes: Vec<i64> =
        axes.iter().map(|&a| if opset >= 11 && g.chance(0.5) { a - rank as i64 } else { a }).collect();
    if opset < 13 {
        return case.ints("axes", &axes);
    }
    let case = case.input(Tensor::new(&[count], axes).unwrap_or_else(|_| Tensor::scalar(0i64)));
    if g.chance(0.6) { case.constant(1) } else { case }
}
