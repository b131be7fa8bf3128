//! # GatherElements
//! `y[i, j, k] = x[index[i, j, k], j, k]` for `axis` 0, and so for the others: an element per index. Indices count
//! from the end where negative; others outside the axis are refused when they are met. Opsets 11, 13.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::RunContext;
use crate::cpu::index::{INDEX_TYPES, Indices};
use crate::cpu::movement::{Movement, Unit, move_elements};
use crate::cpu::split::{for_each_chunk, rows_per_chunk};
use crate::cpu::strided_copy::dense_strides;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Shape;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GatherElements",
    domain: "",
    since: &[11, 13],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct GatherElements {
    axis: i64,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(GatherElements { axis: spec.int_or("axis", 0)? }))
}

/// Errs where `indices` and `data` are known not to fit: equal ranks, and no extent of the indices above
/// the data's but on the axis.
pub(super) fn check_elements(data: &TensorFact, indices: &TensorFact, axis: i64) -> Result<(), OpError> {
    let (Some(data), Some(indices)) = (&data.shape, &indices.shape) else { return Ok(()) };
    if data.len() != indices.len() || data.is_empty() {
        return Err(OpError::shape(format!("indices of rank {} into rank {}", indices.len(), data.len())));
    }
    let axis = normal_axis(axis, data.len())?;
    for (a, (d, i)) in data.iter().zip(indices).enumerate() {
        if a != axis && d.known().zip(i.known()).is_some_and(|(d, i)| i > d) {
            return Err(OpError::shape(format!("{i} indices along axis {a} of extent {d}")));
        }
    }
    Ok(())
}

/// The place in the data of each index: the position of the index with the axis's coordinate replaced.
#[derive(Debug, Clone)]
pub(super) struct ElementPlaces {
    /// Extents of the indices.
    shape: Shape,
    strides: Shape,
    axis: usize,
    extent: usize,
}

impl ElementPlaces {
    pub(super) fn new(data: &[usize], indices: &[usize], axis: usize) -> Self {
        let strides = dense_strides(data).iter().map(|&s| s as usize).collect();
        Self { shape: indices.into(), strides, axis, extent: data[axis] }
    }

    /// Errs unless every index lies in the axis.
    pub(super) fn check(&self, indices: Indices<'_>) -> Result<(), OpError> {
        indices.check(self.extent)
    }

    /// The place of index number `at`.
    pub(super) fn place(&self, indices: Indices<'_>, at: usize) -> usize {
        let (mut rest, mut place) = (at, 0);
        for (a, (&extent, &stride)) in self.shape.iter().zip(&self.strides).enumerate().rev() {
            let coordinate = rest % extent;
            rest /= extent;
            place += stride * if a == self.axis { indices.get(at, self.extent) } else { coordinate };
        }
        place
    }
}

struct Elements<'a> {
    places: &'a ElementPlaces,
    indices: Indices<'a>,
}

impl Movement for Elements<'_> {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        self.places.check(self.indices)?;
        // One row along the last axis at a time: within it the place moves by a constant.
        let last = self.places.shape.len() - 1;
        let (row, stride) = (self.places.shape[last], self.places.strides[self.places.axis]);
        if to.is_empty() {
            return Ok(());
        }
        let per = rows_per_chunk(to.len() / row, row, context.team.threads());
        for_each_chunk(context, to, per * row, |chunk, piece| {
            for (r, values) in piece.chunks_exact_mut(row).enumerate() {
                let first = (chunk * per + r) * row;
                let own = self.indices.get(first, self.places.extent) * stride;
                let base = self.places.place(self.indices, first) - own;
                let step = usize::from(self.places.axis != last);
                for (j, value) in values.iter_mut().enumerate() {
                    let at = self.indices.get(first + j, self.places.extent) * stride;
                    *value = from[base + j * step + at].clone();
                }
            }
        })
    }
}

impl Op for GatherElements {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let indices = inputs.typed(1, INDEX_TYPES)?;
        check_elements(x, indices, self.axis)?;
        let shape = indices.shape.clone();
        let shape = shape.or_else(|| TensorFact::ranked(x.dtype, x.rank()?).shape);
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let data = site.input_shape(0)?;
        let shape = site.output_shape(0)?;
        let places = ElementPlaces::new(&data, &shape, normal_axis(self.axis, data.len())?);
        Ok(Kernel::new(move |io| {
            let indices = Indices::new(io.tensor(1)?)?;
            move_elements(&Elements { places: &places, indices }, io, &[0], 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (data, indices) = (site.input_shape(0)?, site.input_shape(1)?);
        let axis = normal_axis(self.axis, data.len()).map_err(|_| GpuReject::NoKernel)?;
        let form = families::indexed::of_elements(&data, &indices, axis, site.dtype(1)?)?;
        families::indexed::gathered(site, form)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, indices) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let at = indices.to_i64s()?;
        let axis = if self.axis < 0 { self.axis + x.shape.len() as i64 } else { self.axis } as usize;
        let y = x.gathered(&indices.shape, |flat| {
            let mut index = RefTensor::unravel(&indices.shape, flat);
            index[axis] = if at[flat] < 0 { at[flat] + x.shape[axis] as i64 } else { at[flat] } as usize;
            RefTensor::ravel(&x.shape, &index)
        });
        Ok(vec![y.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Data and an index shape that fits it, with the axis.
pub(super) fn draw_elements(g: &mut Gen) -> (Vec<usize>, Vec<usize>, i64) {
    let rank = g.size(1, 4);
    let data = g.shape(rank);
    let axis = g.axis(rank);
    let along = axis.rem_euclid(rank as i64) as usize;
    let whole = g.chance(0.5);
    let mut picked: Vec<usize> =
        data.iter().map(|&d| if whole { d } else { g.size(0, d).max(d.min(1)) }).collect();
    picked[along] = if data[along] == 0 { 0 } else { g.extent() };
    (data, picked, axis)
}

fn case(g: &mut Gen) -> Case {
    let (data, picked, axis) = draw_elements(g);
    let n = data[axis.rem_euclid(data.len() as i64) as usize] as f64;
    let dtype = *g.pick(MOVABLE);
    let kind = *g.pick(&[DType::I32, DType::I64]);
    let indices = g.tensor_in(kind, &picked, -n, n - 1.0);
    let case = Case::new([g.any_tensor(dtype, &data), indices]).opset(*g.pick(&[11, 13]));
    if axis == 0 && g.chance(0.5) { case } else { case.int("axis", axis) }
}
