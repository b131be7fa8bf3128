//! # MaxPool
//! The largest element of each window, and where it was first found: its index in the whole input, counted
//! row-major, or column-major over the spatial axes when `storage_order` is 1. Padding is never the largest.
//! Opsets 1, 8 (indices), 10 (dilations, `ceil_mode`), 11, 12 (8-bit integers), 22 (bfloat16).

use super::attributes::NodeSpec;
use super::draw_window::draw_window;
use super::window::{Span, Window};
use super::{Accuracy, Cost, InBlocks, Making, Op, OpDef, OpName};
use crate::cpu::number::dispatch;
use crate::cpu::pool::{Around, LargestAt, Pool};
use crate::cpu::{CpuSite, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Source, Stages, extents, operand};
use crate::reference::{RefData, RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "MaxPool",
    domain: "",
    since: &[1, 8, 10, 11, 12, 22],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Exact,
    parse,
    case,
};

const DTYPES: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::U8];

#[derive(Debug)]
struct MaxPool {
    window: Window,
    column_major: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let window = Window::parse(node, node.opset >= 10, node.opset >= 10)?;
    window.required_kernel()?;
    let column_major = node.opset >= 8 && node.flag_or("storage_order", false)?;
    Ok(Arc::new(MaxPool { window, column_major }))
}

/// The shape of the pooled input of shape `x`.
pub(super) fn pooled_dims(window: &Window, x: Option<&[Dim]>) -> Result<Vec<Dim>, OpError> {
    let kernel = window.required_kernel()?;
    let rank = kernel.len();
    window.check_rank(rank)?;
    let Some(x) = x else { return Ok(vec![Dim::Unknown; rank + 2]) };
    if x.len() != rank + 2 {
        return Err(OpError::shape(format!("a window of rank {rank} over a tensor of rank {}", x.len())));
    }
    let mut out = x[..2].to_vec();
    for axis in 0..rank {
        out.push(window.output(axis, rank, &x[axis + 2], &Dim::Known(kernel[axis]))?);
    }
    Ok(out)
}

/// The spans over the spatial axes of an input of shape `x`.
pub(super) fn pool_spans(window: &Window, x: &[usize]) -> Result<Vec<Span>, OpError> {
    let kernel = window.required_kernel()?;
    let rank = kernel.len();
    (0..rank).map(|axis| window.span(axis, rank, x[axis + 2], kernel[axis])).collect()
}

/// Loops over the outputs of a pool and, behind their axes, over the taps of windows, with the read of a tap; taps
/// outside the input are skipped. The axes of taps are the last result.
pub(super) fn windows<'a>(
    window: &Window,
    inputs: Facts<'a>,
    outputs: &[Fact],
) -> Result<(Stages<'a>, Source, Vec<usize>), Opaque> {
    let x = extents(operand(inputs, 0)?)?;
    let y = extents(outputs.first().and_then(Fact::tensor).ok_or(Opaque::Operator)?)?;
    let shape = x.iter().map(Dim::known).collect::<Option<Vec<usize>>>().ok_or(Opaque::Extents)?;
    let spans = pool_spans(window, &shape).map_err(|_| Opaque::Extents)?;
    let depth = y.len();
    let index = || {
        let signed = |v: usize| i64::try_from(v).ok();
        let mut at = vec![Affine::axis(0), Affine::axis(1)];
        for (i, span) in spans.iter().enumerate() {
            let moved = Affine::axis(2 + i).scaled(signed(span.stride)?)?;
            at.push(moved.plus(depth + i, signed(span.dilation)?)?.shifted(-signed(span.begin)?)?);
        }
        Some(at)
    };
    let at = index().ok_or(Opaque::Extents)?;
    let mut axes = y.to_vec();
    axes.extend(spans.iter().map(|s| Dim::Known(s.kernel)));
    let taps: Vec<usize> = (depth..axes.len()).collect();
    if taps.is_empty() {
        return Err(Opaque::Operator);
    }
    let mut nest = Stages::over(inputs, outputs, axes)?;
    let x = nest.read(0, at, Outside::Skipped)?;
    Ok((nest, x, taps))
}

/// Work of a pool: one operation per tap.
pub(super) fn pool_cost(window: &Window, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
    let taps: f64 = window.kernel.iter().map(|&k| k as f64).product();
    let count = |f: &Fact| f.tensor().and_then(TensorFact::element_count).unwrap_or(0) as f64;
    let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
    Cost {
        flops: taps * outputs.first().map_or(0.0, count),
        bytes: inputs.0.iter().flatten().map(|f| bytes(f)).sum::<f64>()
            + outputs.iter().map(bytes).sum::<f64>(),
    }
}

/// For each output element of the reference, the positions in the input of the taps inside it.
pub(super) fn reference_windows(spans: &[Span], x: &[usize]) -> (Vec<usize>, Vec<Vec<usize>>) {
    let mut shape = x[..2].to_vec();
    shape.extend(spans.iter().map(|s| s.output));
    let kernel: Vec<usize> = spans.iter().map(|s| s.kernel).collect();
    let mut windows = Vec::new();
    for flat in 0..shape.iter().product() {
        let place = RefTensor::unravel(&shape, flat);
        let mut taps = Vec::new();
        for tap in 0..kernel.iter().product() {
            let tap = RefTensor::unravel(&kernel, tap);
            let mut from = place[..2].to_vec();
            for (axis, span) in spans.iter().enumerate() {
                let at = (place[axis + 2] * span.stride + tap[axis] * span.dilation).checked_sub(span.begin);
                from.extend(at.filter(|&at| at < span.input));
            }
            if from.len() == x.len() {
                taps.push(RefTensor::ravel(x, &from));
            }
        }
        windows.push(taps);
    }
    (shape, windows)
}

impl Op for MaxPool {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, DTYPES)?;
        let shape = pooled_dims(&self.window, x.shape.as_deref())?;
        Ok(vec![TensorFact::new(x.dtype, shape.clone()).into(), TensorFact::new(DType::I64, shape).into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        pool_cost(&self.window, inputs, outputs)
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let (mut nest, x, taps) = windows(&self.window, inputs, outputs)?;
        if !nest.kind().is_float() {
            // The largest integer of no taps depends on the type.
            return Err(Opaque::Type);
        }
        let most = nest.fold(Fold::Max, &taps, &[x], |_, v| v[0])?;
        nest.store((0..taps[0]).map(Affine::axis).collect(), &[], &[most], |_, v| v[0])
    }

    fn in_blocks(&self, _inputs: Facts<'_>) -> Option<InBlocks> {
        let op = MaxPool { window: self.window.over_blocks(), column_major: self.column_major };
        let name = OpName { domain: "", name: DEF.name };
        (self.window.kernel.len() == 2).then(|| InBlocks { op: Arc::new(op), name, plain: false })
    }

    fn epilogue_rows(&self, _inputs: Facts<'_>) -> Option<usize> {
        Some(2)
    }

    fn making(&self, _inputs: Facts<'_>) -> Making {
        Making::Planes
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let pool = Pool::new(&pool_spans(&self.window, &site.input_shape(0)?)?)?;
        let (plane, extents) = (pool.input_plane(), pool.spans.map(|s| s.input));
        let column_major = self.column_major;
        let indices = site.wanted.get(1).copied().unwrap_or(false);
        let (around, threads) = (Around::of(site), site.threads);
        dispatch!(site.inputs.tensor(0)?.dtype, numbers, T => {
            let scratch = around.scratch::<T>(&pool, threads);
            let kernel = Kernel::new(move |io| {
            let run = around.bind::<T>(io)?;
            let context = io.context;
            if !indices {
                return pool.largest(context, &run, io.output_and_scratch::<T>(0)?);
            }
            // What makes both is no group's anchor: nothing is made in scratch memory.
            let (y, indices) = io.two_outputs::<T, i64>()?;
            pool.run(context, &run, (y, indices, &mut []), &LargestAt, &|y, at, found, [image, ..]| {
                y.iter_mut().zip(found).for_each(|(y, (most, _))| *y = *most);
                for (at, &(_, index)) in at.iter_mut().zip(found) {
                    let [depth, height, width] = extents;
                    let index = match index {
                        // No tap is inside the input.
                        usize::MAX => 0,
                        index if column_major => {
                            let (z, y, x) = (index / width / height, index / width % height, index % width);
                            // The first spatial axis runs fastest.
                            z + depth * (y + height * x)
                        }
                        index => index,
                    };
                    *at = (image * plane + index) as i64;
                }
            })
        });
            Ok(kernel.with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        if site.behind.is_some() {
            return Err(GpuReject::Form("a pool with a program behind it".into()));
        }
        let spans = pool_spans(&self.window, &site.input_shape(0)?).map_err(|_| GpuReject::NoKernel)?;
        let pool = recurve_kernels::pool::Pool::Max { column_major: self.column_major };
        families::pool::kernel(site, &spans, pool)
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let spans = pool_spans(&self.window, &x.shape)?;
        let (shape, windows) = reference_windows(&spans, &x.shape);
        let greater = |a: usize, b: usize| match &x.data {
            RefData::Float(v) => v[a] > v[b] || (v[a].is_nan() && !v[b].is_nan()),
            RefData::Int(v) => v[a] > v[b],
            _ => false,
        };
        let best =
            |w: &Vec<usize>| w.iter().copied().reduce(|best, at| if greater(at, best) { at } else { best });
        let best: Vec<Option<usize>> = windows.iter().map(best).collect();
        // A window in the padding alone has the lowest value, and the place of its plane.
        let lowest = if x.dtype == DType::I8 { -128 } else { 0 };
        let values = if let RefData::Float(v) = &x.data {
            let data = best.iter().map(|b| b.map_or(f64::NEG_INFINITY, |b| v[b])).collect();
            RefTensor::floats(x.dtype, &shape, data)
        } else {
            let v = x.as_ints()?;
            RefTensor::ints(x.dtype, &shape, best.iter().map(|b| b.map_or(lowest, |b| v[b])).collect())
        };
        let pooled: usize = shape[2..].iter().product();
        let spatial = &x.shape[2..];
        let plane: usize = spatial.iter().product();
        let index = |(flat, at): (usize, &Option<usize>)| {
            let Some(at) = *at else { return (flat / pooled * plane) as i128 };
            if !self.column_major {
                return at as i128;
            }
            let place = RefTensor::unravel(spatial, at % plane);
            let within = place.iter().zip(spatial).rev().fold(0, |flat, (&i, &extent)| flat * extent + i);
            (at / plane * plane + within) as i128
        };
        let indices = RefTensor::ints(DType::I64, &shape, best.iter().enumerate().map(index).collect());
        Ok(vec![values.into(), indices.into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Draws a use of a pool in one of the versions `opsets`, with dilations from `dilations` and `ceil_mode` from
/// version 10 on.
pub(super) fn draw_pool(g: &mut Gen, opset: i64, dilations: i64, dtype: DType) -> Case {
    let rank = g.size(1, 3);
    let draw = draw_window(g, rank, opset >= dilations);
    let mut shape = vec![if g.chance(0.05) { 0 } else { g.size(1, 2) }, g.size(1, 4)];
    shape.extend(&draw.input);
    let mut case = Case::new([g.any_tensor(dtype, &shape)]).opset(opset);
    case.attributes = draw.attributes;
    let kernel: Vec<i64> = draw.kernel.iter().map(|&k| k as i64).collect();
    case = case.ints("kernel_shape", &kernel);
    if opset >= 10 && g.chance(0.5) {
        case = case.int("ceil_mode", g.int(0, 1));
    }
    case
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 8, 10, 11, 12, 22]);
    let dtypes = match opset {
        ..12 => &DTYPES[..3],
        _ => DTYPES,
    };
    let dtype = *g.pick(dtypes);
    let dtype = if opset < 22 && dtype == DType::BF16 { DType::I8 } else { dtype };
    let mut case = draw_pool(g, opset, 10, dtype);
    if opset >= 8 && g.chance(0.5) {
        case = case.outputs(2);
        if g.chance(0.5) {
            case = case.int("storage_order", g.int(0, 1));
        }
    }
    case
}
