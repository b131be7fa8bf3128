//! # DeformConv
//! Conv whose taps are moved by `offset` and weighted by `mask`: tap `t` of position `p` reads `x` at
//! `p · stride + t · dilation − pad + offset`, interpolated linearly, zero outside. One to three spatial axes.
//! Opsets 19, 22 (bfloat16). Coordinates in f64.

use super::attributes::NodeSpec;
use super::conv::{check_bias, output_dims, parse_groups, spans};
use super::draw_window::draw_conv;
use super::mat_mul::product_cost;
use super::window::{Span, Window};
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::contraction::Panel;
use crate::cpu::convolution::Convolution;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "DeformConv",
    domain: "",
    since: &[19, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct DeformConv {
    window: Window,
    groups: usize,
    offset_groups: usize,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let offset_groups = node.int_or("offset_group", 1)?;
    Ok(Arc::new(DeformConv {
        window: Window::parse(node, true, false)?,
        groups: parse_groups(node)?,
        offset_groups: usize::try_from(offset_groups)
            .ok()
            .filter(|&g| g > 0)
            .ok_or_else(|| OpError::attribute("offset_group", format!("is {offset_groups}")))?,
    }))
}

/// The sampling with its shapes known.
#[derive(Clone, Debug)]
struct Sampler {
    spans: Vec<Span>,
    groups: usize,
    offset_groups: usize,
    /// Input channels of a group.
    channels: usize,
    taps: usize,
    positions: usize,
    plane: usize,
}

impl Sampler {
    /// Values of channel and tap `k` of matrix `batch` at `cols`.
    fn sample<T: Panel>(
        &self,
        (x, offset, mask): (&[T], &[T], Option<&[T]>),
        (batch, k): (usize, usize),
        cols: &Range<usize>,
        to: &mut [T::Compute],
    ) {
        let (image, group) = (batch / self.groups, batch % self.groups);
        let (channel, tap) = (group * self.channels + k / self.taps, k % self.taps);
        let all = self.groups * self.channels;
        let x = &x[(image * all + channel) * self.plane..][..self.plane];
        let moved = channel / (all / self.offset_groups);
        let at = (image * self.offset_groups + moved) * self.taps + tap;
        let rank = self.spans.len();
        for (position, to) in cols.clone().zip(to) {
            let shift = |axis: usize| offset[(at * rank + axis) * self.positions + position].to_f64();
            let value = self.interpolate(x, (tap, position), shift);
            let weight = mask.map_or(1.0, |mask| mask[at * self.positions + position].to_f64());
            *to = T::Compute::from_f64(value * weight);
        }
    }

    fn interpolate<T: Number>(
        &self,
        x: &[T],
        (mut tap, mut position): (usize, usize),
        shift: impl Fn(usize) -> f64,
    ) -> f64 {
        // Per axis: the cell's lower index and the distance from it.
        let mut cell = [(0i64, 0.0); 3];
        for (axis, s) in self.spans.iter().enumerate().rev() {
            let (p, t) = (position % s.output, tap % s.kernel);
            position /= s.output;
            tap /= s.kernel;
            let at = (p * s.stride + t * s.dilation) as f64 - s.begin as f64 + shift(axis);
            // Beyond the input on either side there is nothing; NaN is nowhere.
            if !(at > -1.0 && at < s.input as f64) {
                return 0.0;
            }
            cell[axis] = (at.floor() as i64, at - at.floor());
        }
        let mut sum = 0.0;
        for corner in 0..1usize << self.spans.len() {
            let (mut weight, mut flat, mut inside) = (1.0, 0usize, true);
            for (axis, s) in self.spans.iter().enumerate() {
                let (low, part) = cell[axis];
                let upper = corner >> axis & 1 == 1;
                let index = low + i64::from(upper);
                weight *= if upper { part } else { 1.0 - part };
                inside &= index >= 0 && index < s.input as i64;
                flat = flat * s.input + index.max(0) as usize;
            }
            if inside && weight != 0.0 {
                sum += weight * x[flat].to_f64();
            }
        }
        sum
    }
}

impl DeformConv {
    fn run<T: Panel>(
        io: &mut Io<'_, '_>,
        convolution: &Convolution,
        sampler: &Sampler,
    ) -> Result<(), OpError> {
        let (x, w, offset) = (io.input::<T>(0)?, io.input::<T>(1)?, io.input::<T>(2)?);
        let (bias, mask) = (io.optional_input::<T>(3)?, io.optional_input::<T>(4)?);
        let context = io.context;
        let sample = |batch: usize, k: usize, cols: &Range<usize>, to: &mut [T::Compute]| {
            sampler.sample((x, offset, mask), (batch, k), cols, to);
        };
        convolution.run_sampled(context, &sample, (w, bias), io.output_and_scratch(0)?)
    }

    /// Checks the shape of offsets (as many per tap as there are axes) or masks (one).
    fn check_field(
        &self,
        fact: Option<&TensorFact>,
        index: usize,
        per_tap: usize,
        (out, w): (&[Dim], &[Dim]),
    ) -> Result<(), OpError> {
        let Some(shape) = fact.and_then(|f| f.shape.as_deref()) else { return Ok(()) };
        let taps = w[2..].iter().try_fold(1usize, |n, d| n.checked_mul(d.known()?));
        let channels = taps.and_then(|t| t.checked_mul(self.offset_groups)?.checked_mul(per_tap));
        let differ = |a: &Dim, b: Option<usize>| a.known().zip(b).is_some_and(|(a, b)| a != b);
        let wrong = shape.len() != out.len()
            || differ(&shape[0], out[0].known())
            || differ(&shape[1], channels)
            || shape[2..].iter().zip(&out[2..]).any(|(a, b)| differ(a, b.known()));
        if wrong {
            return Err(OpError::input(index, format!("has shape {shape:?} for an output of {out:?}")));
        }
        Ok(())
    }
}

impl Op for DeformConv {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 5)?;
        let (x, w) = (inputs.typed(0, FLOATS)?, inputs.tensor(1)?);
        for index in 1..5 {
            if let Some(fact) = inputs.optional(index)?.filter(|f| f.dtype != x.dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        let shape = output_dims(&self.window, self.groups, x.shape.as_deref(), w.shape.as_deref())?;
        if let (Some(shape), Some(w), Some(x)) = (&shape, &w.shape, &x.shape) {
            if x[1].known().is_some_and(|c| !c.is_multiple_of(self.offset_groups)) {
                return Err(OpError::attribute("offset_group", "does not divide the number of channels"));
            }
            check_bias(inputs.optional(3)?, 3, &shape[1])?;
            self.check_field(inputs.optional(2)?, 2, shape.len() - 2, (shape, w))?;
            self.check_field(inputs.optional(4)?, 4, 1, (shape, w))?;
        }
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let weights = inputs.tensor(1).ok().and_then(TensorFact::known_shape);
        product_cost(inputs, outputs, weights.and_then(|w| crate::tensor::element_count(w.get(1..)?)))
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
        let spans = spans(&self.window, &x, &w)?;
        let form = (w[1], w[0] / self.groups);
        let convolution = Convolution::new(x[0], self.groups, form, &spans)?.sampled();
        let sampler = Sampler {
            groups: self.groups,
            offset_groups: self.offset_groups,
            channels: w[1],
            taps: w[2..].iter().product(),
            positions: spans.iter().map(|s| s.output).product(),
            plane: x[2..].iter().product(),
            spans,
        };
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            let scratch = convolution.scratch::<T>(site.threads);
            Ok(Kernel::new(move |io| Self::run::<T>(io, &convolution, &sampler)).with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
        let spans = spans(&self.window, &x, &w).map_err(|_| GpuReject::NoKernel)?;
        let (groups, offset_groups) = (self.groups, self.offset_groups);
        families::columns::Deformed { spans, groups, offset_groups }.kernel(site)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, w, offset) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let bias = inputs.optional(3)?.map(RefTensor::as_floats).transpose()?;
        let mask = inputs.optional(4)?;
        let spans = spans(&self.window, &x.shape, &w.shape)?;
        let rank = spans.len();
        let mut shape = vec![x.shape[0], w.shape[0]];
        shape.extend(spans.iter().map(|s| s.output));
        let kernel = &w.shape[2..];
        let taps: usize = kernel.iter().product();
        let read = |image: usize, channel: usize, at: &[f64]| -> Result<f64, OpError> {
            let mut sum = 0.0;
            // Linear interpolation: every element weighs by its nearness along each axis.
            for flat in 0..x.shape[2..].iter().product() {
                let place = RefTensor::unravel(&x.shape[2..], flat);
                let near = place.iter().zip(at).map(|(&p, &a)| (1.0 - (p as f64 - a).abs()).max(0.0));
                let weight: f64 = near.product();
                if weight > 0.0 {
                    let index = [&[image, channel], &place[..]].concat();
                    sum += weight * x.as_floats()?[RefTensor::ravel(&x.shape, &index)];
                }
            }
            Ok(sum)
        };
        let mut out = Vec::new();
        for flat in 0..shape.iter().product() {
            let place = RefTensor::unravel(&shape, flat);
            let (image, filter) = (place[0], place[1]);
            let group = filter / (w.shape[0] / self.groups);
            let mut sum = bias.map_or(0.0, |b| b[filter]);
            for c in 0..w.shape[1] {
                let channel = group * w.shape[1] + c;
                let moved = channel / (x.shape[1] / self.offset_groups);
                for tap in 0..taps {
                    let t = RefTensor::unravel(kernel, tap);
                    let field = |index: usize| [&[image, index], &place[2..]].concat();
                    let mut at = Vec::new();
                    for (axis, s) in spans.iter().enumerate() {
                        let index = field((moved * taps + tap) * rank + axis);
                        let shift = offset.as_floats()?[RefTensor::ravel(&offset.shape, &index)];
                        let base = (place[axis + 2] * s.stride + t[axis] * s.dilation) as f64;
                        at.push(base - s.begin as f64 + shift);
                    }
                    let weight = match mask {
                        Some(m) => m.as_floats()?[RefTensor::ravel(&m.shape, &field(moved * taps + tap))],
                        None => 1.0,
                    };
                    let held = RefTensor::ravel(&w.shape, &[&[filter, c], &t[..]].concat());
                    sum += read(image, channel, &at)? * weight * w.as_floats()?[held];
                }
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
    let opset = *g.pick(&[19, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    // Small inputs: the reference visits every element for every tap.
    let mut draw = draw_conv(g);
    while draw.x[2..].iter().product::<usize>() > 40 || draw.w.iter().product::<usize>() > 120 {
        draw = draw_conv(g);
    }
    draw.attributes.retain(|(name, _)| *name != "auto_pad");
    let attributes = draw.attributes.iter();
    let spec = NodeSpec {
        attributes: attributes.map(|(n, v)| ((*n).into(), v.clone(), std::cell::Cell::new(false))).collect(),
        opset,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    let spans = Window::parse(&spec, true, false).and_then(|window| spans(&window, &draw.x, &draw.w));
    let positions: Vec<usize> = spans.unwrap_or_default().iter().map(|s| s.output).collect();
    let taps: usize = draw.w[2..].iter().product();
    let offset_groups = *g.pick(&[1, draw.x[1]]);
    let field = |per_tap: usize| [&[draw.x[0], offset_groups * taps * per_tap], &positions[..]].concat();
    let mut case = Case::new([
        g.tensor(dtype, &draw.x),
        g.tensor_in(dtype, &draw.w, -1.0, 1.0),
        g.tensor(dtype, &field(positions.len())),
    ])
    .opset(opset);
    let bias = g.chance(0.5).then(|| g.tensor(dtype, &draw.w[..1]));
    let mask = g.chance(0.5).then(|| g.tensor_in(dtype, &field(1), 0.0, 1.0));
    if bias.is_some() || mask.is_some() {
        case = case.optional(bias);
    }
    if mask.is_some() {
        case = case.optional(mask);
    }
    case.attributes = draw.attributes;
    if offset_groups > 1 { case.int("offset_group", offset_groups as i64) } else { case }
}
