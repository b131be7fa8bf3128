//! # TopK
//! The `k` largest, or smallest, elements along `axis` in order, and their indices. Of equal elements the lower
//! index comes first; NaN counts as larger than all numbers. Opsets 1, 10 (`k` as input), 11 (`largest`, `sorted`),
//! 24. With `sorted` 0 any order is allowed; this one is kept.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::dispatch;
use crate::cpu::sorting::{By, is_short};
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::exec::Interrupt;
use crate::graph::dim::Dim;
use crate::graph::fact::{Fact, Facts, Integer, TensorFact, normal_axis};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "TopK",
    domain: "",
    since: &[1, 10, 11, 24],
    until: None,
    dtypes: NUMBERS,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

#[derive(Debug)]
struct TopK {
    axis: i64,
    largest: bool,
    /// Where it is an attribute.
    k: Option<usize>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let k = if spec.opset < 10 {
        let k = spec.int("k")?.and_then(|k| usize::try_from(k).ok());
        Some(k.ok_or_else(|| OpError::attribute("k", "is missing or negative"))?)
    } else {
        None
    };
    let largest = if spec.opset >= 11 {
        spec.flag_or("sorted", true)?;
        spec.flag_or("largest", true)?
    } else {
        true
    };
    Ok(Arc::new(TopK { axis: spec.int_or("axis", -1)?, largest, k }))
}

/// By value, NaN behind all numbers.
fn by_value<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    let is_nan = |v: &T| v.partial_cmp(v).is_none();
    a.partial_cmp(b).unwrap_or_else(|| is_nan(a).cmp(&is_nan(b)))
}

impl TopK {
    fn extent(&self, inputs: Facts<'_>) -> Result<Dim, OpError> {
        if let Some(k) = self.k {
            return Ok(Dim::Known(k));
        }
        let k = inputs.typed(1, &[DType::I64])?;
        if k.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(1, "is not one number"));
        }
        match k.as_integers().and_then(|v| v.into_iter().next()) {
            Some(Integer::Extent(k)) => Ok(k),
            Some(Integer::Negative(k)) => Err(OpError::value(format!("k is {k}"))),
            None => Ok(Dim::Unknown),
        }
    }
}

impl Op for TopK {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let count = if self.k.is_some() { 1 } else { 2 };
        inputs.expect_count(count, count)?;
        let x = inputs.typed(0, NUMBERS)?;
        let k = self.extent(inputs)?;
        let shape = x.shape.clone().map(|mut shape| {
            let axis = normal_axis(self.axis, shape.len())?;
            if k.known().zip(shape[axis].known()).is_some_and(|(k, n)| k > n) {
                return Err(OpError::value(format!("k is {k} on an axis of {}", shape[axis])));
            }
            shape[axis] = k;
            Ok(shape)
        });
        let shape = shape.transpose()?;
        Ok([x.dtype, DType::I64]
            .map(|dtype| TensorFact { shape: shape.clone(), ..TensorFact::unranked(dtype) }.into())
            .into())
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (from, shape) = (site.input_shape(0)?, site.output_shape(0)?);
        let axis = normal_axis(self.axis, from.len())?;
        let (n, k, inner) = (from[axis], shape[axis], span(&from[axis + 1..]));
        let largest = self.largest;
        let scratch = n.saturating_mul(size_of::<u64>());
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => Ok(Kernel::new(move |io| {
            let x = io.input::<T>(0)?;
            let lines = if n == 0 || k == 0 { 0 } else { x.len() / n };
            let interrupt = io.context.interrupt;
            for line in 0..lines {
                let (first, to) = (line / inner * n * inner + line % inner, line / inner * k * inner + line % inner);
                let order: &mut [u64] = bytemuck::try_cast_slice_mut(&mut io.scratch()[..n * size_of::<u64>()])
                    .map_err(|_| OpError::internal("scratch memory is not aligned"))?;
                select(order, k, (largest, interrupt), |i| &x[first + i as usize * inner])?;
                // The two outputs and the order cannot be held at once; the values come from the order.
                let (values, scratch) = io.output_and_scratch::<T>(0)?;
                let order: &[u64] = bytemuck::cast_slice(&scratch[..k * size_of::<u64>()]);
                if !values.is_empty() {
                    order.iter().enumerate().for_each(|(j, &i)| values[to + j * inner] = x[first + i as usize * inner]);
                }
                let (indices, scratch) = io.output_and_scratch::<i64>(1)?;
                let order: &[u64] = bytemuck::cast_slice(&scratch[..k * size_of::<u64>()]);
                if !indices.is_empty() {
                    order.iter().enumerate().for_each(|(j, &i)| indices[to + j * inner] = i as i64);
                }
                if line % 64 == 63 {
                    io.check_interrupt()?;
                }
            }
            Ok(())
        }).with_scratch(scratch)))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (from, shape) = (site.input_shape(0)?, site.output_shape(0)?);
        let axis = normal_axis(self.axis, from.len()).map_err(|_| GpuReject::NoKernel)?;
        families::lines::top_k(site, &from, axis, shape[axis], !self.largest)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let k = match self.k {
            Some(k) => k,
            None => inputs.tensor(1)?.to_i64s()?[0] as usize,
        };
        let axis = if self.axis < 0 { self.axis + x.shape.len() as i64 } else { self.axis } as usize;
        let mut shape = x.shape.clone();
        shape[axis] = k;
        let before = |a: usize, b: usize| match &x.data {
            RefData::Float(v) if v[a].is_nan() || v[b].is_nan() => {
                (v[a].is_nan() && !v[b].is_nan()) == self.largest && v[a].is_nan() != v[b].is_nan()
            }
            RefData::Float(v) => {
                if self.largest {
                    v[a] > v[b]
                } else {
                    v[a] < v[b]
                }
            }
            RefData::Int(v) => {
                if self.largest {
                    v[a] > v[b]
                } else {
                    v[a] < v[b]
                }
            }
            _ => false,
        };
        let at = |index: &[usize], i: usize| {
            let mut index = index.to_vec();
            index[axis] = i;
            RefTensor::ravel(&x.shape, &index)
        };
        let n: usize = shape.iter().product();
        let mut indices = Vec::with_capacity(n);
        for flat in 0..n {
            let index = RefTensor::unravel(&shape, flat);
            // Element `i` has the rank of how many come before it.
            let rank = |i: usize| {
                (0..x.shape[axis])
                    .filter(|&j| {
                        let (a, b) = (at(&index, j), at(&index, i));
                        before(a, b) || (!before(b, a) && j < i)
                    })
                    .count()
            };
            let found = (0..x.shape[axis]).find(|&i| rank(i) == index[axis]);
            indices.push(found.unwrap_or(0));
        }
        let values = x.gathered(&shape, |flat| at(&RefTensor::unravel(&shape, flat), indices[flat]));
        let indices = indices.into_iter().map(|i| i as i128).collect();
        Ok(vec![values.into(), RefTensor::ints(DType::I64, &shape, indices).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Puts the indices of the `k` first elements to the front of `order`, in order.
fn select<'x, T: PartialOrd + 'x>(
    order: &mut [u64],
    k: usize,
    (largest, interrupt): (bool, &Interrupt),
    at: impl Fn(u64) -> &'x T,
) -> Result<(), OpError> {
    order.iter_mut().zip(0..).for_each(|(o, i)| *o = i);
    let compare = |&a: &u64, &b: &u64| {
        let by = by_value(at(a), at(b));
        (if largest { by.reverse() } else { by }).then(a.cmp(&b))
    };
    if is_short(order.len(), 1) {
        if k < order.len() {
            order.select_nth_unstable_by(k, compare);
        }
        order[..k].sort_unstable_by(compare);
        return Ok(());
    }
    // Behind a pointer, so that the comparison is compiled into what short lines take alone.
    let compare: &dyn Fn(&u64, &u64) -> Ordering = &compare;
    By { compare, each: 1, interrupt }.sort_first(order, k)
}

fn case(g: &mut Gen) -> Case {
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    let dtype = *g.pick(NUMBERS);
    let axis = g.axis(rank);
    let along = axis.rem_euclid(rank as i64) as usize;
    if g.chance(0.2) {
        shape = vec![1; rank];
        shape[along] = g.size(20, 60);
    }
    let k = g.size(0, shape[along]);
    // Few different values, so that there are ties.
    let x = if dtype.is_float() {
        let n = shape.iter().product();
        let data =
            (0..n).map(|_| *g.pick(&[-1.5, 0.0, 0.5, 1.0, 2.0, 3.0, f64::INFINITY, f64::NAN])).collect();
        RefTensor::floats(dtype, &shape, data).to_tensor().unwrap_or_else(|_| Tensor::scalar(0u8))
    } else {
        g.tensor_in(dtype, &shape, -3.0, 3.0)
    };
    let opset = *g.pick(&[7, 10, 11, 24]);
    let case = Case::new([x]).opset(opset).outputs(2);
    let case = if along + 1 == rank && g.chance(0.3) { case } else { case.int("axis", axis) };
    if opset < 10 {
        return case.int("k", k as i64);
    }
    let case = case.input(Tensor::new(&[1], vec![k as i64]).unwrap_or_else(|_| Tensor::scalar(0i64)));
    let case = if opset >= 11 { case.int("largest", g.int(0, 1)).int("sorted", g.int(0, 1)) } else { case };
    if g.chance(0.6) { case.constant(1) } else { case }
}
