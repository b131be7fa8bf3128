//! # Tile
//! The input repeated `repeats[a]` times along each axis `a`. Opsets 6, 13.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::movement::move_elements;
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, keeps_shape};
use crate::loops::{Affine, Nest, Opaque, extents, operand, rearranged};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Tile",
    domain: "",
    since: &[6, 13],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Tile;

fn parse(_: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Tile))
}

/// The copy of a source of shape `from` to an output of shape `to`: each axis is two, the repeats, which do not move in
/// the source, and the extent.
fn repeated(from: &[usize], to: &[usize]) -> StridedCopy {
    let (mut extents, mut strides) = (Vec::new(), Vec::new());
    for ((&whole, &extent), stride) in to.iter().zip(from).zip(dense_strides(from)) {
        extents.extend([whole.checked_div(extent).unwrap_or(0), extent]);
        strides.extend([0, stride]);
    }
    StridedCopy::new(&extents, &strides, 0)
}

impl Op for Tile {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let repeats = super::expand::shape_from(inputs.typed(1, &[DType::I64])?, 1)?;
        let (shape, repeats) = match (&x.shape, repeats) {
            (Some(shape), Some(repeats)) => (shape, repeats),
            (Some(shape), None) => return Ok(vec![TensorFact::ranked(x.dtype, shape.len()).into()]),
            (None, Some(repeats)) => return Ok(vec![TensorFact::ranked(x.dtype, repeats.len()).into()]),
            (None, None) => return Ok(vec![TensorFact::unranked(x.dtype).into()]),
        };
        if repeats.len() != shape.len() {
            return Err(OpError::value(format!("{} repeats for rank {}", repeats.len(), shape.len())));
        }
        let out = shape.iter().zip(&repeats).map(|(d, r)| d * r).collect();
        let fact = TensorFact::new(x.dtype, out);
        let values = match (shape.len(), x.as_integers(), repeats.first().map(Dim::known)) {
            (0, values, _) => values,
            (1, Some(values), Some(Some(times))) if values.len().saturating_mul(times) <= 1024 => {
                Some(values.iter().cycle().take(values.len() * times).cloned().collect())
            }
            _ => None,
        };
        Ok(vec![values.map_or(fact.clone(), |v| fact.with_integers(v)).into()])
    }

    /// An axis that is repeated is two: the repeats, and the places within one; repeats of one element are a broadcast.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (from, to) =
            (extents(operand(inputs, 0)?)?, extents(outputs[0].tensor().ok_or(Opaque::Operator)?)?);
        let (mut axes, mut source, mut target) = (Vec::new(), Vec::new(), Vec::new());
        for (extent, whole) in from.iter().zip(to) {
            let axis = axes.len();
            if extent == whole || *extent == Dim::Known(1) {
                source.push(if extent == whole { Affine::axis(axis) } else { Affine::constant(0) });
                target.push(Affine::axis(axis));
                axes.push(whole.clone());
                continue;
            }
            let (own, all) = extent.known().zip(whole.known()).ok_or(Opaque::Extents)?;
            let far =
                i64::try_from(own).ok().and_then(|own| Affine::axis(axis).scaled(own)?.plus(axis + 1, 1));
            source.push(Affine::axis(axis + 1));
            target.push(far.ok_or(Opaque::Extents)?);
            axes.extend([Dim::Known(all.checked_div(own).unwrap_or(0)), extent.clone()]);
        }
        rearranged(inputs, outputs, axes, source, target)
    }

    fn is_identity(&self, inputs: Facts<'_>, outputs: &[Fact]) -> bool {
        keeps_shape(inputs, outputs)
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let shape = site.output_shape(0)?;
        let copy = repeated(&from, &shape);
        Ok(Kernel::new(move |io| move_elements(&copy, io, &[0], 0, &shape)))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let copy = repeated(&site.input_shape(0)?, &site.output_shape(0)?);
        families::copy::strided(site, &[copy])
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let repeats = inputs.tensor(1)?.to_i64s()?;
        let shape: Vec<usize> = x.shape.iter().zip(&repeats).map(|(&d, &r)| d * r as usize).collect();
        let y = x.gathered(&shape, |flat| {
            let index = RefTensor::unravel(&shape, flat);
            let within: Vec<usize> = index.iter().zip(&x.shape).map(|(&i, &d)| i % d).collect();
            RefTensor::ravel(&x.shape, &within)
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let zero = g.chance(0.1);
    let repeats: Vec<i64> = (0..rank).map(|_| g.int(i64::from(!zero), 3)).collect();
    let repeats = Tensor::new(&[rank], repeats).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = Case::new([g.any_tensor(dtype, &shape), repeats]).opset(*g.pick(&[7, 13]));
    if g.chance(0.6) { case.constant(1) } else { case }
}
