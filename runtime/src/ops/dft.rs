//! # DFT
//! `y[k] = Σ x[i] · exp(−2πi·k·i / n)` along one axis of a tensor whose last axis holds real and imaginary parts (or
//! the real part alone). `dft_length` pads with zeros or cuts; `onesided` keeps `⌊n/2⌋ + 1` results, or, with
//! `inverse`, takes so many and gives a real signal. Opsets 17 (`axis` attribute, default 1), 20 (input, default −2).
//! Computed in f64.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::contraction::scratch_of;
use crate::cpu::fourier::{Complex, Fourier};
use crate::cpu::number::{Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::fourier::Transform;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::f64::consts::TAU;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "DFT",
    domain: "",
    since: &[17, 20],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Clone, Copy, Debug)]
struct Dft {
    /// The axis, where no input tells it.
    axis: i64,
    inverse: bool,
    onesided: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let axis = if node.opset < 20 { node.int_or("axis", 1)? } else { -2 };
    let (inverse, onesided) = (node.flag_or("inverse", false)?, node.flag_or("onesided", false)?);
    Ok(Arc::new(Dft { axis, inverse, onesided }))
}

/// The one integer of a scalar.
pub(super) fn scalar(values: &[i64], name: &str) -> Result<i64, OpError> {
    match values {
        [value] => Ok(*value),
        _ => Err(OpError::value(format!("{name} has {} elements", values.len()))),
    }
}

impl Dft {
    fn real_result(&self) -> bool {
        self.inverse && self.onesided
    }

    /// The axis of a tensor of `rank`; the last axis holds the parts of a number.
    fn axis(&self, given: Option<i64>, rank: usize) -> Result<usize, OpError> {
        let axis = normal_axis(given.unwrap_or(self.axis), rank)?;
        if axis + 1 == rank {
            return Err(OpError::value("the axis of real and imaginary parts is not transformed"));
        }
        Ok(axis)
    }

    /// Length of the transform, and extent of the result, for an input extent.
    fn lengths(&self, given: Option<i64>, extent: usize) -> Result<(usize, usize), OpError> {
        let default = if self.real_result() { extent.saturating_sub(1).saturating_mul(2) } else { extent };
        let length = match given {
            Some(given) => usize::try_from(given).unwrap_or(0),
            None => default,
        };
        if length == 0 {
            return Err(OpError::value("the Fourier transform has no length"));
        }
        let half = self.onesided && !self.inverse;
        Ok((length, if half { length / 2 + 1 } else { length }))
    }

    /// `late` says that the shapes were not known beforehand: there is no scratch memory then.
    fn run<T: Real>(
        &self,
        io: &mut Io<'_, '_>,
        plan: &Plan,
        shape: &[usize],
        late: bool,
    ) -> Result<(), OpError> {
        let x = io.input::<T>(0)?;
        let context = io.context;
        let Plan { inner, parts, extent, length, result, .. } = *plan;
        let made = if self.real_result() { 1 } else { 2 };
        let memory = (length + plan.fourier.work()) * size_of::<Complex>();
        let mut own = Vec::new();
        let (y, scratch) = if late {
            own.resize(memory / size_of::<f64>(), 0f64);
            (io.shaped::<T>(0, shape)?, bytemuck::cast_slice_mut(&mut own))
        } else {
            io.output_and_scratch::<T>(0)?
        };
        let slab = result * inner * made;
        let lanes = Lanes::new(scratch, memory);
        let work = x.len().saturating_mul(16);
        for_each_tile(context, work, lanes, &Chunks::new(y, slab), &|outer, y, scratch| {
            let scratch = scratch_of::<f64>(scratch, memory / size_of::<f64>())?;
            let (line, work) = bytemuck::cast_slice_mut(scratch).split_at_mut(length);
            for j in 0..inner {
                context.interrupt.check()?;
                let read = |i: usize| -> Complex {
                    let at = ((outer * extent + i) * inner + j) * parts;
                    [x[at].to_f64(), if parts == 2 { x[at + 1].to_f64() } else { 0.0 }]
                };
                self.fill(line, extent, read);
                plan.fourier.transform(line, work, self.inverse);
                for (k, value) in line[..result].iter().enumerate() {
                    let at = (k * inner + j) * made;
                    y[at] = T::from_f64(value[0]);
                    if made == 2 {
                        y[at + 1] = T::from_f64(value[1]);
                    }
                }
            }
            Ok(())
        })
    }

    /// The line to transform: padded or cut, and for a one-sided inverse completed by symmetry.
    fn fill(&self, line: &mut [Complex], extent: usize, read: impl Fn(usize) -> Complex) {
        let length = line.len();
        if !self.real_result() {
            for (i, v) in line.iter_mut().enumerate() {
                *v = if i < extent { read(i) } else { [0.0; 2] };
            }
            return;
        }
        for i in 0..=length / 2 {
            let mut value = if i < extent { read(i) } else { [0.0; 2] };
            if i == 0 || 2 * i == length {
                value[1] = 0.0;
            }
            line[i] = value;
            line[(length - i) % length] = [value[0], -value[1]];
        }
        // The first element is its own mirror image.
        line[0][1] = 0.0;
    }
}

/// The transform with its shapes known.
#[derive(Clone, Debug)]
struct Plan {
    inner: usize,
    /// Parts of an input number.
    parts: usize,
    extent: usize,
    length: usize,
    result: usize,
    fourier: Fourier,
}

impl Plan {
    fn new(
        op: &Dft,
        x: &[usize],
        length: Option<i64>,
        axis: Option<i64>,
    ) -> Result<(Self, Vec<usize>), OpError> {
        let axis = op.axis(axis, x.len())?;
        let extent = x[axis];
        let (length, result) = op.lengths(length, extent)?;
        let inner = x[axis + 1..x.len() - 1].iter().product();
        let mut shape = x.to_vec();
        shape[axis] = result;
        shape[x.len() - 1] = if op.real_result() { 1 } else { 2 };
        let parts = x[x.len() - 1];
        Ok((Self { inner, parts, extent, length, result, fourier: Fourier::new(length)? }, shape))
    }
}

impl Op for Dft {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 3)?;
        let x = inputs.typed(0, FLOATS)?;
        let number = |index: usize, dtypes: &[DType]| -> Result<Option<Option<i64>>, OpError> {
            if !inputs.has(index) {
                return Ok(Some(None));
            }
            match inputs.typed(index, dtypes)?.as_i64s() {
                Some(values) => scalar(&values, "a length or axis").map(|v| Some(Some(v))),
                None => Ok(None),
            }
        };
        let length = number(1, &[DType::I32, DType::I64])?;
        let axis = number(2, &[DType::I64])?;
        let Some(shape) = &x.shape else { return Ok(vec![TensorFact::unranked(x.dtype).into()]) };
        let parts = shape.last().and_then(Dim::known);
        if shape.len() < 2 || parts.is_some_and(|p| p != 1 && p != 2) {
            return Err(OpError::input(0, format!("of shape {shape:?} holds no numbers in its last axis")));
        }
        let mut out = shape.clone();
        out[shape.len() - 1] = Dim::Known(if self.real_result() { 1 } else { 2 });
        let Some(axis) = axis else {
            // Any axis may change.
            let last = shape.len() - 1;
            out[..last].fill(Dim::Unknown);
            return Ok(vec![TensorFact::new(x.dtype, out).into()]);
        };
        let axis = self.axis(axis, shape.len())?;
        let known = |given| {
            let extent = shape[axis].known().or(if let Some(Some(_)) = length { Some(0) } else { None });
            extent.map(|extent| self.lengths(given, extent))
        };
        out[axis] = match length {
            Some(given) => match known(given) {
                Some(lengths) => Dim::Known(lengths?.1),
                None if self.onesided => Dim::Unknown,
                None => shape[axis].clone(),
            },
            None => Dim::Unknown,
        };
        Ok(vec![TensorFact::new(x.dtype, out).into()])
    }

    fn bound_from(&self) -> &[usize] {
        &[1, 2]
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (op, x) = (*self, site.input_shape(0)?);
        let number = |index: usize| match site.inputs.optional(index) {
            Ok(None) => Some(None),
            Ok(Some(fact)) => fact.as_i64s().and_then(|v| v.first().copied()).map(Some),
            Err(_) => None,
        };
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            if let (Some(length), Some(axis)) = (number(1), number(2)) {
                let (plan, shape) = Plan::new(&op, &x, length, axis)?;
                let memory = (plan.length + plan.fourier.work()) * size_of::<Complex>();
                let scratch = Lanes::bytes(memory, site.threads);
                let kernel = Kernel::new(move |io| op.run::<T>(io, &plan, &shape, false));
                return Ok(kernel.with_scratch(scratch));
            }
            Ok(Kernel::new(move |io| {
                let number = |index: usize| {
                    let view = io.optional(index);
                    view.map(|v| scalar(&v.to_i64s()?, "a length or axis")).transpose()
                };
                let (plan, shape) = Plan::new(&op, &x, number(1)?, number(2)?)?;
                op.run::<T>(io, &plan, &shape, true)
            }))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let x = site.input_shape(0)?;
        let number = |index: usize| match site.inputs.optional(index) {
            Ok(Some(fact)) => fact.as_i64s().and_then(|v| v.first().copied()).map(Some),
            _ => Some(None),
        };
        let (Some(length), Some(axis)) = (number(1), number(2)) else { return Err(GpuReject::DataDependent) };
        let axis = self.axis(axis, x.len()).map_err(|_| GpuReject::NoKernel)?;
        let (length, results) = self.lengths(length, x[axis]).map_err(|_| GpuReject::NoKernel)?;
        let last = x.len() - 1;
        let (inverse, mirrored) = (self.inverse, self.real_result());
        let transform = Transform { length, taken: x[axis], parts: x[last], results, inverse, mirrored };
        let outer = x[..axis].iter().product();
        families::fourier::lines(site, &transform, [outer, x[axis], x[axis + 1..last].iter().product()])
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let number =
            |i: usize| inputs.optional(i)?.map(|t| scalar(&t.to_i64s()?, "a length or axis")).transpose();
        let axis = self.axis(number(2)?, x.shape.len())?;
        let (length, result) = self.lengths(number(1)?, x.shape[axis])?;
        let last = x.shape.len() - 1;
        let mut shape = x.shape.clone();
        shape[axis] = result;
        shape[last] = if self.real_result() { 1 } else { 2 };
        let data = x.as_floats()?;
        let sign = if self.inverse { 1.0 } else { -1.0 };
        let mut out = Vec::new();
        for flat in 0..shape.iter().product() {
            let place = RefTensor::unravel(&shape, flat);
            let (k, part) = (place[axis], place[last]);
            // The element `i` of the line, which a one-sided inverse continues as its mirror image.
            let element = |i: usize| {
                let mirrored = self.real_result() && i > length / 2;
                let at = if mirrored { length - i } else { i };
                if at >= x.shape[axis] {
                    return (0.0, 0.0);
                }
                let mut index = place.clone();
                index[axis] = at;
                index[last] = 0;
                let real = data[RefTensor::ravel(&x.shape, &index)];
                index[last] = 1;
                let imaginary =
                    if x.shape[last] == 2 { data[RefTensor::ravel(&x.shape, &index)] } else { 0.0 };
                let own = self.real_result() && (at == 0 || 2 * at == length);
                (
                    real,
                    if own {
                        0.0
                    } else if mirrored {
                        -imaginary
                    } else {
                        imaginary
                    },
                )
            };
            let mut sum = 0.0;
            for i in 0..length {
                let (real, imaginary) = element(i);
                let angle = sign * TAU * ((k * i % length) as f64 / length as f64);
                sum += if part == 0 {
                    real * angle.cos() - imaginary * angle.sin()
                } else {
                    real * angle.sin() + imaginary * angle.cos()
                };
            }
            out.push(if self.inverse { sum / length as f64 } else { sum });
        }
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[17, 20]);
    let dtype = *g.pick(FLOATS);
    let rank = g.size(2, 4);
    let mut shape: Vec<usize> = (0..rank - 1).map(|_| g.size(1, 4)).collect();
    let axis = g.size(0, rank - 2);
    shape[axis] = g.size(2, 30);
    shape.push(g.size(1, 2));
    let (inverse, onesided) = (g.chance(0.4), g.chance(0.4));
    // Small elements, so that sums of many stay small.
    let mut case = Case::new([g.tensor_in(dtype, &shape, -0.5, 0.5)]).opset(opset);
    if inverse || g.chance(0.5) {
        case = case.int("inverse", inverse.into());
    }
    if onesided || g.chance(0.5) {
        case = case.int("onesided", onesided.into());
    }
    let mut constant = Vec::new();
    let length = g.chance(0.5).then(|| {
        let length = g.size(1, 40);
        if g.chance(0.5) { Tensor::scalar(length as i64) } else { Tensor::scalar(length as i32) }
    });
    let with_length = length.is_some();
    let named = if g.chance(0.5) { axis as i64 } else { axis as i64 - rank as i64 };
    if opset < 20 {
        if with_length {
            case = case.optional(length);
            constant.push(1);
        }
        case = case.int("axis", named);
    } else {
        if with_length || axis + 2 != rank || g.chance(0.5) {
            case = case.optional(length);
            constant.push(1);
        }
        if axis + 2 != rank || (g.chance(0.5) && case.inputs.len() == 2) {
            case = case.input(Tensor::scalar(named));
            constant.push(2);
        }
    }
    if g.chance(0.6) {
        for index in constant {
            if case.inputs.get(index).is_some_and(Option::is_some) {
                case = case.constant(index);
            }
        }
    }
    case
}
