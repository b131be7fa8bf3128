//! # CenterCropPad
//! Each named axis cut or filled with zeros to a given extent, the input in the middle; of an odd difference the
//! larger part is at the end. Opset 18.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::index::INDEX_TYPES;
use crate::cpu::movement::move_elements;
use crate::cpu::pad_copy::{PadAxis, PadCopy, PadMode};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::MOVABLE;
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axes};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "CenterCropPad",
    domain: "",
    since: &[18],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct CenterCropPad {
    axes: Option<Vec<i64>>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(CenterCropPad { axes: spec.ints("axes")? }))
}

impl CenterCropPad {
    fn axes(&self, rank: usize) -> Result<Vec<usize>, OpError> {
        self.axes.as_ref().map_or_else(|| Ok((0..rank).collect()), |axes| normal_axes(axes, rank))
    }
}

/// What is cut off or put on each axis of `from` to make it `to`.
fn padded(from: &[usize], to: &[usize]) -> Result<Vec<PadAxis>, OpError> {
    let axis = |(&had, &wanted): (&usize, &usize)| {
        let (had_signed, wanted) = (had as i64, i64::try_from(wanted).unwrap_or(i64::MAX));
        let difference = wanted - had_signed;
        let before = if difference < 0 { -(-difference / 2) } else { difference / 2 };
        PadAxis::new(had, before, difference - before, PadMode::Constant)
    };
    from.iter().zip(to).map(axis).collect()
}

impl Op for CenterCropPad {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let target = inputs.typed(1, INDEX_TYPES)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let axes = self.axes(shape.len())?;
        let mut out = shape.clone();
        match super::expand::shape_from(target, 1)? {
            Some(extents) if extents.len() == axes.len() => {
                axes.iter().zip(extents).for_each(|(&a, extent)| out[a] = extent);
            }
            Some(extents) => {
                return Err(OpError::value(format!("{} extents for {} axes", extents.len(), axes.len())));
            }
            None => axes.iter().for_each(|&a| out[a] = Dim::Unknown),
        }
        Ok(vec![TensorFact::new(x.dtype, out).into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (from, shape) = (site.input_shape(0)?, site.output_shape(0)?);
        let copy = PadCopy::new(&padded(&from, &shape)?, 0);
        Ok(Kernel::new(move |io| move_elements(&copy, io, &[0], 0, &shape)))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let axes = padded(&site.input_shape(0)?, &site.output_shape(0)?);
        families::copy::padded(site, &axes.map_err(|_| GpuReject::NoKernel)?, None, 0)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let target = inputs.tensor(1)?.to_i64s()?;
        let rank = x.shape.len() as i64;
        let mut shape = x.shape.clone();
        let axes = self.axes.clone().unwrap_or_else(|| (0..rank).collect());
        for (&axis, &extent) in axes.iter().zip(&target) {
            shape[if axis < 0 { axis + rank } else { axis } as usize] = extent as usize;
        }
        // The input with a zero as one more element, at the end.
        let mut held = x.clone();
        match &mut held.data {
            RefData::Float(v) => v.push(0.0),
            RefData::Int(v) => v.push(0),
            RefData::Bool(v) => v.push(false),
            RefData::Text(v) => v.push(String::new()),
        }
        let y = held.gathered(&shape, |flat| {
            let mut index = RefTensor::unravel(&shape, flat);
            for (axis, i) in index.iter_mut().enumerate() {
                let (had, has) = (x.shape[axis], shape[axis]);
                if has <= had {
                    *i += (had - has) / 2;
                } else if *i >= (has - had) / 2 && *i - (has - had) / 2 < had {
                    *i -= (has - had) / 2;
                } else {
                    return x.len();
                }
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
    let rank = g.size(1, 4);
    let shape = g.shape(rank);
    let dtype = *g.pick(MOVABLE);
    let named = g.chance(0.5);
    let count = if named { g.size(1, rank) } else { rank };
    let axes: Vec<i64> = g.permutation(rank)[..count]
        .iter()
        .map(|&a| a as i64 - if g.chance(0.5) { rank as i64 } else { 0 })
        .collect();
    let target: Vec<i64> = (0..count).map(|_| g.size(0, 9) as i64).collect();
    let target = if g.chance(0.5) {
        Tensor::new(&[count], target)
    } else {
        Tensor::new(&[count], target.iter().map(|&t| t as i32).collect())
    };
    let x = g.any_tensor(dtype, &shape);
    let case = Case::new([x, target.unwrap_or_else(|_| Tensor::scalar(0i64))]);
    let case = if named { case.ints("axes", &axes) } else { case };
    if g.chance(0.6) { case.constant(1) } else { case }
}
