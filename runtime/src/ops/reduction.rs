//! The form that all `Reduce*` operators share: axes as an attribute or (from a version of its own) an input,
//! `keepdims`, `noop_with_empty_axes`. An operator adds its fold and its reference.
//!
//! No axes at all means every axis, or none when `noop_with_empty_axes` is set; what the operator does beside
//! summing (squares, logarithms) is done in either case.

use super::attributes::NodeSpec;
use super::integer_reduction::{self, Integers, Places};
use super::{Accuracy, Op};
use crate::cpu::number::Number;
use crate::cpu::reduce::{Fold, ReducePlan};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axes};
use crate::loops::program::{self, Builder, Reg};
use crate::loops::{self, Affine, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use recurve_kernels::reduce as gpu;
use std::any::Any;
use std::sync::Arc;

/// What tells one reduction from another.
#[derive(Debug)]
pub(super) struct Kind {
    /// First version that takes the axes as an input.
    pub(super) axes_input_from: i64,
    /// Element types.
    pub(super) dtypes: &'static [DType],
    /// The kernel for an element type.
    pub(super) folder: fn(DType) -> Result<Folder, OpError>,
    /// The reference of one output, for each kind of element.
    pub(super) floats: fn(&[f64]) -> f64,
    pub(super) ints: fn(DType, &[i128]) -> i128,
    pub(super) bools: fn(&[bool]) -> bool,
    /// What the GPU folds, of floats.
    pub(super) gpu: Option<gpu::Fold>,
    /// What its nest folds; that of floats, and of integers where nothing is done beside the fold.
    pub(super) form: Form,
    /// What it makes of integers.
    pub(super) integers: Integers,
}

/// The form of a reduction's nest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// The fold of the elements.
    Plain(loops::Fold),
    /// The sum of what the first function makes of an element; the second makes the result of it and the count.
    Sum(fn(&mut Builder, Reg) -> Reg, fn(&mut Builder, Reg, Reg) -> Reg),
    /// The logarithm of the sum of exponentials, relative to the largest element.
    LogSumExp,
}

/// Reduces input 0 to output 0.
pub(super) type Folder = fn(&ReducePlan, &mut Io<'_, '_>) -> Result<(), OpError>;

/// How close every reduction is held.
pub(super) const ACCURACY: Accuracy = Accuracy::Reduction;

/// Element types of sums and products.
pub(super) const DTYPES: &[DType] =
    &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64, DType::U32, DType::U64];

/// The [`Folder`] of a fold.
pub(super) fn fold<T: Number, F: Fold<T>>(plan: &ReducePlan, io: &mut Io<'_, '_>) -> Result<(), OpError> {
    let x = io.input::<T>(0)?;
    let context = io.context;
    plan.run::<T, F>(context, x, io.shaped(0, &plan.out)?)
}

/// For operators that take no truth values.
pub(super) fn no_bools(_: &[bool]) -> bool {
    false
}

/// The integer that an f64 becomes: truncated toward zero, at the type's limit when beyond it, 0 for NaN.
pub(super) fn truncated(dtype: DType, value: f64) -> i128 {
    let bits = dtype.bits() as u32;
    let (least, most) = if dtype.is_signed_int() {
        (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    } else {
        (0, (1i128 << bits) - 1)
    };
    (value as i128).clamp(least, most)
}

#[derive(Debug)]
struct Reduction {
    kind: &'static Kind,
    axes: Vec<i64>,
    keep: bool,
    noop: bool,
}

/// Parses a reduction of `kind`.
pub(super) fn parse(node: &NodeSpec, kind: &'static Kind) -> Result<Arc<dyn Op>, OpError> {
    let late = node.opset >= kind.axes_input_from;
    Ok(Arc::new(Reduction {
        kind,
        axes: if late { Vec::new() } else { node.ints("axes")?.unwrap_or_default() },
        keep: node.flag_or("keepdims", true)?,
        noop: late && node.flag_or("noop_with_empty_axes", false)?,
    }))
}

impl Reduction {
    /// Which axes of a tensor of `rank` are reduced when `axes` are given.
    fn reduced(&self, axes: &[i64], rank: usize) -> Result<Vec<bool>, OpError> {
        if axes.is_empty() {
            return Ok(vec![!self.noop; rank]);
        }
        let mut reduced = vec![false; rank];
        normal_axes(axes, rank)?.into_iter().for_each(|axis| reduced[axis] = true);
        Ok(reduced)
    }

    /// The nest, for elements that are floats or, where it says what becomes of them, integers.
    fn nest_of(
        &self,
        inputs: Facts<'_>,
        outputs: &[Fact],
        integers: Option<Integers>,
    ) -> Result<Nest, Opaque> {
        let x = operand(inputs, 0)?;
        let dtype = x.dtype;
        let axes = extents(x)?.to_vec();
        let given = match inputs.optional(1).map_err(|_| Opaque::Operator)? {
            None => self.axes.clone(),
            Some(axes) => axes.as_i64s().ok_or(Opaque::Extents)?,
        };
        let reduced = self.reduced(&given, axes.len()).map_err(|_| Opaque::Operator)?;
        let over: Vec<usize> = (0..axes.len()).filter(|&a| reduced[a]).collect();
        let count = over.iter().try_fold(1usize, |n, &a| n.checked_mul(axes[a].known()?));
        let kept = |a: usize| {
            if reduced[a] { self.keep.then(|| Affine::constant(0)) } else { Some(Affine::axis(a)) }
        };
        let store = (0..axes.len()).filter_map(kept).collect();
        let everywhere = (0..axes.len()).map(Affine::axis).collect();
        let mut nest = Stages::over(inputs, outputs, axes.clone())?;
        let mut is_real = false;
        if !nest.kind().is_float() {
            let integers = integers.filter(|_| dtype != DType::Bool).ok_or(Opaque::Type)?;
            // The extreme integer of nothing depends on the type.
            let count = count.filter(|&n| n > 0).ok_or(Opaque::Extents)?;
            match integers {
                Integers::Wrapping => {}
                Integers::Mean | Integers::Root => {
                    let places = Places { axes, over, store, count };
                    return integer_reduction::nest(inputs, outputs, places, integers);
                }
                Integers::Real => (nest, is_real) = (nest.computed_in(program::Kind::F64), true),
            }
        }
        let stored = |p: &mut Builder, y: Reg| if is_real { p.cast(y, DType::F64, dtype) } else { y };
        let x = nest.read(0, everywhere, Outside::Never)?;
        match self.kind.form {
            Form::Plain(fold) => {
                let folded = nest.fold(fold, &over, &[x], |_, v| v[0])?;
                nest.store(store, &[], &[folded], |_, v| v[0])
            }
            Form::Sum(term, finish) => {
                let count = count.ok_or(Opaque::Extents)?;
                let sum = nest.fold(loops::Fold::Sum, &over, &[x], |p, v| term(p, v[0]))?;
                nest.store(store, &[], &[sum], |p, v| {
                    let count = p.constant(p.kind(v[0]), count as f64);
                    let y = finish(p, v[0], count);
                    stored(p, y)
                })
            }
            Form::LogSumExp => {
                let most = nest.fold(loops::Fold::Max, &over, &[x], |_, v| v[0])?;
                // Infinite extremes are not subtracted from.
                let shift = |p: &mut Builder, most: Reg| {
                    let kind = p.kind(most);
                    let (zero, size, least) =
                        (p.constant(kind, 0.0), p.abs(most), p.constant(kind, f64::INFINITY));
                    let finite = p.lt(size, least);
                    p.select(finite, most, zero)
                };
                let sum = nest.fold(loops::Fold::Sum, &over, &[x, most], |p, v| {
                    let base = shift(p, v[1]);
                    let relative = p.sub(v[0], base);
                    p.exp(relative)
                })?;
                nest.store(store, &[], &[sum, most], |p, v| {
                    let base = shift(p, v[1]);
                    let log = p.log(v[0]);
                    let y = p.add(log, base);
                    stored(p, y)
                })
            }
        }
    }

    /// The launches for elements that are no floats.
    fn gpu_of_whole(
        &self,
        site: &GpuSite<'_>,
        (shape, reduced): (&[usize], &[bool]),
    ) -> Result<GpuKernel, GpuReject> {
        let (dtype, kind) = (site.dtype(0)?, self.kind);
        if shape.iter().zip(reduced).any(|(&extent, &reduced)| reduced && extent == 0) {
            let value = if dtype == DType::Bool { (kind.bools)(&[]).into() } else { (kind.ints)(dtype, &[]) };
            return families::map::filled(site, dtype, &site.output_shape(0)?, value);
        }
        if dtype == DType::Bool {
            return families::looped::of_truth(site, |facts, made| self.nest(facts, made));
        }
        let nest = self.nest_of(site.inputs, site.outputs, Some(kind.integers));
        if matches!(nest, Err(Opaque::Type)) && kind.integers == Integers::Root {
            return Err(GpuReject::Form(format!("a root of sums of {dtype}")));
        }
        site.nest_or(GpuReject::ElementType(dtype), nest)
    }
}

impl Op for Reduction {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 2)?;
        let x = inputs.typed(0, self.kind.dtypes)?;
        let axes = match inputs.optional(1)? {
            None => Some(self.axes.clone()),
            Some(axes) if axes.dtype != DType::I64 => {
                return Err(OpError::DType { index: 1, got: axes.dtype });
            }
            Some(axes) => axes.as_i64s(),
        };
        let Some(shape) = &x.shape else {
            let scalar = axes.is_some_and(|a| a.is_empty()) && !self.keep && !self.noop;
            let fact = if scalar { TensorFact::ranked(x.dtype, 0) } else { TensorFact::unranked(x.dtype) };
            return Ok(vec![fact.into()]);
        };
        let Some(axes) = axes else {
            let fact = if self.keep {
                TensorFact::ranked(x.dtype, shape.len())
            } else {
                TensorFact::unranked(x.dtype)
            };
            return Ok(vec![fact.into()]);
        };
        let mut out = Vec::with_capacity(shape.len());
        for (extent, reduced) in shape.iter().zip(self.reduced(&axes, shape.len())?) {
            match (reduced, self.keep) {
                (false, _) => out.push(extent.clone()),
                (true, true) => out.push(Dim::Known(1)),
                (true, false) => {}
            }
        }
        Ok(vec![TensorFact::new(x.dtype, out).into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let form = if matches!(self.kind.form, Form::Plain(_)) { Some(Integers::Wrapping) } else { None };
        self.nest_of(inputs, outputs, form)
    }
    fn bound_from(&self) -> &[usize] {
        &[1]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let folder = (self.kind.folder)(site.inputs.tensor(0)?.dtype)?;
        let shape = site.input_shape(0)?;
        let axes = match site.inputs.optional(1)? {
            None => Some(self.axes.clone()),
            Some(axes) => axes.as_i64s(),
        };
        if let Some(axes) = axes {
            let plan = ReducePlan::new(&shape, &self.reduced(&axes, shape.len())?, self.keep);
            return Ok(Kernel::new(move |io| folder(&plan, io)));
        }
        let op = Self { axes: Vec::new(), ..*self };
        Ok(Kernel::new(move |io| {
            let axes = io.tensor(1)?.to_i64s()?;
            let plan = ReducePlan::new(&shape, &op.reduced(&axes, shape.len())?, op.keep);
            folder(&plan, io)
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let axes = if site.inputs.has(1) {
            // As it lies in the model's file it may begin at any byte.
            let axes = site.constant(1).and_then(crate::Tensor::to_vec::<i64>);
            axes.ok_or(GpuReject::DataDependent)?
        } else {
            self.axes.clone()
        };
        let reduced = self.reduced(&axes, shape.len()).map_err(|_| GpuReject::NoKernel)?;
        if !site.dtype(0)?.is_float() {
            return self.gpu_of_whole(site, (&shape, &reduced));
        }
        let fold = self.kind.gpu.ok_or(GpuReject::NoKernel);
        fold.and_then(|fold| families::lines::reduce(site, &shape, &reduced, fold))
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let rank = x.shape.len();
        let axes = match inputs.optional(1)? {
            Some(axes) => axes.to_i64s()?,
            None => self.axes.clone(),
        };
        let all = axes.is_empty() && !self.noop;
        let is_reduced = |i: usize| all || axes.iter().any(|&a| a == i as i64 || a + rank as i64 == i as i64);
        let kept: Vec<usize> =
            x.shape.iter().enumerate().map(|(i, &d)| if is_reduced(i) { 1 } else { d }).collect();
        let mut groups: Vec<Vec<usize>> = vec![Vec::new(); kept.iter().product()];
        for flat in 0..x.len() {
            let mut index = RefTensor::unravel(&x.shape, flat);
            (0..rank).filter(|&i| is_reduced(i)).for_each(|i| index[i] = 0);
            groups[RefTensor::ravel(&kept, &index)].push(flat);
        }
        let shape: Vec<usize> = if self.keep {
            kept
        } else {
            kept.into_iter().enumerate().filter(|(i, _)| !is_reduced(*i)).map(|(_, d)| d).collect()
        };
        fn each<T: Copy, R>(data: &[T], groups: &[Vec<usize>], f: impl Fn(&[T]) -> R) -> Vec<R> {
            groups.iter().map(|g| f(&g.iter().map(|&i| data[i]).collect::<Vec<T>>())).collect()
        }
        let kind = self.kind;
        let out = match &x.data {
            RefData::Float(v) => RefTensor::floats(x.dtype, &shape, each(v, &groups, kind.floats)),
            RefData::Int(v) => {
                RefTensor::wrapped(x.dtype, &shape, each(v, &groups, |v| (kind.ints)(x.dtype, v)))
            }
            RefData::Bool(v) => RefTensor::bools(&shape, each(v, &groups, kind.bools)),
            RefData::Text(_) => return Err(OpError::internal("a reduction of text")),
        };
        Ok(vec![out.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Draws a use of the reduction `kind` that changed in the versions `since`, its floats in [low, high).
pub(super) fn case(g: &mut Gen, kind: &Kind, since: &[i64], (low, high): (f64, f64)) -> Case {
    let mut dtype = *g.pick(kind.dtypes);
    let opset = (*g.pick(since)).max(7);
    if opset < 13 && dtype == DType::BF16 {
        dtype = DType::F32;
    }
    let rank = g.size(0, 4);
    let mut shape = g.shape(rank);
    if rank > 0 && g.chance(0.1) {
        shape[g.size(0, rank - 1)] = g.size(60, 200);
    }
    let mut case = Case::new([g.tensor_in(dtype, &shape, low, high)]).opset(opset);
    let many = g.size(0, rank);
    let axes: Vec<i64> = g
        .permutation(rank)
        .into_iter()
        .take(many)
        .map(|axis| if g.chance(0.5) { axis as i64 } else { axis as i64 - rank as i64 })
        .collect();
    if g.chance(0.7) {
        case = case.int("keepdims", g.int(0, 1));
    }
    if opset < kind.axes_input_from {
        return if g.chance(0.8) { case.ints("axes", &axes) } else { case };
    }
    if g.chance(0.5) {
        case = case.int("noop_with_empty_axes", g.int(0, 1));
    }
    if g.chance(0.2) {
        return case;
    }
    let axes = Tensor::new(&[axes.len()], axes).unwrap_or_else(|_| Tensor::scalar(0i64));
    let case = case.input(axes);
    if g.chance(0.7) { case.constant(1) } else { case }
}
