//! # Gather
//! `y[…, i…, …] = x[…, indices[i…], …]`: the slices of `axis` that `indices` names, whose shape takes the
//! axis's place. Indices count from the end where negative; others outside the axis are refused when they
//! are met. Opsets 1, 11 (negative axes and indices), 13.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef, Selection};
use crate::cpu::RunContext;
use crate::cpu::index::{INDEX_TYPES, Indices};
use crate::cpu::movement::{Movement, Unit, move_elements};
use crate::cpu::split::{for_each_chunk, rows_per_chunk};
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, normal_axis};
use crate::loops::{Affine, Nest, Opaque, extents, layout, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Gather",
    domain: "",
    since: &[1, 11, 13],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Gather {
    axis: i64,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Gather { axis: spec.int_or("axis", 0)? }))
}

/// The first of `indices`, of shape `shape`, of an axis of `extent`, and how far apart they are along each of their axes,
/// where that is the same everywhere and all are inside.
fn places(indices: &[i64], shape: &[usize], extent: i64) -> Option<(i64, Vec<i64>)> {
    let inside = |&at: &i64| {
        let at = if at < 0 { at.checked_add(extent)? } else { at };
        (0..extent).contains(&at).then_some(at)
    };
    let all: Vec<i64> = indices.iter().map(inside).collect::<Option<_>>()?;
    let first = *all.first()?;
    let mut steps = vec![0; shape.len()];
    let mut reach = 1;
    for (step, &count) in steps.iter_mut().zip(shape).rev() {
        if count > 1 {
            *step = all.get(reach)? - first;
        }
        reach *= count;
    }
    let at = |place: usize| {
        let mut rest = place;
        let axes = steps.iter().zip(shape).rev();
        axes.fold(first, |sum, (step, &count)| {
            let i = rest % count;
            rest /= count;
            sum + step * i as i64
        })
    };
    (0..all.len()).all(|place| all[place] == at(place)).then_some((first, steps))
}

/// One run of `inner` elements per index, for each of the source's blocks of `extent` such runs.
struct Rows<'a> {
    indices: Indices<'a>,
    extent: usize,
    inner: usize,
}

impl Movement for Rows<'_> {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let (indices, extent, inner) = (self.indices, self.extent, self.inner);
        let from = from.first().copied().unwrap_or_default();
        indices.check(extent)?;
        if to.is_empty() {
            return Ok(());
        }
        let rows = to.len() / inner;
        let per = rows_per_chunk(rows, inner, context.team.threads());
        for_each_chunk(context, to, per * inner, |chunk, piece| {
            let (mut block, mut at) = ((chunk * per) / indices.len(), (chunk * per) % indices.len());
            for row in piece.chunks_exact_mut(inner) {
                let source = (block * extent + indices.get(at, extent)) * inner;
                match row {
                    [value] => *value = from[source].clone(),
                    row => row.clone_from_slice(&from[source..source + inner]),
                }
                at += 1;
                if at == indices.len() {
                    (block, at) = (block + 1, 0);
                }
            }
        })
    }
}

impl Op for Gather {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, MOVABLE)?;
        let indices = inputs.typed(1, INDEX_TYPES)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let axis = normal_axis(self.axis, shape.len())?;
        let Some(picked) = &indices.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let out = [&shape[..axis], picked, &shape[axis + 1..]].concat();
        let fact = TensorFact::new(x.dtype, out);
        let values = x.as_integers().filter(|_| shape.len() == 1).zip(indices.as_i64s());
        Ok(vec![match values {
            Some((values, at)) => {
                let n = values.len() as i64;
                let picked = at.iter().map(|&i| {
                    let i = if i < 0 { i.saturating_add(n) } else { i };
                    usize::try_from(i)
                        .ok()
                        .and_then(|i| values.get(i).cloned())
                        .ok_or_else(|| OpError::value(format!("an index is outside an axis of {n}")))
                });
                fact.with_integers(picked.collect::<Result<Vec<Integer>, _>>()?).into()
            }
            None => fact.into(),
        }])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let from = site.input_shape(0)?;
        let shape = site.output_shape(0)?;
        let axis = normal_axis(self.axis, from.len())?;
        let extent = from[axis];
        let inner = span(&from[axis + 1..]);
        Ok(Kernel::new(move |io| {
            let indices = Indices::new(io.tensor(1)?)?;
            move_elements(&Rows { indices, extent, inner }, io, &[0], 0, &shape)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let rank = site.input_shape(0)?.len();
        families::copy::gathered(site, normal_axis(self.axis, rank).map_err(|_| GpuReject::NoKernel)?)
    }

    /// Constant indices that are as far apart from each other along each of their axes, such as one, a list with a step, or
    /// the windows of a signal, are a layout; others are a table in memory.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let indices = inputs.tensor(1).map_err(|_| Opaque::Operator)?;
        let all = indices.as_i64s().ok_or(Opaque::Places)?;
        let picked = indices.known_shape().ok_or(Opaque::Extents)?;
        let shape = extents(operand(inputs, 0)?)?;
        let axis = normal_axis(self.axis, shape.len()).map_err(|_| Opaque::Operator)?;
        let extent = shape[axis].known().and_then(|n| i64::try_from(n).ok()).ok_or(Opaque::Extents)?;
        let (first, steps) = places(&all, &picked, extent).ok_or(Opaque::Places)?;
        layout(inputs, outputs, |from, _| {
            let behind = |i: usize| i + picked.len() - 1;
            let mut index: Vec<Affine> =
                (0..from.len()).map(|i| Affine::axis(if i < axis { i } else { behind(i.max(1)) })).collect();
            let along = Affine::constant(first);
            index[axis] =
                steps.iter().enumerate().try_fold(along, |sum, (i, &step)| sum.plus(axis + i, step))?;
            Some(index)
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, indices) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let axis = if self.axis < 0 { self.axis + x.shape.len() as i64 } else { self.axis } as usize;
        let at = indices.to_i64s()?;
        let depth = indices.shape.len();
        let shape = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
        let y = x.gathered(&shape, |flat| {
            let index = RefTensor::unravel(&shape, flat);
            let i = at[RefTensor::ravel(&indices.shape, &index[axis..axis + depth])];
            let i = if i < 0 { i + x.shape[axis] as i64 } else { i } as usize;
            RefTensor::ravel(&x.shape, &[&index[..axis], &[i], &index[axis + depth..]].concat())
        });
        Ok(vec![y.into()])
    }

    fn gathered_axis(&self) -> Option<i64> {
        Some(self.axis)
    }

    fn selection(&self, inputs: Facts<'_>, _: &[Fact], _: usize) -> Option<Selection> {
        let shape = inputs.tensor(0).ok()?.shape.as_ref()?;
        let axis = normal_axis(self.axis, shape.len()).ok()?;
        let indices = inputs.tensor(1).ok()?;
        let drops_axis = match indices.rank()? {
            0 => true,
            1 => false,
            _ => return None,
        };
        let extent = shape[axis].known()?;
        let all = indices.as_i64s()?;
        let (&first, count) = (all.first()?, all.len());
        let in_row = |(k, at): (usize, &i64)| first.checked_add(k as i64) == Some(*at);
        let first = if first < 0 { first.checked_add(i64::try_from(extent).ok()?)? } else { first };
        let start = usize::try_from(first).ok()?;
        if start.checked_add(count)? > extent || !all.iter().enumerate().all(in_row) {
            return None;
        }
        Some(Selection { axis, start, step: 1, count, drops_axis })
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
    let depth = g.size(0, 2);
    let mut picked = g.shape(depth);
    if shape[along] == 0 {
        if g.chance(0.5) && depth > 0 {
            picked[0] = 0;
        } else {
            shape[along] = 1;
        }
    }
    let n = shape[along] as f64;
    let kind = *g.pick(&[DType::I32, DType::I64]);
    let indices = g.tensor_in(kind, &picked, -n, n - 1.0);
    if shape[along] >= 4 && g.chance(0.15) {
        // Windows: constant indices that are as far apart along each of their axes.
        let (hop, span) = (g.int(0, 2), g.int(1, 2));
        let windows: Vec<i64> = (0..2 * span).map(|i| i / span * hop + i % span).collect();
        if let Ok(indices) = Tensor::new(&[2, span as usize], windows) {
            let case = Case::new([g.any_tensor(dtype, &shape), indices]).int("axis", axis).opset(13);
            return case.constant(1);
        }
    }
    let opset = *g.pick(&[11, 13]);
    let case = Case::new([g.any_tensor(dtype, &shape), indices]).int("axis", axis).opset(opset);
    if g.chance(0.3) { case.constant(1) } else { case }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_as_far_apart_are_places_with_steps() {
        assert_eq!(places(&[3], &[], 5), Some((3, vec![])));
        assert_eq!(places(&[-1], &[1], 5), Some((4, vec![0])));
        assert_eq!(places(&[1, 3, 5], &[3], 6), Some((1, vec![2])));
        // From the front and the back.
        assert_eq!(places(&[3, -2, 5], &[3], 6), Some((3, vec![1])));
        assert_eq!(places(&[5, 4, 3], &[3], 6), Some((5, vec![-1])));
        assert_eq!(places(&[2, 2], &[2], 6), Some((2, vec![0])));
        // Windows of three with a hop of two.
        assert_eq!(places(&[0, 1, 2, 2, 3, 4], &[2, 3], 5), Some((0, vec![2, 1])));
        assert_eq!(places(&[0, 1, 2, 2, 3, 3], &[2, 3], 5), None);
        assert_eq!(places(&[0, 1, 3], &[3], 5), None);
        assert_eq!(places(&[0, 5], &[2], 5), None);
        assert_eq!(places(&[-6], &[], 5), None);
        assert_eq!(places(&[i64::MIN, i64::MAX], &[2], 5), None);
        assert_eq!(places(&[], &[0], 5), None);
    }
}
