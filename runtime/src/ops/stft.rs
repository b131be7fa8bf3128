//! # STFT
//! The Fourier transform of each frame of a signal `[batch, time, parts]`: `frame_length` samples every
//! `frame_step`, times `window`. `onesided` (the default) keeps `⌊n/2⌋ + 1` results. Opset 17. Computed in f64.

use super::attributes::NodeSpec;
use super::dft::scalar;
use super::{Accuracy, Op, OpDef};
use crate::cpu::contraction::scratch_of;
use crate::cpu::fourier::{Complex, Fourier};
use crate::cpu::number::{Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::fourier::{Frames, Transform};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::Tensor;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::f64::consts::TAU;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "STFT",
    domain: "",
    since: &[17],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Clone, Copy, Debug)]
struct Stft {
    onesided: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Stft { onesided: node.flag_or("onesided", true)? }))
}

/// The transform with its shapes known.
#[derive(Clone, Debug)]
struct Plan {
    time: usize,
    parts: usize,
    step: usize,
    length: usize,
    frames: usize,
    bins: usize,
    fourier: Fourier,
}

/// Frame length and number of frames; the length is that of the frame, the window, or the signal.
fn frames(
    time: usize,
    step: i64,
    window: Option<usize>,
    length: Option<i64>,
) -> Result<(usize, usize), OpError> {
    let step = usize::try_from(step).ok().filter(|&s| s > 0);
    let step = step.ok_or_else(|| OpError::value("frame_step is not positive"))?;
    let told = length.map(|l| usize::try_from(l).unwrap_or(0));
    let length = told.or(window).unwrap_or(time);
    if length == 0 || window.is_some_and(|w| w != length) {
        return Err(OpError::value(format!("a frame of {length} samples does not fit its window")));
    }
    Ok((length, if time < length { 0 } else { (time - length) / step + 1 }))
}

impl Stft {
    fn bins(&self, length: usize) -> usize {
        if self.onesided { length / 2 + 1 } else { length }
    }

    fn plan(
        &self,
        x: &[usize],
        step: i64,
        window: Option<usize>,
        length: Option<i64>,
    ) -> Result<Plan, OpError> {
        let (length, frames) = frames(x[1], step, window, length)?;
        Ok(Plan {
            time: x[1],
            parts: x.get(2).copied().unwrap_or(1),
            step: step as usize,
            length,
            frames,
            bins: self.bins(length),
            fourier: Fourier::new(length)?,
        })
    }

    /// `late` says that the shapes were not known beforehand: there is no scratch memory then.
    fn run<T: Real>(io: &mut Io<'_, '_>, plan: &Plan, batch: usize, late: bool) -> Result<(), OpError> {
        let (x, window) = (io.input::<T>(0)?, io.optional_input::<T>(2)?);
        let context = io.context;
        let &Plan { time, parts, step, length, frames, bins, .. } = plan;
        let memory = (length + plan.fourier.work()) * size_of::<Complex>();
        let mut own = Vec::new();
        let (y, scratch) = if late {
            own.resize(memory / size_of::<f64>(), 0f64);
            (io.shaped::<T>(0, &[batch, frames, bins, 2])?, bytemuck::cast_slice_mut(&mut own))
        } else {
            io.output_and_scratch::<T>(0)?
        };
        let work = batch.saturating_mul(frames).saturating_mul(length).saturating_mul(16);
        let lanes = Lanes::new(scratch, memory);
        for_each_tile(context, work, lanes, &Chunks::new(y, bins * 2), &|tile, y, scratch| {
            let (image, frame) = (tile / frames, tile % frames);
            let scratch = scratch_of::<f64>(scratch, memory / size_of::<f64>())?;
            let (line, work) = bytemuck::cast_slice_mut::<f64, Complex>(scratch).split_at_mut(length);
            for (i, v) in line.iter_mut().enumerate() {
                let at = (image * time + frame * step + i) * parts;
                let weight = window.map_or(1.0, |w| w[i].to_f64());
                let imaginary = if parts == 2 { x[at + 1].to_f64() } else { 0.0 };
                *v = [x[at].to_f64() * weight, imaginary * weight];
            }
            plan.fourier.transform(line, work, false);
            for (y, value) in y.chunks_exact_mut(2).zip(&*line) {
                y[0] = T::from_f64(value[0]);
                y[1] = T::from_f64(value[1]);
            }
            Ok(())
        })
    }
}

impl Op for Stft {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 4)?;
        let x = inputs.typed(0, FLOATS)?;
        let numbers = [DType::I32, DType::I64];
        inputs.typed(1, &numbers)?;
        let window = inputs.optional(2)?;
        if let Some(window) = window {
            if window.dtype != x.dtype {
                return Err(OpError::DType { index: 2, got: window.dtype });
            }
            if window.rank().is_some_and(|rank| rank != 1) {
                return Err(OpError::input(2, "is no vector"));
            }
        }
        if inputs.has(3) {
            inputs.typed(3, &numbers)?;
        }
        let value = |i: usize| -> Result<Option<i64>, OpError> {
            let values = inputs.optional(i)?.and_then(TensorFact::as_i64s);
            values.map(|v| scalar(&v, "a frame's step or length")).transpose()
        };
        let (step, told) = (value(1)?, value(3)?);
        let (batch, time) = match x.shape.as_deref() {
            None => (Dim::Unknown, Dim::Unknown),
            Some([batch, time]) => (batch.clone(), time.clone()),
            Some([batch, time, parts]) if parts.known().is_none_or(|p| p == 1 || p == 2) => {
                (batch.clone(), time.clone())
            }
            Some(other) => return Err(OpError::input(0, format!("has shape {other:?}"))),
        };
        let window_length = window.and_then(|w| w.shape.as_ref()?.first()?.known());
        let length = match (told, inputs.has(3), window.is_some()) {
            (Some(told), ..) => usize::try_from(told).ok(),
            (None, false, true) => window_length,
            (None, false, false) => time.known(),
            _ => None,
        };
        let frame_count = match (step, length, time.known()) {
            (Some(step), Some(length), Some(time)) => {
                Dim::Known(frames(time, step, window_length, i64::try_from(length).ok())?.1)
            }
            (Some(step), Some(length), None) if step > 0 => {
                // ⌊(time − length + step) / step⌋.
                let shift = i64::try_from(length).ok().and_then(|l| step.checked_sub(l));
                shift.map_or(Dim::Unknown, |s| time.affine(1, s).floor_div(step as usize))
            }
            _ => Dim::Unknown,
        };
        let bins = length.map_or(Dim::Unknown, |l| Dim::Known(self.bins(l)));
        Ok(vec![TensorFact::new(x.dtype, vec![batch, frame_count, bins, Dim::Known(2)]).into()])
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (op, x) = (*self, site.input_shape(0)?);
        let window = if site.inputs.has(2) { Some(site.input_shape(2)?[0]) } else { None };
        let number = |index: usize| match site.inputs.optional(index) {
            Ok(None) => Some(None),
            Ok(Some(fact)) => fact.as_i64s().and_then(|v| v.first().copied()).map(Some),
            Err(_) => None,
        };
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            if let (Some(Some(step)), Some(length)) = (number(1), number(3)) {
                let plan = op.plan(&x, step, window, length)?;
                let memory = (plan.length + plan.fourier.work()) * size_of::<Complex>();
                let scratch = Lanes::bytes(memory, site.threads);
                return Ok(Kernel::new(move |io| Self::run::<T>(io, &plan, x[0], false)).with_scratch(scratch));
            }
            Ok(Kernel::new(move |io| {
                let number = |index: usize| {
                    let view = io.optional(index);
                    view.map(|v| scalar(&v.to_i64s()?, "a frame's step or length")).transpose()
                };
                let plan = op.plan(&x, number(1)?.unwrap_or(0), window, number(3)?)?;
                Self::run::<T>(io, &plan, x[0], true)
            }))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let x = site.input_shape(0)?;
        let number = |index: usize| match site.inputs.optional(index) {
            Ok(Some(fact)) => fact.as_i64s().and_then(|v| v.first().copied()).map(Some),
            _ => Some(None),
        };
        let (Some(Some(step)), Some(told)) = (number(1), number(3)) else {
            return Err(GpuReject::DataDependent);
        };
        let window = if site.inputs.has(2) { site.input_shape(2)?.first().copied() } else { None };
        let (length, frames) = frames(x[1], step, window, told).map_err(|_| GpuReject::NoKernel)?;
        let (parts, results) = (x.get(2).copied().unwrap_or(1), self.bins(length));
        let (inverse, mirrored) = (false, false);
        let transform = Transform { length, taken: length, parts, results, inverse, mirrored };
        let of = Frames { batch: x[0], time: x[1], step: step as usize, frames };
        families::fourier::frames(site, &transform, of)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, window) = (inputs.tensor(0)?, inputs.optional(2)?);
        let step = inputs.tensor(1)?.to_i64s()?[0];
        let told = inputs.optional(3)?.map(RefTensor::to_i64s).transpose()?.map(|v| v[0]);
        let (length, frames) = frames(x.shape[1], step, window.map(RefTensor::len), told)?;
        let parts = x.shape.get(2).copied().unwrap_or(1);
        let shape = [x.shape[0], frames, self.bins(length), 2];
        let mut out = Vec::new();
        for flat in 0..shape.iter().product() {
            let place = RefTensor::unravel(&shape, flat);
            let mut sum = 0.0;
            for i in 0..length {
                let at = (place[0] * x.shape[1] + place[1] * step as usize + i) * parts;
                let weight = window.map_or(Ok(1.0), |w| w.as_floats().map(|w| w[i]))?;
                let real = x.as_floats()?[at] * weight;
                let imaginary = if parts == 2 { x.as_floats()?[at + 1] * weight } else { 0.0 };
                let angle = -TAU * ((place[2] * i % length) as f64 / length as f64);
                sum += if place[3] == 0 {
                    real * angle.cos() - imaginary * angle.sin()
                } else {
                    real * angle.sin() + imaginary * angle.cos()
                };
            }
            out.push(sum);
        }
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(FLOATS);
    let time = g.size(8, 60);
    let parts = g.size(1, 2);
    let length = g.size(1, time.min(24));
    let number = |g: &mut Gen, v: usize| {
        if g.chance(0.5) { Tensor::scalar(v as i64) } else { Tensor::scalar(v as i32) }
    };
    let batch = g.size(0, 2);
    let x = g.tensor_in(dtype, &[batch, time, parts], -0.5, 0.5);
    let step = g.size(1, 9);
    let mut case = Case::new([x, number(g, step)]).opset(17);
    let window = g.chance(0.6).then(|| g.tensor_in(dtype, &[length], 0.0, 1.0));
    let told = g.chance(0.6).then(|| number(g, length));
    if window.is_some() || told.is_some() {
        case = case.optional(window);
    }
    let with_length = told.is_some();
    if with_length {
        case = case.optional(told);
    }
    if g.chance(0.6) {
        case = case.int("onesided", g.int(0, 1));
    }
    if g.chance(0.6) {
        case = case.constant(1);
        if with_length {
            case = case.constant(3);
        }
    }
    case
}
