//! # OneHot
//! Each index becomes a vector of `depth` elements along a new axis: `values[1]` at the index, counted from the
//! end where negative, and `values[0]` elsewhere; everywhere for an index outside. Opsets 9, 11 (negative
//! indices), 28.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::RunContext;
use crate::cpu::movement::{Movement, Unit, move_elements};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::split::{for_each_chunk, rows_per_chunk};
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{MOVABLE, NUMBERS};
use crate::error::OpError;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, normal_axis};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::{Tensor, TensorView};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "OneHot",
    domain: "",
    since: &[9, 11, 28],
    until: None,
    dtypes: NUMBERS,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct OneHot {
    axis: i64,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(OneHot { axis: spec.int_or("axis", -1)? }))
}

/// Element `at` of a tensor of numbers, truncated to an integer.
fn integer_at(view: TensorView<'_>, at: usize) -> Result<i64, OpError> {
    dispatch!(view.dtype(), numbers, T => {
        let value = view.elements::<T>()?.get(at).ok_or_else(|| OpError::value("a tensor is empty"))?;
        // What f64 cannot hold lies outside any depth.
        Ok(i64::from_f64(value.to_f64()))
    })
}

/// `[outer, depth, inner]` from indices `[outer, inner]`.
struct Hot<'a> {
    indices: TensorView<'a>,
    depth: usize,
    inner: usize,
}

impl Movement for Hot<'_> {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let [[off, on]] = from else { return Err(OpError::input(2, "is not a pair")) };
        if to.is_empty() {
            return Ok(());
        }
        let (inner, block) = (self.inner, self.depth * self.inner);
        let depth = self.depth as i64;
        let per = rows_per_chunk(to.len() / block, block, context.team.threads());
        for_each_chunk(context, to, per * block, |chunk, piece| {
            piece.fill(off.clone());
            for (i, slab) in piece.chunks_exact_mut(block).enumerate() {
                for j in 0..inner {
                    // The dtype is one of those that `infer` let through.
                    let raw = integer_at(self.indices, (chunk * per + i) * inner + j).unwrap_or(i64::MAX);
                    let at = if raw < 0 { raw.saturating_add(depth) } else { raw };
                    if (0..depth).contains(&at) {
                        slab[at as usize * inner + j] = on.clone();
                    }
                }
            }
        })
    }
}

impl Op for OneHot {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let indices = inputs.typed(0, NUMBERS)?;
        let depth = inputs.typed(1, NUMBERS)?;
        let values = inputs.typed(2, MOVABLE)?;
        if depth.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(1, "is not a scalar"));
        }
        if values.known_shape().is_some_and(|s| *s != [2]) {
            return Err(OpError::input(2, "is not a pair"));
        }
        let extent = match (depth.as_constant(), depth.as_integers().as_deref()) {
            (Some(t), _) => {
                let depth = dispatch!(t.dtype(), numbers, T => {
                    let first = t.to_vec::<T>().and_then(|v| v.first().map(|v| i64::from_f64(v.to_f64())));
                    first.ok_or_else(|| OpError::input(1, "is empty"))
                })?;
                let depth =
                    usize::try_from(depth).map_err(|_| OpError::value(format!("depth is {depth}")))?;
                Dim::Known(depth)
            }
            (None, Some([Integer::Extent(depth)])) => depth.clone(),
            _ => Dim::Unknown,
        };
        let Some(shape) = &indices.shape else { return Ok(vec![TensorFact::unranked(values.dtype).into()]) };
        let mut out = shape.clone();
        out.insert(normal_axis(self.axis, shape.len() + 1)?, extent);
        Ok(vec![TensorFact::new(values.dtype, out).into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let axis = normal_axis(self.axis, shape.len())?;
        let (depth, inner) = (shape[axis], span(&shape[axis + 1..]));
        Ok(Kernel::new(move |io| {
            let indices = io.tensor(0)?;
            move_elements(&Hot { indices, depth, inner }, io, &[2], 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let axis = normal_axis(self.axis, site.output_shape(0)?.len()).map_err(|_| GpuReject::NoKernel)?;
        families::coordinates::one_hot(site, axis)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let integers = |t: &RefTensor| -> Result<Vec<i128>, OpError> {
            match &t.data {
                RefData::Float(v) => Ok(v.iter().map(|&v| v as i128).collect()),
                _ => t.as_ints().map(<[i128]>::to_vec),
            }
        };
        let (indices, values) = (inputs.tensor(0)?, inputs.tensor(2)?);
        let (at, depth) = (integers(indices)?, integers(inputs.tensor(1)?)?[0]);
        let rank = indices.shape.len() as i64 + 1;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis } as usize;
        let mut shape = indices.shape.clone();
        shape.insert(axis, depth as usize);
        let y = values.gathered(&shape, |flat| {
            let mut index = RefTensor::unravel(&shape, flat);
            let place = index.remove(axis) as i128;
            let i = at[RefTensor::ravel(&indices.shape, &index)];
            usize::from(place == i || place == i + depth)
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 3);
    let shape = g.shape(rank);
    let depth = g.size(0, 7) as f64;
    let kind = *g.pick(NUMBERS);
    let indices = g.tensor_in(kind, &shape, -depth - 2.0, depth + 2.0);
    let depth_kind = *g.pick(NUMBERS);
    let depth = if depth_kind.is_float() {
        RefTensor::floats(depth_kind, &[], vec![depth])
    } else {
        RefTensor::ints(depth_kind, &[], vec![depth as i128])
    };
    let depth = depth.to_tensor().unwrap_or_else(|_| Tensor::scalar(0i64));
    let dtype = *g.pick(MOVABLE);
    let values = g.any_tensor(dtype, &[2]);
    let case = Case::new([indices, depth, values]).opset(*g.pick(&[9, 11, 28]));
    let axis = g.axis(rank + 1);
    let case = if g.chance(0.3) { case } else { case.int("axis", axis) };
    if g.chance(0.6) { case.constant(1) } else { case }
}
