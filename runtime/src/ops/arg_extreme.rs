//! The form that ArgMax and ArgMin share: `axis`, `keepdims`, `select_last_index`. A NaN counts as the extreme.

use super::Op;
use super::attributes::NodeSpec;
use crate::cpu::lines::Lines;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

#[derive(Debug)]
struct ArgExtreme {
    axis: i64,
    keep: bool,
    last: bool,
    /// How the extreme compares with the others.
    order: Ordering,
}

/// Parses the operator that looks for the element which is `order` than the others.
pub(super) fn parse(node: &NodeSpec, order: Ordering) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(ArgExtreme {
        axis: node.int_or("axis", 0)?,
        keep: node.flag_or("keepdims", true)?,
        last: node.opset >= 12 && node.flag_or("select_last_index", false)?,
        order,
    }))
}

/// Whether `x` takes the place of `best`, an element before it.
fn replaces<T: PartialOrd>(x: &T, best: &T, order: Ordering, last: bool) -> bool {
    match x.partial_cmp(best) {
        Some(Ordering::Equal) => last,
        Some(found) => found == order,
        // One of them is NaN: it stays or comes in, and of two the later one only when asked for.
        None if best.partial_cmp(best).is_none() => x.partial_cmp(x).is_none() && last,
        None => true,
    }
}

fn run<T: Number>(io: &mut Io<'_, '_>, lines: Lines, order: Ordering, last: bool) -> Result<(), OpError> {
    let x = io.input::<T>(0)?;
    let context = io.context;
    let out = io.output::<i64>(0)?;
    let (length, inner) = (lines.length, lines.inner);
    if out.is_empty() {
        return Ok(());
    }
    if length == 0 {
        return Err(OpError::value("no element is the extreme of none"));
    }
    let rows = (PARALLEL_WORK / lines.slab().max(1)).max(1);
    let pieces = Chunks::new(out, rows * inner);
    for_each_tile(context, x.len(), Lanes::none(), &pieces, &|i, out, _| {
        let first = i * rows * lines.slab();
        let mut looks = Looks::new(context.interrupt);
        for (row, out) in out.chunks_mut(inner).enumerate() {
            let x = &x[first + row * lines.slab()..][..lines.slab()];
            out.fill(0);
            for steps in Looks::steps(length, inner) {
                looks.past(steps.len() * inner)?;
                for at in steps {
                    for (j, best) in out.iter_mut().enumerate() {
                        if replaces(&x[at * inner + j], &x[*best as usize * inner + j], order, last) {
                            *best = at as i64;
                        }
                    }
                }
            }
        }
        Ok(())
    })
}

impl Op for ArgExtreme {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, NUMBERS)?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(DType::I64).into()]) };
        let axis = normal_axis(self.axis, shape.len())?;
        let mut out = shape.clone();
        if self.keep {
            out[axis] = Dim::Known(1);
        } else {
            out.remove(axis);
        }
        Ok(vec![TensorFact::new(DType::I64, out).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let lines = Lines::along(&shape, normal_axis(self.axis, shape.len())?);
        let (order, last) = (self.order, self.last);
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => {
            Ok(Kernel::new(move |io| run::<T>(io, lines, order, last)))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let axis = normal_axis(self.axis, shape.len()).map_err(|_| GpuReject::NoKernel)?;
        families::lines::arg_extreme(
            site,
            Lines::along(&shape, axis),
            self.order == Ordering::Less,
            self.last,
        )
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = normal_axis(self.axis, x.shape.len())?;
        let mut shape = x.shape.clone();
        shape[axis] = 1;
        let better = |a: usize, b: usize| match &x.data {
            RefData::Float(v) if v[b].is_nan() => v[a].is_nan() && self.last,
            RefData::Float(v) if v[a].is_nan() => true,
            RefData::Float(v) if v[a] == v[b] => self.last,
            RefData::Float(v) => (v[a] > v[b]) == (self.order == Ordering::Greater),
            RefData::Int(v) if v[a] == v[b] => self.last,
            RefData::Int(v) => (v[a] > v[b]) == (self.order == Ordering::Greater),
            _ => false,
        };
        let mut out = Vec::new();
        for flat in 0..shape.iter().product() {
            let mut index = RefTensor::unravel(&shape, flat);
            let mut best = None;
            for i in 0..x.shape[axis] {
                index[axis] = i;
                let at = RefTensor::ravel(&x.shape, &index);
                if best.is_none_or(|(_, held)| better(at, held)) {
                    best = Some((i, at));
                }
            }
            let (i, _) = best.ok_or_else(|| OpError::value("no element is the extreme of none"))?;
            out.push(i as i128);
        }
        if !self.keep {
            shape.remove(axis);
        }
        Ok(vec![RefTensor::ints(DType::I64, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Draws a use of one of these operators.
pub(super) fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 11, 12, 13]);
    let mut dtype = *g.pick(NUMBERS);
    if opset < 13 && dtype == DType::BF16 {
        dtype = DType::F16;
    }
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    let axis = g.int(0, rank as i64 - 1);
    shape[axis as usize] = shape[axis as usize].max(1);
    // Few different values, so that ties are common.
    let x = if dtype.is_int() { g.tensor(dtype, &shape) } else { g.tensor_in(dtype, &shape, -1e-7, 1e-7) };
    let x = if dtype.is_float() && g.chance(0.7) { g.tensor(dtype, &shape) } else { x };
    let mut case = Case::new([x]).opset(opset);
    if axis != 0 || g.chance(0.5) {
        let negative = opset >= 11 && g.chance(0.5);
        case = case.int("axis", if negative { axis - rank as i64 } else { axis });
    }
    if g.chance(0.6) {
        case = case.int("keepdims", g.int(0, 1));
    }
    if opset >= 12 && g.chance(0.6) {
        case = case.int("select_last_index", g.int(0, 1));
    }
    case
}
