//! # Concat
//! The inputs one behind the other along `axis`; all other extents are equal. Opsets 4, 11 (negative axes),
//! 13.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::concat_copy::ConcatCopy;
use crate::cpu::movement::move_elements;
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, keeps_shape, normal_axis};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::joined;
use crate::reference::{RefInputs, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Concat",
    domain: "",
    since: &[4, 11, 13],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Concat {
    axis: i64,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let axis = spec.int("axis")?.ok_or_else(|| OpError::attribute("axis", "is missing"))?;
    Ok(Arc::new(Concat { axis }))
}

/// The fact of `parts` one behind the other along `axis`.
pub(super) fn concatenated(dtype: DType, parts: &[&TensorFact], axis: i64) -> Result<TensorFact, OpError> {
    let Some(rank) = parts.iter().find_map(|p| p.rank()) else { return Ok(TensorFact::unranked(dtype)) };
    let along = normal_axis(axis, rank)?;
    let mut out = vec![Dim::Unknown; rank];
    out[along] = Dim::Known(0);
    for part in parts {
        let Some(shape) = &part.shape else {
            out[along] = Dim::Unknown;
            continue;
        };
        if shape.len() != rank {
            return Err(OpError::shape(format!("ranks {rank} and {} do not concatenate", shape.len())));
        }
        for (a, (o, d)) in out.iter_mut().zip(shape).enumerate() {
            *o = match (&*o, d) {
                (o, d) if a == along => o + d,
                (Dim::Known(x), Dim::Known(y)) if x != y => {
                    return Err(OpError::shape(format!(
                        "extents {x} and {y} of axis {a} do not concatenate"
                    )));
                }
                (Dim::Known(_), _) | (_, Dim::Unknown) => o.clone(),
                (Dim::Unknown, d) => d.clone(),
                (_, Dim::Known(_)) => d.clone(),
                _ => o.clone(),
            };
        }
    }
    let fact = TensorFact::new(dtype, out);
    if rank != 1 || !dtype.is_int() {
        return Ok(fact);
    }
    let mut values = Vec::new();
    for part in parts {
        match (part.as_integers(), part.element_count()) {
            (Some(v), _) => values.extend(v),
            (None, Some(n)) if n <= MOST_UNKNOWN => {
                values.extend(std::iter::repeat_n(Integer::Extent(Dim::Unknown), n));
            }
            _ => return Ok(fact),
        }
    }
    Ok(fact.with_integers(values))
}

/// A part of unknown content beside known ones is carried along up to this length.
const MOST_UNKNOWN: usize = 64;

impl Op for Concat {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = inputs.typed(0, MOVABLE)?.dtype;
        let parts: Vec<&TensorFact> =
            (0..inputs.len()).map(|i| inputs.typed(i, &[dtype])).collect::<Result<_, _>>()?;
        Ok(vec![concatenated(dtype, &parts, self.axis)?.into()])
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        inputs.len() == 1 && keeps_shape(inputs, outputs)
    }

    /// Each element is the largest of those that the inputs have there: inputs that have none are left out.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let axes = extents(outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?)?.to_vec();
        let axis = normal_axis(self.axis, axes.len()).map_err(|_| Opaque::Operator)?;
        let here: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
        let mut nest = Stages::over(inputs, outputs, axes)?;
        if !nest.kind().is_float() {
            // The lowest integer depends on the type.
            return Err(Opaque::Type);
        }
        let (mut start, mut parts) = (0i64, Vec::with_capacity(inputs.len()));
        for index in 0..inputs.len() {
            let extent = extents(operand(inputs, index)?)?[axis].known().and_then(|n| i64::try_from(n).ok());
            let mut at = here.clone();
            at[axis] = Affine::axis(axis).shifted(-start).ok_or(Opaque::Extents)?;
            let read = nest.read(index, at, Outside::Skipped)?;
            parts.push(nest.fold(Fold::Max, &[], &[read], |_, v| v[0])?);
            start = extent.and_then(|n| start.checked_add(n)).ok_or(Opaque::Extents)?;
        }
        nest.store(here, &[], &parts, |p, v| v[1..].iter().fold(v[0], |most, &part| p.max(most, part)))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let along = normal_axis(self.axis, shape.len())?;
        let inner = span(&shape[along + 1..]);
        let runs = (0..site.inputs.len()).map(|i| Ok(site.input_shape(i)?[along].saturating_mul(inner)));
        let copy = ConcatCopy::new(runs.collect::<Result<_, OpError>>()?);
        let inputs: Vec<usize> = (0..site.inputs.len()).collect();
        Ok(Kernel::new(move |io| move_elements(&copy, io, &inputs, 0, &shape)))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let rank = site.output_shape(0)?.len();
        families::copy::joined(site, normal_axis(self.axis, rank).map_err(|_| GpuReject::NoKernel)?)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let parts = (0..inputs.len()).map(|i| inputs.tensor(i)).collect::<Result<Vec<_>, _>>()?;
        Ok(vec![joined(&parts, self.axis)?.into()])
    }

    fn joined_axis(&self) -> Option<i64> {
        Some(self.axis)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let axis = g.axis(rank);
    let along = axis.rem_euclid(rank as i64) as usize;
    let tensors: Vec<_> = (0..g.size(1, 10))
        .map(|_| {
            shape[along] = g.extent();
            g.any_tensor(dtype, &shape)
        })
        .collect();
    let opset = if axis < 0 { 11 } else { *g.pick(&[7, 13]) };
    Case::new(tensors).int("axis", axis).opset(opset)
}
