//! What [`CumSum`](super::cum_sum) and [`CumProd`](super::cum_prod) share: a fold of the elements up to each one along
//! `axis`, itself left out when `exclusive`, from the end when `reverse`. `f16` and `bf16` accumulate in `f32`, integers
//! wrap.

use super::Op;
use super::attributes::NodeSpec;
use crate::cpu::cumulative::Cumulative;
use crate::cpu::number::Number;
use crate::cpu::strided_copy::span;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue, wrap};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

/// What the specification takes here.
pub(super) const ACCUMULATED: &[DType] =
    &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U32, DType::U64];

/// What the operators differ in.
#[derive(Debug)]
pub(super) struct Kind {
    /// A sum or a product.
    pub(super) fold: Fold,
    /// The kernel for a type.
    pub(super) kernel: fn(DType, Cumulative) -> Result<Kernel, OpError>,
    /// The fold from its definition: of numbers, and of integers, where two are folded before the result wraps.
    pub(super) floats: fn(&[f64]) -> f64,
    pub(super) nothing: i128,
    pub(super) integers: fn(i128, i128) -> i128,
}

/// The kernel of `run` for elements of `T`, where `first` is the fold of nothing.
pub(super) fn kernel<T: Number>(
    run: Cumulative,
    first: T::Compute,
    fold: impl Fn(T::Compute, T::Compute) -> T::Compute + Copy + Send + Sync + 'static,
) -> Kernel {
    Kernel::new(move |io| {
        let (x, context) = (io.input::<T>(0)?, io.context);
        run.run(context, x, io.output::<T>(0)?, first, fold)
    })
}

#[derive(Debug)]
struct Running {
    kind: &'static Kind,
    reverse: bool,
    exclusive: bool,
}

pub(super) fn parse(spec: &NodeSpec, kind: &'static Kind) -> Result<Arc<dyn Op>, OpError> {
    let (reverse, exclusive) = (spec.flag_or("reverse", false)?, spec.flag_or("exclusive", false)?);
    Ok(Arc::new(Running { kind, reverse, exclusive }))
}

impl Op for Running {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let x = inputs.typed(0, ACCUMULATED)?;
        let axis = inputs.typed(1, &[DType::I32, DType::I64])?;
        if axis.element_count().is_some_and(|n| n != 1) {
            return Err(OpError::input(1, "is not a scalar"));
        }
        if let (Some(rank), Some([axis])) = (x.rank(), axis.as_i64s().as_deref()) {
            normal_axis(*axis, rank)?;
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn prepared_from(&self) -> &[usize] {
        &[1]
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let axis =
            inputs.tensor(1).ok().and_then(|a| a.as_i64s()?.first().copied()).ok_or(Opaque::Extents)?;
        nest(inputs, outputs, self.kind.fold, axis, (self.reverse, self.exclusive))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.output_shape(0)?;
        let axis = site.inputs.tensor(1)?.as_i64s().and_then(|v| v.first().copied());
        let axis = axis.ok_or_else(|| OpError::internal("the axis is not known"))?;
        let axis = normal_axis(axis, shape.len())?;
        let run = Cumulative {
            length: shape[axis],
            inner: span(&shape[axis + 1..]),
            reverse: self.reverse,
            exclusive: self.exclusive,
        };
        (self.kind.kernel)(site.inputs.tensor(0)?.dtype, run)
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let axis = site.inputs.tensor(1).ok().and_then(|axis| axis.as_i64s()?.first().copied());
        let axis = normal_axis(axis.ok_or(GpuReject::DataDependent)?, shape.len());
        let axis = axis.map_err(|_| GpuReject::NoKernel)?;
        families::lines::cumulative(
            site,
            &shape,
            axis,
            self.kind.fold == Fold::Product,
            (self.reverse, self.exclusive),
        )
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axis = inputs.tensor(1)?.to_i64s()?[0];
        let axis = if axis < 0 { axis + x.shape.len() as i64 } else { axis } as usize;
        // The positions whose elements meet in the output at `flat`.
        let terms = |flat: usize| {
            let index = RefTensor::unravel(&x.shape, flat);
            let (at, n) = (index[axis], x.shape[axis]);
            let range = match (self.reverse, self.exclusive) {
                (false, false) => 0..at + 1,
                (false, true) => 0..at,
                (true, false) => at..n,
                (true, true) => at + 1..n,
            };
            range.map(move |i| {
                let mut index = index.clone();
                index[axis] = i;
                RefTensor::ravel(&x.shape, &index)
            })
        };
        let all = 0..x.len();
        let data = match &x.data {
            RefData::Float(v) => {
                let one = |flat| (self.kind.floats)(&terms(flat).map(|i| v[i]).collect::<Vec<_>>());
                RefData::Float(all.map(one).collect())
            }
            RefData::Int(v) => {
                let add = |a, b| wrap(x.dtype, (self.kind.integers)(a, b));
                let one = |flat| terms(flat).map(|i| v[i]).fold(self.kind.nothing, add);
                RefData::Int(all.map(one).collect())
            }
            _ => return Err(OpError::internal("a running fold of another type")),
        };
        Ok(vec![RefTensor { data, ..x.clone() }.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The fold of the elements up to each one along `axis`: those beyond its start are skipped.
fn nest(
    inputs: Facts<'_>,
    outputs: &[Fact],
    fold: Fold,
    axis: i64,
    (reverse, exclusive): (bool, bool),
) -> Result<Nest, Opaque> {
    let mut axes = extents(operand(inputs, 0)?)?.to_vec();
    let (rank, axis) = (axes.len(), normal_axis(axis, axes.len()).map_err(|_| Opaque::Operator)?);
    axes.push(axes[axis].clone());
    let here: Vec<Affine> = (0..rank).map(Affine::axis).collect();
    let mut at = here.clone();
    let (step, skipped) = (if reverse { 1 } else { -1 }, i64::from(exclusive));
    let moved = Affine::axis(axis).plus(rank, step).and_then(|a| a.shifted(step * skipped));
    at[axis] = moved.ok_or(Opaque::Extents)?;
    let mut nest = Stages::over(inputs, outputs, axes)?;
    let x = nest.read(0, at, Outside::Skipped)?;
    let folded = nest.fold(fold, &[rank], &[x], |_, v| v[0])?;
    nest.store(here, &[], &[folded], |_, v| v[0])
}

/// Draws a node; elements lie in `range`.
pub(super) fn case(g: &mut Gen, range: Option<(f64, f64)>) -> Case {
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    if g.chance(0.2) {
        shape[rank - 1] = g.size(15, 40);
    }
    let dtype = *g.pick(ACCUMULATED);
    let axis = g.axis(rank);
    let axis = if g.chance(0.5) { Tensor::scalar(axis) } else { Tensor::scalar(axis as i32) };
    let x = match range {
        Some((low, high)) => g.tensor_in(dtype, &shape, low, high),
        None => g.tensor(dtype, &shape),
    };
    let case = Case::new([x, axis]);
    let case = if g.chance(0.5) { case.int("reverse", g.int(0, 1)) } else { case };
    let case = if g.chance(0.5) { case.int("exclusive", g.int(0, 1)) } else { case };
    if g.chance(0.6) { case.constant(1) } else { case }
}
