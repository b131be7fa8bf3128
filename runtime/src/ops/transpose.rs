//! # Transpose
//! `y[i_perm(0), i_perm(1), …] = x[i_0, i_1, …]`; without `perm` the axes are reversed. Opsets 1, 13, 21, 23,
//! 24, 25.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::movement::move_elements;
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, keeps_shape, normal_axes};
use crate::loops::{Affine, Nest, Opaque, layout};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Transpose",
    domain: "",
    since: &[1, 13, 21, 23, 24, 25],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
pub(crate) struct Transpose {
    /// Input axis of each output axis; reversed when absent.
    pub(crate) perm: Option<Vec<i64>>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Transpose { perm: spec.ints("perm")? }))
}

impl Transpose {
    /// Input axis of each of `rank` output axes.
    pub(crate) fn axes(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        match &self.perm {
            None => Ok((0..rank).rev().collect()),
            Some(perm) if perm.len() == rank => normal_axes(perm, rank),
            Some(perm) => Err(OpError::attribute("perm", format!("has {} axes for rank {rank}", perm.len()))),
        }
    }
}

impl Op for Transpose {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, MOVABLE)?;
        let Some(shape) = &x.shape else {
            let fact = match &self.perm {
                Some(perm) => {
                    self.axes(perm.len())?;
                    TensorFact::ranked(x.dtype, perm.len())
                }
                None => TensorFact::unranked(x.dtype),
            };
            return Ok(vec![fact.into()]);
        };
        let axes = self.axes(shape.len())?;
        let fact = TensorFact::new(x.dtype, axes.iter().map(|&a| shape[a].clone()).collect());
        Ok(vec![if axes.len() <= 1 { fact.with_content_of(x) } else { fact }.into()])
    }

    /// Axes of extent 1 may move freely among the others.
    fn keeps_order(&self, inputs: Facts<'_>) -> bool {
        let Some(shape) = inputs.tensor(0).ok().and_then(|x| x.shape.as_ref()) else { return false };
        let Ok(axes) = self.axes(shape.len()) else { return false };
        axes.iter().filter(|&&a| shape[a] != Dim::Known(1)).is_sorted()
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        let rank = inputs.tensor(0).ok().and_then(TensorFact::rank);
        let axes = rank.and_then(|rank| self.axes(rank).ok());
        axes.is_some_and(|axes| axes.is_sorted()) || self.keeps_order(inputs) && keeps_shape(inputs, outputs)
    }

    fn after(&self, before: &dyn Op) -> Option<Arc<dyn Op>> {
        let before = before.as_any().downcast_ref::<Self>()?;
        let rank = self.perm.as_ref().or(before.perm.as_ref())?.len();
        let (first, second) = (before.axes(rank).ok()?, self.axes(rank).ok()?);
        Some(Arc::new(Self { perm: Some(second.iter().map(|&a| first[a] as i64).collect()) }))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let shape = site.output_shape(0)?;
        let strides = dense_strides(&from);
        let steps: Vec<isize> = self.axes(from.len())?.into_iter().map(|a| strides[a]).collect();
        let copy = StridedCopy::new(&shape, &steps, 0);
        Ok(Kernel::new(move |io| move_elements(&copy, io, &[0], 0, &shape)))
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        layout(inputs, outputs, |from, _| {
            let mut index = vec![Affine::constant(0); from.len()];
            for (to, axis) in self.axes(from.len()).ok()?.into_iter().enumerate() {
                index[axis] = Affine::axis(to);
            }
            Some(index)
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let rank = x.shape.len();
        let perm: Vec<usize> = match &self.perm {
            Some(perm) => perm.iter().map(|&p| if p < 0 { p + rank as i64 } else { p } as usize).collect(),
            None => (0..rank).rev().collect(),
        };
        let shape: Vec<usize> = perm.iter().map(|&a| x.shape[a]).collect();
        let y = x.gathered(&shape, |flat| {
            let mut index = vec![0; rank];
            for (&i, &a) in RefTensor::unravel(&shape, flat).iter().zip(&perm) {
                index[a] = i;
            }
            RefTensor::ravel(&x.shape, &index)
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 5);
    let shape =
        if rank == 2 && g.chance(0.2) { vec![g.size(30, 300), g.size(30, 300)] } else { g.shape(rank) };
    let dtype = *g.pick(MOVABLE);
    let case = Case::new([g.any_tensor(dtype, &shape)]);
    if g.chance(0.2) {
        return case;
    }
    let perm: Vec<i64> = g.permutation(rank).into_iter().map(|a| a as i64).collect();
    case.ints("perm", &perm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_transposes_are_one() {
        let mut g = Gen::new(5);
        let x = g.any_tensor(crate::DType::I32, &[2, 3, 4, 5]);
        let x = RefTensor::from_tensor(&x).map(RefValue::from).expect("integers");
        let apply =
            |op: &dyn Op, x: &RefValue| op.reference(&RefInputs(&[Some(x)])).expect("valid").remove(0);
        for _ in 0..50 {
            let mut draw = || Transpose {
                perm: g.chance(0.8).then(|| g.permutation(4).into_iter().map(|a| a as i64 - 4).collect()),
            };
            let (first, second) = (draw(), draw());
            if let Some(one) = second.after(&first) {
                assert_eq!(apply(&*one, &x), apply(&second, &apply(&first, &x)), "{first:?} {second:?}");
            }
        }
    }
}
