//! # LayerNormalization
//! `y = (x − μ) / sqrt(σ² + ε) · scale + b`, with mean `μ` and variance `σ²` over all axes from `axis` on; `scale`
//! and `b` broadcast to `x`. Outputs 1 and 2 are `μ` and `1 / sqrt(σ² + ε)` in f32, or bf16 where `stash_type`
//! says so. Opset 17. Moments in two passes, accumulated in f64; the rest in f32 (f64 for f64).

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::moments::moments;
use crate::cpu::normalization::Normalization;
use crate::cpu::number::{Compute, Number, Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::norm::Rows;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact, broadcast_dims, normal_axis};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, broadcast_index, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use half::bf16;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "LayerNormalization",
    domain: "",
    since: &[17],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct LayerNormalization {
    axis: i64,
    epsilon: f64,
    /// Type of mean and inverse deviation.
    stash: DType,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    Ok(Arc::new(LayerNormalization {
        axis: node.int_or("axis", -1)?,
        epsilon: f64::from(node.float_or("epsilon", 1e-5)?),
        stash: stash_type(node)?,
    }))
}

/// The `stash_type` attribute.
pub(super) fn stash_type(node: &NodeSpec) -> Result<DType, OpError> {
    match node.int_or("stash_type", 1)? {
        1 => Ok(DType::F32),
        16 => Ok(DType::BF16),
        other => Err(OpError::attribute("stash_type", format!("is {other}"))),
    }
}

/// Where the elements of a tensor that broadcasts to `[rows, cols]` lie, `cols` being all axes of a shape
/// from one on.
#[derive(Clone, Debug)]
pub(super) enum Spread {
    /// One element per column, in order.
    Columns,
    /// By tables of offsets.
    Table { rows: Vec<usize>, cols: Vec<usize> },
}

impl Spread {
    /// Of a tensor of shape `from` over `to`, split at `axis`.
    pub(super) fn new(from: &[usize], to: &[usize], axis: usize) -> Self {
        let same = from.len() + axis >= to.len()
            && from.iter().rev().zip(to[axis..].iter().rev()).all(|(a, b)| a == b)
            && from[..(from.len() + axis).saturating_sub(to.len())].iter().all(|&d| d == 1)
            && from.len() + axis - to.len() <= axis;
        if same {
            return Self::Columns;
        }
        let skip = to.len() - from.len();
        let mut strides = vec![0; to.len()];
        let mut stride = 1;
        for (i, &extent) in from.iter().enumerate().rev() {
            strides[skip + i] = if extent == 1 { 0 } else { stride };
            stride *= extent;
        }
        let offsets = |axes: std::ops::Range<usize>| {
            let mut all = vec![0usize];
            for axis in axes {
                let wider = |at: &usize| {
                    let (at, stride) = (*at, strides[axis]);
                    (0..to[axis]).map(move |i| at + i * stride)
                };
                all = all.iter().flat_map(wider).collect();
            }
            all
        };
        Self::Table { rows: offsets(0..axis), cols: offsets(axis..to.len()) }
    }

    /// Position of the element for (row, column).
    pub(super) fn at(&self, row: usize, col: usize) -> usize {
        match self {
            Self::Columns => col,
            Self::Table { rows, cols } => rows[row] + cols[col],
        }
    }
}

/// The normalisation with its shapes known.
#[derive(Debug)]
struct Plan {
    cols: usize,
    epsilon: f64,
    scale: Spread,
    bias: Option<Spread>,
}

impl Plan {
    fn run<T: Real, U: Real>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (x, scale) = (io.input::<T>(0)?, io.input::<T>(1)?);
        let bias = self.bias.as_ref().zip(io.optional_input::<T>(2)?);
        let context = io.context;
        let (y, mean, deviation) = io.three_outputs::<T, U, U>()?;
        let cols = self.cols;
        let many = (PARALLEL_WORK / 8 / cols.max(1)).max(1);
        let pieces = (Chunks::new(y, many * cols), Chunks::new(mean, many), Chunks::new(deviation, many));
        for_each_tile(context, 8 * x.len(), Lanes::none(), &pieces, &|tile, (y, mean, deviation), _| {
            let mut looks = Looks::new(context.interrupt);
            let rows = (y.len().checked_div(cols).unwrap_or(0)).max(mean.len()).max(deviation.len());
            for i in 0..rows {
                let row = tile * many + i;
                let x = &x[row * cols..(row + 1) * cols];
                let (mu, variance) = moments(x, &mut looks)?;
                let inverse = 1.0 / (variance + self.epsilon).sqrt();
                if let Some(mean) = mean.get_mut(i) {
                    *mean = U::from_f64(mu);
                }
                if let Some(deviation) = deviation.get_mut(i) {
                    *deviation = U::from_f64(inverse);
                }
                let Some(y) = y.get_mut(i * cols..(i + 1) * cols) else { continue };
                self.finish(row, (x, y), (scale, bias), (mu, inverse));
            }
            Ok(())
        })
    }

    fn finish<T: Real>(
        &self,
        row: usize,
        (x, y): (&[T], &mut [T]),
        (scale, bias): (&[T], Option<(&Spread, &[T])>),
        (mu, inverse): (f64, f64),
    ) {
        let (mu, inverse) = (T::Compute::from_f64(mu), T::Compute::from_f64(inverse));
        let normal = |x: &T| x.load().sub(mu).mul(inverse);
        match (&self.scale, bias) {
            (Spread::Columns, None) => {
                y.iter_mut().zip(x).zip(scale).for_each(|((y, x), s)| *y = T::store(normal(x).mul(s.load())));
            }
            (Spread::Columns, Some((Spread::Columns, bias))) => {
                for (((y, x), s), b) in y.iter_mut().zip(x).zip(scale).zip(bias) {
                    *y = T::store(normal(x).mul(s.load()).add(b.load()));
                }
            }
            (spread, bias) => {
                for (j, (y, x)) in y.iter_mut().zip(x).enumerate() {
                    let scaled = normal(x).mul(scale[spread.at(row, j)].load());
                    *y = T::store(match bias {
                        Some((spread, bias)) => scaled.add(bias[spread.at(row, j)].load()),
                        None => scaled,
                    });
                }
            }
        }
    }
}

/// The rows of a tensor of `shape` from `axis` on, whose inputs `parameters` have one element per column.
pub(super) fn layer_rows(
    site: &GpuSite<'_>,
    shape: &[usize],
    axis: usize,
    parameters: std::ops::Range<usize>,
) -> Result<Rows, GpuReject> {
    for index in parameters.filter(|&index| site.inputs.has(index)) {
        if !matches!(Spread::new(&site.input_shape(index)?, shape, axis), Spread::Columns) {
            return Err(GpuReject::Form("parameters that are not one per column".into()));
        }
    }
    let span = |extents: &[usize]| extents.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let (rows, length) = span(&shape[..axis]).zip(span(&shape[axis..])).ok_or(GpuReject::NoKernel)?;
    let (centred, epsilon, statistics) = (false, 0.0, DType::F32);
    Ok(Rows { rows, length, period: 1, step: 0, run: 1, centred, epsilon, statistics })
}

/// Checks that input `index` broadcasts to `x` without widening it.
pub(super) fn check_spread(inputs: Facts<'_>, index: usize, x: Option<&[Dim]>) -> Result<(), OpError> {
    let fact = inputs.optional(index)?;
    let (Some(shape), Some(x)) = (fact.and_then(|f| f.shape.as_deref()), x) else { return Ok(()) };
    let wide = broadcast_dims(&[shape, x])?;
    let grown = wide.iter().zip(x).any(|(a, b)| a.known().zip(b.known()).is_some_and(|(a, b)| a != b));
    if wide.len() != x.len() || grown {
        return Err(OpError::input(index, format!("of shape {shape:?} does not broadcast to {x:?}")));
    }
    Ok(())
}

impl Op for LayerNormalization {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let x = inputs.typed(0, FLOATS)?;
        for index in 1..3 {
            if let Some(fact) = inputs.optional(index)?.filter(|f| f.dtype != x.dtype) {
                return Err(OpError::DType { index, got: fact.dtype });
            }
            check_spread(inputs, index, x.shape.as_deref())?;
        }
        let stats = match &x.shape {
            Some(shape) => {
                let axis = normal_axis(self.axis, shape.len())?;
                let mut stats = shape.clone();
                stats[axis..].fill(Dim::Known(1));
                Some(stats)
            }
            None => None,
        };
        let fact = |dtype, shape: &Option<Vec<Dim>>| {
            Fact::from(TensorFact { shape: shape.clone(), ..TensorFact::unranked(dtype) })
        };
        Ok(vec![fact(x.dtype, &x.shape), fact(self.stash, &stats), fact(self.stash, &stats)])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let axes = extents(operand(inputs, 0)?)?.to_vec();
        let first = normal_axis(self.axis, axes.len()).map_err(|_| Opaque::Operator)?;
        let over: Vec<usize> = (first..axes.len()).collect();
        let count =
            over.iter().try_fold(1usize, |n, &a| n.checked_mul(axes[a].known()?)).ok_or(Opaque::Extents)?;
        let here: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
        let spread = |index: usize| broadcast_index(extents(operand(inputs, index)?)?, &axes);
        let scale = spread(1)?;
        let bias = if inputs.has(2) { Some(spread(2)?) } else { None };
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let by_count = |p: &mut Builder, v: Reg| {
            let count = p.constant(p.kind(v), count as f64);
            p.div(v, count)
        };
        let sum = nest.fold(Fold::Sum, &over, &[x], |_, v| v[0])?;
        let squares = nest.fold(Fold::Sum, &over, &[x, sum], |p, v| {
            let mean = by_count(p, v[1]);
            let centred = p.sub(v[0], mean);
            p.mul(centred, centred)
        })?;
        let mut sources = vec![x, sum, squares, nest.read(1, scale, Outside::Never)?];
        if let Some(bias) = bias {
            sources.push(nest.read(2, bias, Outside::Never)?);
        }
        nest.store(here, &over, &sources, |p, v| {
            let mean = by_count(p, v[1]);
            let variance = by_count(p, v[2]);
            let epsilon = p.constant(p.kind(variance), self.epsilon);
            let sum = p.add(variance, epsilon);
            let deviation = p.sqrt(sum);
            let centred = p.sub(v[0], mean);
            let inverse = p.recip(deviation);
            let normal = p.mul(centred, inverse);
            let scaled = p.mul(normal, v[3]);
            v.get(4).map_or(scaled, |&bias| p.add(scaled, bias))
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let axis = normal_axis(self.axis, shape.len())?;
        let spread = |index| Ok::<_, OpError>(Spread::new(&site.input_shape(index)?, &shape, axis));
        let plan = Plan {
            cols: shape[axis..].iter().product(),
            epsilon: self.epsilon,
            scale: spread(1)?,
            bias: if site.inputs.has(2) { Some(spread(2)?) } else { None },
        };
        let statistics = site.wanted.iter().skip(1).any(|&wanted| wanted);
        let columns = |spread: &Spread| matches!(spread, Spread::Columns);
        if !statistics && columns(&plan.scale) && plan.bias.as_ref().is_none_or(columns) {
            let dtype = site.inputs.tensor(0)?.dtype;
            let (length, epsilon, bias) = (plan.cols, plan.epsilon, plan.bias.is_some());
            let form = Normalization { dtype, output: dtype, length, epsilon, centred: true, bias };
            if let Some(kernel) = form.kernel(shape[..axis].iter().product(), site.threads)? {
                return Ok(kernel);
            }
        }
        let stash = self.stash;
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| match stash {
            DType::BF16 => plan.run::<T, bf16>(io),
            _ => plan.run::<T, f32>(io),
        })))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let axis = normal_axis(self.axis, shape.len()).map_err(|_| GpuReject::NoKernel)?;
        let rows = layer_rows(site, &shape, axis, 1..3).map(|rows| Rows {
            centred: true,
            epsilon: self.epsilon,
            statistics: self.stash,
            ..rows
        });
        rows.and_then(|rows| families::norm::kernel(site, &rows))
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, scale, bias) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.optional(2)?);
        let axis = normal_axis(self.axis, x.shape.len())?;
        let cols: usize = x.shape[axis..].iter().product();
        let mut stats_shape = x.shape.clone();
        stats_shape[axis..].fill(1);
        let data = x.as_floats()?;
        let (mut y, mut means, mut deviations) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..stats_shape.iter().product() {
            let line = &data[row * cols..(row + 1) * cols];
            let mean = line.iter().sum::<f64>() / cols as f64;
            let variance = line.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
            let inverse = 1.0 / (variance + self.epsilon).sqrt();
            means.push(mean);
            deviations.push(inverse);
            for (j, v) in line.iter().enumerate() {
                let index = RefTensor::unravel(&x.shape, row * cols + j);
                let of = |t: &RefTensor| {
                    Ok::<f64, OpError>(t.as_floats()?[RefTensor::broadcast_position(&t.shape, &index)])
                };
                let shift = bias.map(of).transpose()?.unwrap_or(0.0);
                y.push((v - mean) * inverse * of(scale)? + shift);
            }
        }
        Ok(vec![
            RefTensor::floats(x.dtype, &x.shape, y).into(),
            RefTensor::floats(self.stash, &stats_shape, means).into(),
            RefTensor::floats(self.stash, &stats_shape, deviations).into(),
        ])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(FLOATS);
    let rank = g.size(1, 4);
    let mut shape = g.shape(rank);
    if g.chance(0.1) {
        shape[rank - 1] = g.size(30, 100);
    }
    let axis = g.axis(rank);
    let from = if axis < 0 { axis + rank as i64 } else { axis } as usize;
    let part = |g: &mut Gen| {
        let shape = if g.chance(0.7) { shape[from..].to_vec() } else { g.broadcastable(&shape) };
        g.tensor(dtype, &shape)
    };
    // An epsilon that keeps lines of equal elements from amplifying the rounding of their mean.
    let mut case = Case::new([g.tensor(dtype, &shape), part(g)]).opset(17).float("epsilon", 0.01);
    if g.chance(0.6) {
        case = case.input(part(g));
    }
    if axis != -1 || g.chance(0.5) {
        case = case.int("axis", axis);
    }
    if g.chance(0.4) {
        case = case.int("stash_type", *g.pick(&[1, 16]));
    }
    let outputs = g.size(1, 3);
    case.outputs(outputs)
}
