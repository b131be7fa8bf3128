//! # RMSNormalization
//! `y = x / sqrt(mean(x²) + ε) · scale`, the mean over all axes from `axis` on; `scale` broadcasts to `x`, and its
//! type is the result's. Opset 23. The mean is accumulated in f64.

use super::attributes::NodeSpec;
use super::layer_normalization::{Spread, check_spread, layer_rows, stash_type};
use super::{Accuracy, Op, OpDef};
use crate::cpu::moments::sum_of;
use crate::cpu::normalization::Normalization;
use crate::cpu::number::{Compute, Number, Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::norm::Rows;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axis};
use crate::loops::program::Kind;
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, broadcast_index, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "RMSNormalization",
    domain: "",
    since: &[23],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct RmsNormalization {
    axis: i64,
    epsilon: f64,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    // The first stage is computed in at least f32 whatever is asked for.
    stash_type(node)?;
    let epsilon = f64::from(node.float_or("epsilon", 1e-5)?);
    Ok(Arc::new(RmsNormalization { axis: node.int_or("axis", -1)?, epsilon }))
}

fn run<T: Real, V: Real>(
    io: &mut Io<'_, '_>,
    cols: usize,
    epsilon: f64,
    spread: &Spread,
) -> Result<(), OpError> {
    let (x, scale) = (io.input::<T>(0)?, io.input::<V>(1)?);
    let context = io.context;
    let y = io.output::<V>(0)?;
    let many = (PARALLEL_WORK / 4 / cols.max(1)).max(1);
    for_each_tile(context, 4 * x.len(), Lanes::none(), &Chunks::new(y, many * cols), &|tile, y, _| {
        let mut looks = Looks::new(context.interrupt);
        for (i, y) in y.chunks_mut(cols.max(1)).enumerate() {
            let row = tile * many + i;
            let x = &x[row * cols..][..cols];
            let mean = sum_of(x, &mut looks, |v| v * v)? / cols as f64;
            let inverse = 1.0 / (mean + epsilon).sqrt();
            for columns in Looks::steps(cols, 1) {
                looks.past(columns.len())?;
                let first = columns.start;
                for (j, (y, x)) in y[columns.clone()].iter_mut().zip(&x[columns]).enumerate() {
                    let normal = V::Compute::from_f64(x.to_f64() * inverse);
                    *y = V::store(normal.mul(scale[spread.at(row, first + j)].load()));
                }
            }
        }
        Ok(())
    })
}

impl Op for RmsNormalization {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 2)?;
        let (x, scale) = (inputs.typed(0, FLOATS)?, inputs.typed(1, FLOATS)?);
        if let Some(rank) = x.rank() {
            normal_axis(self.axis, rank)?;
        }
        check_spread(inputs, 1, x.shape.as_deref())?;
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(scale.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let x = operand(inputs, 0)?;
        let axes = extents(x)?.to_vec();
        let first = normal_axis(self.axis, axes.len()).map_err(|_| Opaque::Operator)?;
        let over: Vec<usize> = (first..axes.len()).collect();
        let count = over.iter().try_fold(1usize, |n, &a| n.checked_mul(axes[a].known()?));
        let count = count.ok_or(Opaque::Extents)?;
        let here: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
        let scale = broadcast_index(extents(operand(inputs, 1)?)?, &axes)?;
        let mut nest = Stages::over(inputs, outputs, axes)?;
        if Kind::of(x.dtype) != Some(nest.kind()) {
            // The moments would be of the scale's precision.
            return Err(Opaque::Type);
        }
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let squares = nest.fold(Fold::Sum, &over, &[x], |p, v| p.mul(v[0], v[0]))?;
        let scale = nest.read(1, scale, Outside::Never)?;
        nest.store(here, &over, &[x, squares, scale], |p, v| {
            let (count, epsilon) = (p.constant_as(v[1], count as f64), p.constant_as(v[1], self.epsilon));
            let mean = p.div(v[1], count);
            let raised = p.add(mean, epsilon);
            let root = p.sqrt(raised);
            let inverse = p.recip(root);
            let normal = p.mul(v[0], inverse);
            p.mul(normal, v[2])
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let axis = normal_axis(self.axis, shape.len())?;
        let cols: usize = shape[axis..].iter().product();
        let spread = Spread::new(&site.input_shape(1)?, &shape, axis);
        let (epsilon, scale) = (self.epsilon, site.inputs.tensor(1)?.dtype);
        if matches!(spread, Spread::Columns) {
            let dtype = site.inputs.tensor(0)?.dtype;
            let form =
                Normalization { dtype, output: scale, length: cols, epsilon, centred: false, bias: false };
            if let Some(kernel) = form.kernel(shape[..axis].iter().product(), site.threads)? {
                return Ok(kernel);
            }
        }
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => dispatch!(scale, floats, V => {
            Ok(Kernel::new(move |io| run::<T, V>(io, cols, epsilon, &spread)))
        }))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let shape = site.input_shape(0)?;
        let axis = normal_axis(self.axis, shape.len()).map_err(|_| GpuReject::NoKernel)?;
        let rows = layer_rows(site, &shape, axis, 1..2).map(|rows| Rows { epsilon: self.epsilon, ..rows });
        rows.and_then(|rows| families::norm::kernel(site, &rows))
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, scale) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let axis = normal_axis(self.axis, x.shape.len())?;
        let cols: usize = x.shape[axis..].iter().product();
        let data = x.as_floats()?;
        let mut out = Vec::new();
        for (flat, v) in data.iter().enumerate() {
            let line = &data[flat / cols * cols..][..cols];
            let mean = line.iter().map(|v| v * v).sum::<f64>() / cols as f64;
            let index = RefTensor::unravel(&x.shape, flat);
            let factor = scale.as_floats()?[RefTensor::broadcast_position(&scale.shape, &index)];
            out.push(v / (mean + self.epsilon).sqrt() * factor);
        }
        Ok(vec![RefTensor::floats(scale.dtype, &x.shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(FLOATS);
    let scale_type = if g.chance(0.7) { dtype } else { *g.pick(FLOATS) };
    let rank = g.size(1, 4);
    let shape = g.shape(rank);
    let axis = g.axis(rank);
    let from = if axis < 0 { axis + rank as i64 } else { axis } as usize;
    let part = if g.chance(0.7) { shape[from..].to_vec() } else { g.broadcastable(&shape) };
    let mut case = Case::new([g.tensor(dtype, &shape), g.tensor(scale_type, &part)]).opset(23);
    if axis != -1 || g.chance(0.5) {
        case = case.int("axis", axis);
    }
    if g.chance(0.5) { case.float("epsilon", 0.01) } else { case }
}
