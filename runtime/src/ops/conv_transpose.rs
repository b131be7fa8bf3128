//! # ConvTranspose
//! The adjoint of Conv over one to three spatial axes: each input element adds its multiple of the kernel to the
//! output. The output's extent is `stride · (input − 1) + output_padding + (kernel − 1) · dilation + 1 − pads`, or
//! `output_shape`, from which the pads then follow. Opsets 1, 11, 22 (bfloat16).

use super::attributes::{Attribute, NodeSpec};
use super::conv::{check_bias, parse_groups};
use super::window::{AutoPad, Span, Window};
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::number::dispatch;
use crate::cpu::row_epilogue::Finish;
use crate::cpu::transposed_convolution::TransposedConvolution;
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "ConvTranspose",
    domain: "",
    since: &[1, 11, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct ConvTranspose {
    window: Window,
    groups: usize,
    output_padding: Vec<usize>,
    output_shape: Vec<usize>,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(ConvTranspose {
        window: Window::parse(node, true, false)?,
        groups: parse_groups(node)?,
        output_padding: node.sizes("output_padding")?.unwrap_or_default(),
        output_shape: node.sizes("output_shape")?.unwrap_or_default(),
    }))
}

impl ConvTranspose {
    /// The span along `axis` of `rank` of the convolution whose adjoint this is, for an input extent.
    fn span(&self, axis: usize, rank: usize, input: usize, kernel: usize) -> Result<Span, OpError> {
        let list = |v: &[usize], at: usize, default: usize| v.get(at).copied().unwrap_or(default) as i128;
        let (stride, dilation) = (list(&self.window.strides, axis, 1), list(&self.window.dilations, axis, 1));
        if kernel == 0 {
            return Err(OpError::shape("a window has no extent"));
        }
        // Factors from a model have at most 63 bits, so that no product leaves 127.
        let full = stride * (input as i128 - 1)
            + list(&self.output_padding, axis, 0)
            + dilation * (kernel as i128 - 1)
            + 1;
        let same = matches!(self.window.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        let told = match self.output_shape.as_slice() {
            [] if same => Some(input as i128 * stride),
            [] => None,
            // Some exporters give the batch and channel extents too.
            shape => Some(shape[shape.len() - rank + axis] as i128),
        };
        let (output, begin, end) = if let Some(output) = told {
            // A surplus of output beyond what the kernel reaches stays at the bias.
            let total = (full - output).max(0);
            let less = total / 2;
            let upper = self.window.auto_pad == AutoPad::SameUpper;
            if upper { (output, less, total - less) } else { (output, total - less, less) }
        } else if self.window.auto_pad == AutoPad::Valid {
            (full, 0, 0)
        } else {
            let (begin, end) = (list(&self.window.pads, axis, 0), list(&self.window.pads, axis + rank, 0));
            (full - begin - end, begin, end)
        };
        let number = |v: i128| {
            let fits = usize::try_from(v).ok().filter(|&v| v < isize::MAX as usize / 4);
            fits.ok_or_else(|| OpError::shape(format!("an output of extent {output} does not exist")))
        };
        number(full.max(0))?;
        Ok(Span {
            input: number(output)?,
            output: input,
            kernel,
            stride: number(stride)?,
            dilation: number(dilation)?,
            begin: number(begin)?,
            end: number(end)?,
        })
    }

    fn spans(&self, x: &[usize], w: &[usize]) -> Result<Vec<Span>, OpError> {
        let rank = x.len().saturating_sub(2);
        (0..rank).map(|axis| self.span(axis, rank, x[axis + 2], w[axis + 2])).collect()
    }

    fn output(&self, axis: usize, rank: usize, input: &Dim, kernel: &Dim) -> Result<Dim, OpError> {
        if let (Some(input), Some(kernel)) = (input.known(), kernel.known()) {
            return self.span(axis, rank, input, kernel).map(|s| Dim::Known(s.input));
        }
        if let Some(skip) =
            self.output_shape.len().checked_sub(rank).filter(|_| !self.output_shape.is_empty())
        {
            return Ok(Dim::Known(self.output_shape[skip + axis]));
        }
        let stride = self.window.strides.get(axis).copied().unwrap_or(1);
        let Ok(factor) = i64::try_from(stride) else { return Ok(Dim::Unknown) };
        if matches!(self.window.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            return Ok(input.affine(factor, 0));
        }
        let Some(kernel) = kernel.known() else { return Ok(Dim::Unknown) };
        // The extent is linear in the input's: that of a long enough input tells the constant.
        const LONG: usize = 1 << 20;
        let long = self.span(axis, rank, LONG, kernel).ok().and_then(|s| i64::try_from(s.input).ok());
        let offset = long.zip(factor.checked_mul(LONG as i64)).and_then(|(l, f)| l.checked_sub(f));
        Ok(offset.map_or(Dim::Unknown, |offset| input.affine(factor, offset)))
    }

    fn check(&self, x: &[Dim], w: &[Dim]) -> Result<Vec<Dim>, OpError> {
        if x.len() < 3 || x.len() != w.len() {
            let (x, w) = (x.len(), w.len());
            return Err(OpError::shape(format!("an input of rank {x} under weights of rank {w}")));
        }
        let rank = x.len() - 2;
        self.window.check_rank(rank)?;
        let lists = [
            ("output_padding", self.output_padding.len(), rank),
            ("output_shape", self.output_shape.len(), rank + 2),
        ];
        for (name, len, most) in lists {
            if len != 0 && len != rank && len != most {
                return Err(OpError::attribute(name, format!("has {len} numbers")));
            }
        }
        if let (Some(a), Some(b)) = (x[1].known(), w[0].known())
            && (a != b || !a.is_multiple_of(self.groups))
        {
            let groups = self.groups;
            return Err(OpError::shape(format!("{a} channels under weights for {b} in {groups} groups")));
        }
        let filters = w[1].affine(i64::try_from(self.groups).unwrap_or(i64::MAX), 0);
        let mut out = vec![x[0].clone(), filters];
        for axis in 0..rank {
            if let (Some(&told), Some(held)) = (self.window.kernel.get(axis), w[axis + 2].known())
                && told != held
            {
                return Err(OpError::attribute("kernel_shape", format!("says {told}, the weights {held}")));
            }
            let kernel = self.window.kernel.get(axis).map_or(w[axis + 2].clone(), |&k| Dim::Known(k));
            out.push(self.output(axis, rank, &x[axis + 2], &kernel)?);
        }
        Ok(out)
    }

    /// Every output element gathers the taps that reach it. Of stride 1 tap `t` comes from place `o + p − t·d`. Of stride
    /// `s` the place is a quotient, unless outputs are counted as `o = q·s + r`: tap `t` is then weight
    /// `r + p mod s − s + t·s` and comes from place `q + ⌊p / s⌋ + 1 − t`, which needs that `s` divides the extent of the
    /// output and that taps are not apart (`d = 1`).
    fn gathered(&self, inputs: Facts<'_>, outputs: &[Fact], spans: &[Span]) -> Result<Nest, Opaque> {
        let (x, w) = (extents(operand(inputs, 0)?)?, extents(operand(inputs, 1)?)?);
        let y = extents(outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?)?;
        let known = |dim: Option<&Dim>| dim.and_then(Dim::known).ok_or(Opaque::Extents);
        let (channels, filters) = (known(x.get(1))? / self.groups, known(w.get(1))?);
        let mut axes = vec![y[0].clone(), Dim::Known(self.groups), Dim::Known(filters), Dim::Known(channels)];
        let mut over = vec![3];
        let signed = |v: usize| i64::try_from(v).ok();
        let of_group = |axis: usize, each: usize| Affine::axis(axis).plus(1, signed(each)?);
        let filter = of_group(2, filters).ok_or(Opaque::Extents)?;
        let channel = of_group(3, channels).ok_or(Opaque::Extents)?;
        let (mut at, mut tap) = (vec![Affine::axis(0), channel.clone()], vec![channel, Affine::axis(2)]);
        let mut store = vec![Affine::axis(0), filter.clone()];
        for span in spans {
            let first = axes.len();
            let Gathered { extents, place, weight, output } =
                Gathered::of(span, first).ok_or(Opaque::Places)?;
            over.push(first + extents.len() - 1);
            axes.extend(extents);
            at.push(place);
            tap.push(weight);
            store.push(output);
        }
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let border = Outside::Value(0.0);
        let sources = [nest.read(0, at, border)?, nest.read(1, tap, border)?];
        let sum = nest.fold(Fold::Sum, &over, &sources, |p, v| p.mul(v[0], v[1]))?;
        let mut sources = vec![sum];
        if inputs.has(2) {
            sources.push(nest.read(2, vec![filter], Outside::Never)?);
        }
        nest.store(store, &[], &sources, |p, v| v.get(1).map_or(v[0], |&bias| p.add(v[0], bias)))
    }

    /// Launches for strides that no nest has: the input with zeros between its elements, under windows of stride 1.
    fn spread(&self, site: &GpuSite<'_>, spans: &[Span]) -> Result<GpuKernel, GpuReject> {
        let dense: Vec<Span> = spans.iter().map(|span| Span { stride: 1, ..*span }).collect();
        let strides: Vec<usize> = spans.iter().map(|span| span.stride).collect();
        families::conv_transposed::spread(site, &strides, |inputs, outputs| {
            self.gathered(inputs, outputs, &dense)
        })
    }
}

/// One spatial axis of the nest: its loops, the last of them over taps, and what they read and write.
struct Gathered {
    extents: Vec<Dim>,
    place: Affine,
    weight: Affine,
    output: Affine,
}

impl Gathered {
    /// Of `span`, whose first loop is axis `first`.
    fn of(span: &Span, first: usize) -> Option<Self> {
        let signed = |v: usize| i64::try_from(v).ok();
        let Span { input, kernel, stride, dilation, begin, .. } = *span;
        if stride == 1 {
            let place = Affine::axis(first).plus(first + 1, signed(dilation)?.checked_neg()?)?;
            return Some(Self {
                extents: vec![Dim::Known(input), Dim::Known(kernel)],
                place: place.shifted(signed(begin)?)?,
                weight: Affine::axis(first + 1),
                output: Affine::axis(first),
            });
        }
        if dilation != 1 || !input.is_multiple_of(stride) {
            return None;
        }
        let (outer, within, tap) = (first, first + 1, first + 2);
        let (whole, rest) = (begin / stride, begin % stride);
        let taps = (kernel - 1 + stride - rest) / stride + 1;
        let far = signed(stride)?;
        let weight = Affine::axis(within).plus(tap, far)?.shifted(signed(rest)?.checked_sub(far)?)?;
        let place = Affine::axis(outer).plus(tap, -1)?.shifted(signed(whole)?.checked_add(1)?)?;
        let extents = vec![Dim::Known(input / stride), Dim::Known(stride), Dim::Known(taps)];
        let output = Affine::axis(outer).scaled(far)?.plus(within, 1)?;
        Some(Self { extents, place, weight, output })
    }
}

impl Op for ConvTranspose {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let (x, w, bias) = (inputs.typed(0, FLOATS)?, inputs.tensor(1)?, inputs.optional(2)?);
        for (index, fact) in [(1, Some(w)), (2, bias)] {
            if let Some(fact) = fact.filter(|f| f.dtype != x.dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        let shape = match (x.shape.as_deref(), w.shape.as_deref()) {
            (Some(x), Some(w)) => Some(self.check(x, w)?),
            (x, w) => x.or(w).map(|s| vec![Dim::Unknown; s.len()]),
        };
        if let Some(shape) = &shape {
            check_bias(bias, 2, shape.get(1).unwrap_or(&Dim::Unknown))?;
        }
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let known = |dims: &[Dim]| dims.iter().map(Dim::known).collect::<Option<Vec<usize>>>();
        let (x, w) = (extents(operand(inputs, 0)?)?, extents(operand(inputs, 1)?)?);
        // The number of images is no part of a window.
        let image = [&[Dim::Known(1)], x.get(1..).ok_or(Opaque::Operator)?].concat();
        let (image, kernel) = (known(&image).ok_or(Opaque::Extents)?, known(w).ok_or(Opaque::Extents)?);
        let spans = self.spans(&image, &kernel).map_err(|_| Opaque::Extents)?;
        self.gathered(inputs, outputs, &spans)
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let read: f64 = inputs.0.iter().flatten().map(|f| bytes(f)).sum();
        let count = inputs.tensor(0).ok().and_then(TensorFact::element_count).unwrap_or(0) as f64;
        let weights = inputs.tensor(1).ok().and_then(TensorFact::known_shape);
        let each = weights.and_then(|w| crate::tensor::element_count(w.get(1..)?)).unwrap_or(0) as f64;
        Cost { flops: 2.0 * count * each, bytes: read + outputs.iter().map(bytes).sum::<f64>() }
    }

    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        Some(2)
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
        let (biased, epilogue) = (site.inputs.has(2), site.epilogue.cloned());
        let form = (x[1] / self.groups, w[1]);
        let convolution = TransposedConvolution::new(x[0], self.groups, form, &self.spans(&x, &w)?)?;
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            let scratch = convolution.scratch::<T>(site.threads);
            let kernel = Kernel::new(move |io| {
                let bias = if biased { Some(io.input::<T>(2)?) } else { None };
                let operands = (io.input::<T>(0)?, io.input::<T>(1)?, bias);
                let (context, finish) = (io.context, Finish::bind(epilogue.as_deref(), io)?);
                convolution.run(context, operands, io.output_and_scratch(0)?, &finish)
            });
            Ok(kernel.with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
        let spans = self.spans(&x, &w).map_err(|_| GpuReject::NoKernel)?;
        families::conv_transposed::kernel(site, self.groups, &spans)
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
            .or_else(|reject| if site.behind.is_none() { self.spread(site, &spans) } else { Err(reject) })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, w) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let spans = self.spans(&x.shape, &w.shape)?;
        let (data, weights) = (x.as_floats()?, w.as_floats()?);
        let mut shape = vec![x.shape[0], w.shape[1] * self.groups];
        shape.extend(spans.iter().map(|s| s.input));
        let mut out = vec![0.0; shape.iter().product()];
        let per_group = x.shape[1] / self.groups;
        for (from, value) in data.iter().enumerate() {
            let place = RefTensor::unravel(&x.shape, from);
            for tap in 0..w.shape[1..].iter().product() {
                let tap = RefTensor::unravel(&w.shape[1..], tap);
                let mut to = vec![place[0], place[1] / per_group * w.shape[1] + tap[0]];
                for (axis, s) in spans.iter().enumerate() {
                    let at = place[axis + 2] * s.stride + tap[axis + 1] * s.dilation;
                    to.extend(at.checked_sub(s.begin).filter(|&at| at < s.input));
                }
                if to.len() == shape.len() {
                    let mut held = vec![place[1]];
                    held.extend(&tap);
                    out[RefTensor::ravel(&shape, &to)] += value * weights[RefTensor::ravel(&w.shape, &held)];
                }
            }
        }
        if let Some(bias) = inputs.optional(2)? {
            for (flat, y) in out.iter_mut().enumerate() {
                *y += bias.as_floats()?[RefTensor::unravel(&shape, flat)[1]];
            }
        }
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 11, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let rank = g.size(1, 3);
    let most = [0, 20, 7, 4][rank];
    let mut draw = |low: usize, high: usize| (0..rank).map(|_| g.size(low, high)).collect::<Vec<usize>>();
    let (input, kernel) = (draw(1, most), draw(1, 4));
    let (strides, dilations) = (draw(1, 3), draw(1, 2));
    let groups = *g.pick(&[1, 1, 2, 3]);
    let (channels, filters) = (g.size(1, 5), g.size(1, 5));
    let images = if g.chance(0.05) { 0 } else { g.size(1, 2) };
    let x = [&[images, groups * channels], &input[..]].concat();
    let w = [&[groups * channels, filters], &kernel[..]].concat();
    let mut case = Case::new([g.tensor(dtype, &x), g.tensor_in(dtype, &w, -1.0, 1.0)]).opset(opset);
    if g.chance(0.5) {
        case = case.input(g.tensor(dtype, &[groups * filters]));
    }
    let list = |v: &[usize]| Attribute::Ints(v.iter().map(|&v| v as i64).collect());
    case = case.with("strides", list(&strides)).with("dilations", list(&dilations));
    if groups > 1 || g.chance(0.3) {
        case = case.int("group", groups as i64);
    }
    if g.chance(0.4) {
        case = case.with("kernel_shape", list(&kernel));
    }
    let padding: Vec<usize> = strides.iter().map(|&s| g.size(0, s - 1)).collect();
    if g.chance(0.5) {
        case = case.with("output_padding", list(&padding));
    }
    let reach = |i: usize| strides[i] * (input[i] - 1) + (kernel[i] - 1) * dilations[i] + 1;
    match g.size(0, 5) {
        0 => case.string("auto_pad", "SAME_UPPER"),
        1 => case.string("auto_pad", "SAME_LOWER"),
        2 => case.string("auto_pad", "VALID"),
        3 => {
            let shape: Vec<usize> = (0..rank).map(|i| g.size(reach(i).div_ceil(2), reach(i) + 2)).collect();
            case.with("output_shape", list(&shape))
        }
        4 => {
            // At most what leaves one element.
            let pads: Vec<usize> = (0..2 * rank).map(|i| g.size(0, (reach(i % rank) - 1) / 2)).collect();
            case.with("pads", list(&pads))
        }
        _ => case,
    }
}
