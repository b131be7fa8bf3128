//! # Conv
//! `y[n, m, p] = b[m] + Σ_{c, t} w[m, c, t] · x[n, g(m)·C/G + c, p·stride + t·dilation − pad]` over one to three
//! spatial axes, zero outside the input. Opsets 1, 11, 22 (bfloat16).

use super::attributes::NodeSpec;
use super::blocked_conv::BlockedConv;
use super::draw_window::draw_conv;
use super::mat_mul::product_cost;
use super::q_linear_conv::QLinearConv;
use super::window::{Span, Window};
use super::{Accuracy, Cost, InBlocks, Making, Op, OpDef, OpName, PackSite, Packed};
use crate::cpu::blocked::Channels;
use crate::cpu::contraction::scratch_of;
use crate::cpu::convolution::Convolution;
use crate::cpu::direct_convolution::{
    DirectConvolution, Operands, PackedFilters, Weights, is_few, pack, reaches,
};
use crate::cpu::number::dispatch;
use crate::cpu::panel_matrix::PanelMatrix;
use crate::cpu::pointwise_convolution::{self, PointwiseConvolution};
use crate::cpu::row_epilogue::Finish;
use crate::cpu::simd::Level;
use crate::cpu::winograd::{self, PackedPoints, Winograd};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Conv",
    domain: "",
    since: &[1, 11, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct Conv {
    window: Window,
    groups: usize,
}

impl Conv {
    /// Whether windows of extents `kernel` are one element each, of all of the input in order.
    fn is_pointwise(&self, kernel: &[usize]) -> bool {
        let steps = || self.window.strides.iter().chain(&self.window.dilations);
        let all_one = kernel.iter().all(|&k| k == 1) && steps().all(|&s| s == 1);
        all_one && self.window.pads.iter().all(|&p| p == 0)
    }
}

impl Conv {
    /// The size of the tiles by which weights of shape `w` over `x` are best computed, where they are by Winograd's way.
    fn tile_size(&self, x: &TensorFact, w: &[usize]) -> Option<usize> {
        let known: Option<Vec<usize>> = x.shape.as_deref()?.iter().skip(1).map(Dim::known).collect();
        let x = [&[1], known?.as_slice()].concat();
        let spans = spans(&self.window, &x, w).ok().filter(|_| self.groups == 1)?;
        winograd::choose(Level::detect(), w[1], w[0], &spans)
    }
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(Conv { window: Window::parse(node, true, false)?, groups: parse_groups(node)? }))
}

/// The `group` attribute.
pub(super) fn parse_groups(node: &NodeSpec) -> Result<usize, OpError> {
    let groups = node.int_or("group", 1)?;
    match usize::try_from(groups) {
        Ok(groups) if groups > 0 => Ok(groups),
        _ => Err(OpError::attribute("group", format!("is {groups}"))),
    }
}

/// The shape of the output for an input of shape `x` and weights of shape `w`.
pub(super) fn output_dims(
    window: &Window,
    groups: usize,
    x: Option<&[Dim]>,
    w: Option<&[Dim]>,
) -> Result<Option<Vec<Dim>>, OpError> {
    let (Some(x), Some(w)) = (x, w) else {
        let known = x.or(w).map(<[Dim]>::len);
        return Ok(known.map(|rank| vec![Dim::Unknown; rank]));
    };
    if x.len() < 3 || x.len() != w.len() {
        return Err(OpError::shape(format!(
            "an input of rank {} under weights of rank {}",
            x.len(),
            w.len()
        )));
    }
    let rank = x.len() - 2;
    window.check_rank(rank)?;
    if let (Some(channels), Some(per_group)) = (x[1].known(), w[1].known())
        && per_group.checked_mul(groups) != Some(channels)
    {
        return Err(OpError::shape(format!("{channels} channels are not {groups} groups of {per_group}")));
    }
    if let Some(filters) = w[0].known().filter(|filters| !filters.is_multiple_of(groups)) {
        return Err(OpError::shape(format!("{filters} filters do not fall into {groups} groups")));
    }
    let mut out = vec![x[0].clone(), w[0].clone()];
    for axis in 0..rank {
        let kernel = match (window.kernel.get(axis), w[axis + 2].known()) {
            (Some(&told), Some(held)) if told != held => {
                return Err(OpError::attribute("kernel_shape", format!("says {told}, the weights {held}")));
            }
            (Some(&told), _) => Dim::Known(told),
            (None, _) => w[axis + 2].clone(),
        };
        out.push(window.output(axis, rank, &x[axis + 2], &kernel)?);
    }
    Ok(Some(out))
}

/// The spans over the spatial axes of an input of shape `x` under weights of shape `w`.
pub(super) fn spans(window: &Window, x: &[usize], w: &[usize]) -> Result<Vec<Span>, OpError> {
    let rank = x.len().saturating_sub(2);
    (0..rank).map(|axis| window.span(axis, rank, x[axis + 2], w[axis + 2])).collect()
}

/// Checks a bias of one element per filter.
pub(super) fn check_bias(bias: Option<&TensorFact>, index: usize, filters: &Dim) -> Result<(), OpError> {
    match bias.and_then(|b| b.shape.as_deref()) {
        None => Ok(()),
        Some([extent]) if extent.known().zip(filters.known()).is_none_or(|(a, b)| a == b) => Ok(()),
        Some(shape) => {
            Err(OpError::input(index, format!("of shape {shape:?} is no bias of {filters} filters")))
        }
    }
}

/// The shape of the reference's output.
pub(super) fn reference_shape(spans: &[Span], x: &[usize], w: &[usize]) -> Vec<usize> {
    let mut shape = vec![x[0], w[0]];
    shape.extend(spans.iter().map(|s| s.output));
    shape
}

/// Calls `term` with the positions in the output, the input and the weights of every product of the reference.
pub(super) fn reference_terms(
    spans: &[Span],
    groups: usize,
    (x, w): (&[usize], &[usize]),
    mut term: impl FnMut(usize, usize, usize),
) {
    let shape = reference_shape(spans, x, w);
    let (per_group, per_filter) = (w[1], w[0] / groups);
    for flat in 0..shape.iter().product() {
        let place = RefTensor::unravel(&shape, flat);
        let filter = place[1];
        for tap in 0..w[1..].iter().product() {
            let tap = RefTensor::unravel(&w[1..], tap);
            let mut from = vec![place[0], filter / per_filter * per_group + tap[0]];
            for (axis, span) in spans.iter().enumerate() {
                let at = place[axis + 2] * span.stride + tap[axis + 1] * span.dilation;
                from.extend(at.checked_sub(span.begin).filter(|&at| at < span.input));
            }
            if from.len() == x.len() {
                let mut to = vec![filter];
                to.extend(&tap);
                term(flat, RefTensor::ravel(x, &from), RefTensor::ravel(w, &to));
            }
        }
    }
}

/// A convolution as loops: image, group, filter of the group, positions; then channel of the group and taps, which are summed.
pub(super) struct Loops {
    pub(super) axes: Vec<Dim>,
    pub(super) over: Vec<usize>,
    /// Places of an element of the input, of a weight, of the result, and of a filter among those of all groups.
    pub(super) at: Vec<Affine>,
    pub(super) tap: Vec<Affine>,
    pub(super) store: Vec<Affine>,
    pub(super) filter: Affine,
}

/// The loops from an input of shape `x` under weights of shape `w` to a result of shape `y`.
pub(super) fn loops(
    window: &Window,
    groups: usize,
    x: &[Dim],
    w: &[Dim],
    y: &[Dim],
) -> Result<Loops, Opaque> {
    let known = |dims: &[Dim]| dims.iter().map(Dim::known).collect::<Option<Vec<usize>>>();
    // The number of images is no part of a window.
    let image = [&[Dim::Known(1)], x.get(1..).ok_or(Opaque::Operator)?].concat();
    let (x_known, w_known) = (known(&image).ok_or(Opaque::Extents)?, known(w).ok_or(Opaque::Extents)?);
    let spans = spans(window, &x_known, &w_known).map_err(|_| Opaque::Extents)?;
    let (rank, filters, channels) = (spans.len(), w_known[0] / groups, w_known[1]);
    let (group, filter, depth) = (1, 2, 3 + rank);
    let signed = |v: usize| i64::try_from(v).ok();
    let index = || {
        let of_filter = Affine::axis(filter).plus(group, signed(filters)?)?;
        let mut at = vec![Affine::axis(0), Affine::axis(depth).plus(group, signed(channels)?)?];
        let mut tap = vec![of_filter.clone(), Affine::axis(depth)];
        let mut store = vec![Affine::axis(0), of_filter.clone()];
        for (i, span) in spans.iter().enumerate() {
            let moved = Affine::axis(3 + i).scaled(signed(span.stride)?)?;
            let moved = moved.plus(depth + 1 + i, signed(span.dilation)?)?;
            at.push(moved.shifted(-signed(span.begin)?)?);
            tap.push(Affine::axis(depth + 1 + i));
            store.push(Affine::axis(3 + i));
        }
        Some((at, tap, store, of_filter))
    };
    let (at, tap, store, of_filter) = index().ok_or(Opaque::Extents)?;
    let mut axes = vec![y[0].clone(), Dim::Known(groups), Dim::Known(filters)];
    axes.extend_from_slice(&y[2..]);
    axes.push(Dim::Known(channels));
    axes.extend_from_slice(&w[2..]);
    let over: Vec<usize> = (depth..axes.len()).collect();
    Ok(Loops { axes, over, at, tap, store, filter: of_filter })
}

impl Op for Conv {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let (x, w, bias) = (inputs.typed(0, FLOATS)?, inputs.tensor(1)?, inputs.optional(2)?);
        for (index, fact) in [(1, Some(w)), (2, bias)] {
            if let Some(fact) = fact.filter(|f| f.dtype != x.dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
        }
        let shape = output_dims(&self.window, self.groups, x.shape.as_deref(), w.shape.as_deref())?;
        if let Some(shape) = &shape {
            check_bias(bias, 2, &shape[1])?;
        }
        Ok(vec![TensorFact { shape, ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn weight_channel_axis(&self) -> Option<usize> {
        Some(0)
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let weights = inputs.tensor(1).ok().and_then(TensorFact::known_shape);
        let depth = weights.and_then(|w| crate::tensor::element_count(w.get(1..)?));
        product_cost(inputs, outputs, depth)
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (x, w) = (extents(operand(inputs, 0)?)?, extents(operand(inputs, 1)?)?);
        let y = extents(outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?)?;
        let Loops { axes, over, at, tap, store, filter } = loops(&self.window, self.groups, x, w, y)?;
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let sources = [nest.read(0, at, Outside::Value(0.0))?, nest.read(1, tap, Outside::Never)?];
        let sum = nest.fold(Fold::Sum, &over, &sources, |p, v| p.mul(v[0], v[1]))?;
        let mut sources = vec![sum];
        if inputs.has(2) {
            sources.push(nest.read(2, vec![filter], Outside::Never)?);
        }
        nest.store(store, &[], &sources, |p, v| v.get(1).map_or(v[0], |&bias| p.add(v[0], bias)))
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        let (Ok(x), Ok(w)) = (site.inputs.tensor(0), site.inputs.tensor(1)) else { return Ok(None) };
        let (Some(weights), Some(shape)) = (w.as_constant(), w.known_shape()) else { return Ok(None) };
        let [filters, channels, kernel @ ..] = shape.as_slice() else { return Ok(None) };
        let fits = x.dtype == DType::F32 && w.dtype == DType::F32 && filters.is_multiple_of(self.groups);
        if !fits || kernel.contains(&0) || !reaches(kernel, &self.window.dilations) {
            return Ok(None);
        }
        if self.is_pointwise(kernel) {
            return if self.groups == 1 { pointwise_convolution::pack(site, x, weights) } else { Ok(None) };
        }
        if let Some(size) = self.tile_size(x, &shape) {
            let (bytes, form) = (weights.view().bytes(), (*filters, *channels, size));
            let packed = winograd::pack(Level::detect(), bytes, form, site.budget, site.release)?;
            return Ok(Some(Packed { data: Arc::new(packed), consumed: vec![1] }));
        }
        let depth = kernel.iter().try_fold(*channels, |n, k| n.checked_mul(*k));
        let form = (self.groups, filters / self.groups, depth.ok_or_else(|| site.budget.overflow())?);
        let packed = pack(Level::detect(), weights.view().bytes(), form, site.budget, site.release)?;
        Ok(packed.map(|packed| Packed { data: Arc::new(packed), consumed: vec![1] }))
    }

    fn quantised(&self) -> Option<(Arc<dyn Op>, &'static str)> {
        let op = QLinearConv { window: self.window.clone(), groups: self.groups };
        Some((Arc::new(op), "QLinearConv"))
    }

    fn in_blocks(&self, inputs: Facts<'_>) -> Option<InBlocks> {
        let (x, w) = (inputs.tensor(0).ok()?, inputs.tensor(1).ok()?);
        let (shape, kernel) = (w.as_constant()?.shape(), w.known_shape()?);
        let &[filters, depth, ..] = shape else { return None };
        let given = x.shape.as_deref()?.get(1)?.known()?;
        let channels = if self.groups == 1 && given == depth {
            Channels::All { channels: depth, filters }
        } else if self.groups == filters && given == filters && depth == 1 {
            Channels::Each(filters)
        } else {
            return None;
        };
        let known = x.shape.as_deref()?.iter().skip(2).all(|extent| extent.known().is_some());
        let of_floats = x.dtype == DType::F32 && w.dtype == DType::F32;
        let fits = known && shape.len() == 4 && channels.fit() && !kernel[2..].contains(&0);
        if !of_floats || !fits || !reaches(&kernel[2..], &self.window.dilations) {
            return None;
        }
        let op = BlockedConv { window: self.window.clone(), channels };
        let name = OpName { domain: "recurve", name: "BlockedConv" };
        Some(InBlocks { op: Arc::new(op), name, plain: !channels.in_blocks() })
    }

    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        Some(2)
    }

    fn making(&self, inputs: Facts<'_>) -> Making {
        let (Ok(x), Ok(w)) = (inputs.tensor(0), inputs.tensor(1)) else { return Making::Nothing };
        let Some(shape) = w.known_shape() else { return Making::Windows };
        let [filters, channels, kernel @ ..] = shape.as_slice() else { return Making::Nothing };
        if self.is_pointwise(kernel) {
            return Making::InPlace;
        }
        let packed = w.as_constant().is_some() || is_few(filters / self.groups) || *channels == 1;
        let direct = x.dtype == DType::F32 && *channels > 0 && reaches(kernel, &self.window.dilations);
        if packed && direct { Making::Planes } else { Making::Windows }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
        let spans = spans(&self.window, &x, &w)?;
        let form = (w[1], w[0] / self.groups);
        let (biased, epilogue, fill) = (site.inputs.has(2), site.epilogue.cloned(), site.prologue.cloned());
        if let Some(weights) = site.packed_as::<PackedPoints>() {
            let fast = Winograd::new(x[0], &spans, &weights);
            let fast = fast.ok_or_else(|| OpError::shape("the window's extents are too large"))?;
            let fast = if fill.is_some() { fast.of_made_planes() } else { fast };
            let scratch = fast.scratch(site.threads);
            let kernel = Kernel::new(move |io| {
                let bias = if biased { Some(io.input::<f32>(2)?) } else { None };
                let made = fill.as_deref().map(|fill| fill.bind(io)).transpose()?;
                let x = if made.is_some() { &[][..] } else { io.input::<f32>(0)? };
                let operands = winograd::Operands { x, made: made.as_ref(), weights: &weights, bias };
                let finish = Finish::bind(epilogue.as_deref(), io)?;
                fast.run(io.context, operands, io.output_and_scratch(0)?, &finish)
            });
            return Ok(kernel.with_scratch(scratch));
        }
        if let Some(weights) = site.packed_as::<PanelMatrix>() {
            let positions = spans.iter().fold(1usize, |n, s| n.saturating_mul(s.output));
            let pointwise = PointwiseConvolution::new(x[0], form, positions, site.threads);
            return Ok(pointwise.kernel(weights, biased, epilogue, site.threads));
        }
        let packed = site.packed_as::<PackedFilters>();
        // Groups of one channel or of few filters are read as they are; without channels nothing is read.
        let alone = site.inputs.tensor(0)?.dtype == DType::F32
            && (form.0 == 1 || form.0 > 0 && is_few(form.1))
            && reaches(&w[2..], &self.window.dilations);
        if packed.is_some() || alone {
            let direct = DirectConvolution::new(x[0], self.groups, form, &spans);
            let direct = direct.ok_or_else(|| OpError::shape("the window's extents are too large"))?;
            let direct = if fill.is_some() { direct.of_made_planes() } else { direct };
            let scratch = direct.scratch(site.threads);
            let kernel = Kernel::new(move |io| {
                let bias = if biased { Some(io.input::<f32>(2)?) } else { None };
                let weights = match &packed {
                    Some(packed) => Weights::Packed(packed),
                    None => Weights::Rows(io.input::<f32>(1)?),
                };
                let made = fill.as_deref().map(|fill| fill.bind(io)).transpose()?;
                let x = if made.is_some() { &[][..] } else { io.input::<f32>(0)? };
                let operands = Operands { x, made: made.as_ref(), weights, bias };
                let finish = Finish::bind(epilogue.as_deref(), io)?;
                direct.run(io.context, operands, io.output_and_scratch(0)?, &finish)
            });
            return Ok(kernel.with_scratch(scratch));
        }
        let convolution = Convolution::new(x[0], self.groups, form, &spans)?;
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            // What is gathered block by block is made in whole before.
            let count = if fill.is_some() { site.inputs.tensor(0)?.element_count() } else { Some(0) };
            let bytes = count.and_then(|n| n.checked_mul(size_of::<T>())?.checked_next_multiple_of(64));
            let whole = bytes.ok_or_else(|| OpError::shape("the input's extents are too large"))?;
            let scratch = convolution.scratch::<T>(site.threads).saturating_add(whole);
            let kernel = Kernel::new(move |io| {
                let bias = if biased { Some(io.input::<T>(2)?) } else { None };
                let made = fill.as_deref().map(|fill| fill.bind(io)).transpose()?;
                let (w, given) = (io.input::<T>(1)?, if made.is_some() { &[][..] } else { io.input::<T>(0)? });
                let finish = Finish::bind(epilogue.as_deref(), io)?;
                let context = io.context;
                let (y, scratch) = io.output_and_scratch(0)?;
                let (first, scratch) = scratch.split_at_mut(whole.min(scratch.len()));
                let x = match made {
                    Some(made) => {
                        let x = scratch_of::<T>(first, count.unwrap_or(0))?;
                        made.fill_all(context, x)?;
                        &*x
                    }
                    None => given,
                };
                convolution.run(context, (x, w, bias), (y, scratch), &finish)
            });
            Ok(kernel.with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (x, w) = (site.input_shape(0)?, site.input_shape(1)?);
        let spans = spans(&self.window, &x, &w).map_err(|_| GpuReject::NoKernel)?;
        families::conv::kernel(site, self.groups, &spans)
            .or_else(|reject| site.of_nest(reject, || self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, w) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let bias = inputs.optional(2)?.map(RefTensor::as_floats).transpose()?;
        let spans = spans(&self.window, &x.shape, &w.shape)?;
        let (data, weights) = (x.as_floats()?, w.as_floats()?);
        let shape = reference_shape(&spans, &x.shape, &w.shape);
        let place = |flat: usize| RefTensor::unravel(&shape, flat)[1];
        let count = shape.iter().product();
        let mut out: Vec<f64> = (0..count).map(|flat| bias.map_or(0.0, |b| b[place(flat)])).collect();
        reference_terms(&spans, self.groups, (&x.shape, &w.shape), |flat, from, to| {
            out[flat] += data[from] * weights[to];
        });
        Ok(vec![RefTensor::floats(x.dtype, &shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 11, 22]);
    let dtype = if opset < 22 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    debug_assert!(opset >= 22 || dtype != DType::BF16);
    let draw = draw_conv(g);
    let mut case = Case::new([g.tensor(dtype, &draw.x), g.tensor_in(dtype, &draw.w, -1.0, 1.0)]).opset(opset);
    case.attributes = draw.attributes;
    if g.chance(0.5) {
        case = case.input(g.tensor(dtype, &draw.w[..1]));
    }
    if g.chance(0.5) { case.constant(1) } else { case }
}
