//! # Unique
//! The different elements of the flattened input, or the different slices along `axis`, in ascending order or
//! (`sorted` 0) in order of appearance; with it where each first appears, which one each element is, and how often
//! each appears. Slices compare by their first difference. NaN equals NaN and comes last. Opsets 11, 28.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::RunContext;
use crate::cpu::movement::{Movement, Unit, move_elements};
use crate::cpu::number::dispatch;
use crate::cpu::sorting::{By, is_short};
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Io, Kernel};
use crate::dtype::{DType, MOVABLE};
use crate::error::OpError;
use crate::exec::{Interrupt, Looks};
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::{Shape, Tensor};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Unique",
    domain: "",
    since: &[11, 28],
    until: None,
    dtypes: MOVABLE,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct Unique {
    axis: Option<i64>,
    sorted: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Unique { axis: spec.int("axis")?, sorted: spec.flag_or("sorted", true)? }))
}

/// Slices along the middle axis of `[outer, extent, inner]`.
#[derive(Clone, Copy)]
struct Slices {
    outer: usize,
    extent: usize,
    inner: usize,
}

/// What was found.
struct Found {
    /// First slice of each kind.
    first: Vec<usize>,
    /// Kind of each slice.
    kind: Vec<usize>,
    /// Slices of each kind.
    counts: Vec<usize>,
}

impl Slices {
    fn compare<T: PartialOrd>(self, x: &[T], a: usize, b: usize) -> Ordering {
        let is_nan = |v: &T| v.partial_cmp(v).is_none();
        for o in 0..self.outer {
            let at = |slice: usize| &x[(o * self.extent + slice) * self.inner..][..self.inner];
            for (a, b) in at(a).iter().zip(at(b)) {
                let by = a.partial_cmp(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)));
                if by != Ordering::Equal {
                    return by;
                }
            }
        }
        Ordering::Equal
    }

    fn find<T: PartialOrd>(self, x: &[T], sorted: bool, interrupt: &Interrupt) -> Result<Found, OpError> {
        let mut order: Vec<u64> = (0..self.extent as u64).collect();
        let each = self.outer.saturating_mul(self.inner);
        // The first of equal slices is the first to appear.
        let compare = |&a: &u64, &b: &u64| self.compare(x, a as usize, b as usize).then(a.cmp(&b));
        if is_short(self.extent, each) {
            order.sort_by(|&a, &b| self.compare(x, a as usize, b as usize));
        } else {
            let compare: &dyn Fn(&u64, &u64) -> Ordering = &compare;
            By { compare, each, interrupt }.sort(&mut order)?;
        }
        let mut looks = Looks::new(interrupt);
        let mut found = Found { first: Vec::new(), kind: vec![0; self.extent], counts: Vec::new() };
        for slice in order {
            looks.past(each)?;
            let slice = slice as usize;
            match found.first.last() {
                Some(&last) if self.compare(x, last, slice) == Ordering::Equal => {}
                _ => {
                    found.first.push(slice);
                    found.counts.push(0);
                }
            }
            found.kind[slice] = found.first.len() - 1;
            if let Some(count) = found.counts.last_mut() {
                *count += 1;
            }
        }
        if !sorted {
            let mut by_place: Vec<u64> = (0..found.first.len() as u64).collect();
            let compare = |&a: &u64, &b: &u64| found.first[a as usize].cmp(&found.first[b as usize]);
            By { compare, each: 1, interrupt }.sort(&mut by_place)?;
            let mut rank = vec![0; by_place.len()];
            by_place.iter().enumerate().for_each(|(new, &old)| rank[old as usize] = new);
            for kinds in found.kind.chunks_mut(Looks::EVERY) {
                looks.past(kinds.len())?;
                kinds.iter_mut().for_each(|k| *k = rank[*k]);
            }
            found = Found {
                first: by_place.iter().map(|&k| found.first[k as usize]).collect(),
                counts: by_place.iter().map(|&k| found.counts[k as usize]).collect(),
                kind: found.kind,
            };
        }
        Ok(found)
    }
}

/// The slices that `picks` names.
struct Picked<'a> {
    slices: Slices,
    picks: &'a [usize],
}

impl Movement for Picked<'_> {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        let from = from.first().copied().unwrap_or_default();
        if to.is_empty() {
            return Ok(());
        }
        let (n, inner) = (self.picks.len(), self.slices.inner);
        let mut looks = Looks::new(context.interrupt);
        for (i, row) in to.chunks_exact_mut(inner).enumerate() {
            looks.past(inner)?;
            let at = (i / n * self.slices.extent + self.picks[i % n]) * inner;
            row.clone_from_slice(&from[at..at + inner]);
        }
        Ok(())
    }
}

fn finish(
    io: &mut Io<'_, '_>,
    slices: Slices,
    found: &Found,
    mut shape: Shape,
    axis: usize,
) -> Result<(), OpError> {
    shape[axis] = found.first.len();
    move_elements(&Picked { slices, picks: &found.first }, io, &[0], 0, &shape)?;
    for (output, values) in [(1, &found.first), (2, &found.kind), (3, &found.counts)] {
        if io.wants(output) {
            let to = io.shaped::<i64>(output, &[values.len()])?;
            to.iter_mut().zip(values).for_each(|(y, &v)| *y = v as i64);
        }
    }
    Ok(())
}

impl Op for Unique {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, MOVABLE)?;
        let (shape, extent) = match (self.axis, &x.shape) {
            (None, shape) => {
                let count = shape.as_ref().map(|s| s.iter().fold(Dim::Known(1), |a, d| &a * d));
                (Some(vec![Dim::Unknown]), count)
            }
            (Some(_), None) => (None, None),
            (Some(axis), Some(shape)) => {
                let axis = normal_axis(axis, shape.len())?;
                let mut out = shape.clone();
                out[axis] = Dim::Unknown;
                (Some(out), Some(shape[axis].clone()))
            }
        };
        let list = |extent: Dim| TensorFact::new(DType::I64, vec![extent]).into();
        Ok(vec![
            TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into(),
            list(Dim::Unknown),
            list(extent.unwrap_or(Dim::Unknown)),
            list(Dim::Unknown),
        ])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let mut shape = site.input_shape(0)?;
        let (slices, axis) = match self.axis {
            None => {
                let extent = span(&shape);
                shape = [extent].as_slice().into();
                (Slices { outer: 1, extent, inner: 1 }, 0)
            }
            Some(axis) => {
                let axis = normal_axis(axis, shape.len())?;
                let (outer, inner) = (span(&shape[..axis]), span(&shape[axis + 1..]));
                (Slices { outer, extent: shape[axis], inner }, axis)
            }
        };
        let sorted = self.sorted;
        let dtype = site.inputs.tensor(0)?.dtype;
        if dtype == DType::String {
            return Ok(Kernel::new(move |io| {
                let x = io.tensor(0)?.as_strings().ok_or_else(|| OpError::internal("no text"))?;
                let found = slices.find(x, sorted, io.context.interrupt)?;
                finish(io, slices, &found, shape.clone(), axis)
            }));
        }
        dispatch!(dtype, any, T => Ok(Kernel::new(move |io| {
            let found = slices.find(io.input::<T>(0)?, sorted, io.context.interrupt)?;
            finish(io, slices, &found, shape.clone(), axis)
        })))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let flattened = RefTensor { shape: vec![x.len()], ..x.clone() };
        let (x, axis) = match self.axis {
            None => (&flattened, 0),
            Some(axis) => (x, if axis < 0 { axis + x.shape.len() as i64 } else { axis } as usize),
        };
        let n = x.shape[axis];
        let mut one = x.shape.clone();
        one[axis] = 1;
        let slice = |i: usize| {
            x.gathered(&one, |flat| {
                let mut index = RefTensor::unravel(&one, flat);
                index[axis] = i;
                RefTensor::ravel(&x.shape, &index)
            })
        };
        let less = |a: &RefTensor, b: &RefTensor| match (&a.data, &b.data) {
            (RefData::Float(a), RefData::Float(b)) => {
                // NaN is a number above all others.
                let key = |v: &f64| if v.is_nan() { (1, 0.0) } else { (0, *v) };
                let (a, b): (Vec<_>, Vec<_>) = (a.iter().map(key).collect(), b.iter().map(key).collect());
                a < b
            }
            (RefData::Int(a), RefData::Int(b)) => a < b,
            (RefData::Bool(a), RefData::Bool(b)) => a < b,
            (RefData::Text(a), RefData::Text(b)) => a < b,
            _ => false,
        };
        let mut first: Vec<usize> = Vec::new();
        for i in 0..n {
            let own = slice(i);
            if !first.iter().any(|&f| !less(&slice(f), &own) && !less(&own, &slice(f))) {
                let place = if self.sorted {
                    first.iter().position(|&f| less(&own, &slice(f))).unwrap_or(first.len())
                } else {
                    first.len()
                };
                first.insert(place, i);
            }
        }
        let kind_of = |i: usize| {
            let own = slice(i);
            first.iter().position(|&f| !less(&slice(f), &own) && !less(&own, &slice(f))).unwrap_or(0)
        };
        let kinds: Vec<usize> = (0..n).map(kind_of).collect();
        let mut shape = x.shape.clone();
        shape[axis] = first.len();
        let y = x.gathered(&shape, |flat| {
            let mut index = RefTensor::unravel(&shape, flat);
            index[axis] = first[index[axis]];
            RefTensor::ravel(&x.shape, &index)
        });
        let list = |v: Vec<usize>| {
            let data = v.iter().map(|&v| v as i128).collect();
            RefTensor::ints(DType::I64, &[v.len()], data).into()
        };
        let counts = (0..first.len()).map(|k| kinds.iter().filter(|&&i| i == k).count()).collect();
        Ok(vec![y.into(), list(first), list(kinds), list(counts)])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(0, 3);
    let mut shape = g.shape(rank);
    shape.iter_mut().skip(1).for_each(|d| *d = (*d).min(3));
    let dtype = *g.pick(MOVABLE);
    let n: usize = shape.iter().product();
    let x = match dtype {
        DType::String => {
            let text = (0..n).map(|_| (*g.pick(&["", "a", "ab", "b"])).to_owned()).collect();
            Tensor::strings(&shape, text).unwrap_or_else(|_| Tensor::scalar(0u8))
        }
        _ if dtype.is_float() => {
            let data = (0..n).map(|_| *g.pick(&[-1.0, 0.0, 2.0, f64::NAN])).collect();
            RefTensor::floats(dtype, &shape, data).to_tensor().unwrap_or_else(|_| Tensor::scalar(0u8))
        }
        _ => g.tensor_in(dtype, &shape, -1.0, 1.0),
    };
    let case = Case::new([x]).outputs(g.size(1, 4)).opset(*g.pick(&[11, 28]));
    let case = if g.chance(0.7) { case.int("sorted", g.int(0, 1)) } else { case };
    let case = if rank > 0 && g.chance(0.6) { case.int("axis", g.axis(rank)) } else { case };
    if g.chance(0.2) { case.constant(0) } else { case }
}
