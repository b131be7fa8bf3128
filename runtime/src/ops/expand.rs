//! # Expand
//! The input broadcast with a shape: axes of extent 1 and missing leading axes repeat. Opsets 8, 13.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::movement::move_elements;
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cpu::{CpuSite, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, broadcast_dims};
use crate::loops::{Nest, Opaque, broadcast_index, layout};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Expand",
    domain: "",
    since: &[8, 13],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Expand;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Expand))
}

/// The shape that a list of integers gives; of its length's rank only where the content is unknown.
pub(super) fn shape_from(fact: &TensorFact, index: usize) -> Result<Option<Vec<Dim>>, OpError> {
    if fact.rank().is_some_and(|r| r != 1) {
        return Err(OpError::input(index, "is not a list"));
    }
    if fact.element_count().is_some_and(|n| n > super::MOST_AXES) {
        return Err(OpError::input(index, "names too many axes"));
    }
    let Some(values) = fact.as_integers() else {
        return Ok(fact.element_count().map(|n| vec![Dim::Unknown; n]));
    };
    let dims = values.into_iter().map(|v| match v {
        Integer::Extent(d) => Ok(d),
        Integer::Negative(v) => Err(OpError::value(format!("an extent is {v}"))),
    });
    dims.collect::<Result<_, _>>().map(Some)
}

impl Op for Expand {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let target = shape_from(inputs.typed(1, &[DType::I64])?, 1)?;
        let (Some(shape), Some(target)) = (&x.shape, target) else {
            return Ok(vec![TensorFact::unranked(x.dtype).into()]);
        };
        let fact = TensorFact::new(x.dtype, broadcast_dims(&[shape, &target])?);
        let values = x.as_integers().and_then(|v| match (v.as_slice(), fact.element_count()) {
            ([one], Some(n)) if n <= 1024 => Some(vec![one.clone(); n]),
            (_, Some(n)) if n == v.len() => Some(v),
            _ => None,
        });
        Ok(vec![values.map_or(fact.clone(), |v| fact.with_integers(v)).into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        let (Ok(x), Some(Fact::Tensor(y))) = (inputs.tensor(0), outputs.first()) else { return false };
        x.shape.as_ref().is_some_and(|s| !s.contains(&Dim::Unknown)) && x.shape == y.shape
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let shape = site.output_shape(0)?;
        let mut strides = vec![0; shape.len() - from.len()];
        let dense = dense_strides(&from);
        strides.extend(from.iter().zip(dense).map(|(&d, s)| if d == 1 { 0 } else { s }));
        let copy = StridedCopy::new(&shape, &strides, 0);
        Ok(Kernel::new(move |io| move_elements(&copy, io, &[0], 0, &shape)))
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        layout(inputs, outputs, |from, to| broadcast_index(from, to).ok())
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let target: Vec<usize> = inputs.tensor(1)?.to_i64s()?.into_iter().map(|v| v as usize).collect();
        let shape = RefTensor::broadcast_shape(&[&x.shape, &target])?;
        let y = x.gathered(&shape, |flat| {
            RefTensor::broadcast_position(&x.shape, &RefTensor::unravel(&shape, flat))
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let whole = g.shape(rank);
    let shape = g.broadcastable(&whole);
    let dtype = *g.pick(MOVABLE);
    let target: Vec<i64> = if g.chance(0.5) {
        whole.iter().map(|&d| d as i64).collect()
    } else {
        g.broadcastable(&whole).iter().map(|&d| d as i64).collect()
    };
    let target = Tensor::new(&[target.len()], target).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([g.any_tensor(dtype, &shape), target]).opset(*g.pick(&[8, 13]));
    if g.chance(0.6) { case.constant(1) } else { case }
}
