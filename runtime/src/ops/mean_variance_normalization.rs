//! # MeanVarianceNormalization
//! `y = (x − μ) / (σ + 1e-9)`, with the moments over `axes` (by default 0, 2 and 3). Opsets 9, 13 (bfloat16).
//! Moments in two passes, accumulated in f64.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::contraction::scratch_of;
use crate::cpu::number::{Compute, Number, Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::fact::{Fact, Facts, TensorFact, normal_axes, normal_axis};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "MeanVarianceNormalization",
    domain: "",
    since: &[9, 13],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

const EPSILON: f64 = 1e-9;

#[derive(Debug)]
struct MeanVarianceNormalization {
    axes: Vec<i64>,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let axes = node.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    Ok(Arc::new(MeanVarianceNormalization { axes }))
}

/// An axis, innermost first in its list.
#[derive(Clone, Copy, Debug)]
struct Axis {
    extent: usize,
    stride: usize,
}

/// The normalisation with its shapes known.
#[derive(Clone, Debug)]
struct Plan {
    kept: Vec<Axis>,
    reduced: Vec<Axis>,
    groups: usize,
    count: usize,
    /// All axes, innermost first, with how far each moves the group.
    moves: Vec<(usize, usize)>,
}

fn offset(axes: &[Axis], mut index: usize) -> usize {
    axes.iter().fold(0, |at, axis| {
        let step = index % axis.extent * axis.stride;
        index /= axis.extent;
        at + step
    })
}

impl Plan {
    fn new(shape: &[usize], reduced: &[usize]) -> Self {
        let mut plan = Self { kept: Vec::new(), reduced: Vec::new(), groups: 1, count: 1, moves: Vec::new() };
        let mut stride = 1;
        for (axis, &extent) in shape.iter().enumerate().rev() {
            let own = Axis { extent, stride };
            if reduced.contains(&axis) {
                plan.reduced.push(own);
                plan.count *= extent;
                plan.moves.push((extent, 0));
            } else {
                plan.kept.push(own);
                plan.moves.push((extent, plan.groups));
                plan.groups *= extent;
            }
            stride *= extent;
        }
        plan
    }

    /// Sum of `term` over group `group`, line by line of its innermost axis.
    fn sum<T: Real>(
        &self,
        x: &[T],
        group: usize,
        looks: &mut Looks<'_>,
        term: impl Fn(f64) -> f64,
    ) -> Result<f64, OpError> {
        let start = offset(&self.kept, group);
        let Some((line, outer)) = self.reduced.split_first() else { return Ok(term(x[start].to_f64())) };
        let mut sum = 0.0;
        for i in 0..self.count / line.extent {
            let from = start + offset(outer, i);
            let mut own = x[from..].iter().step_by(line.stride).take(line.extent);
            let mut of_line = 0.0;
            for part in Looks::steps(line.extent, 1) {
                looks.past(part.len())?;
                of_line = own.by_ref().take(part.len()).fold(of_line, |sum, x| sum + term(x.to_f64()));
            }
            sum += of_line;
        }
        Ok(sum)
    }

    fn group(&self, mut at: usize) -> usize {
        self.moves.iter().fold(0, |group, &(extent, step)| {
            let moved = at % extent * step;
            at /= extent;
            group + moved
        })
    }

    fn run<T: Real>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let x = io.input::<T>(0)?;
        let context = io.context;
        let (y, scratch) = io.output_and_scratch::<T>(0)?;
        if y.is_empty() {
            return Ok(());
        }
        let stats = scratch_of::<f64>(scratch, 2 * self.groups)?;
        let many = (PARALLEL_WORK / 4 / self.count).max(1);
        let pieces = Chunks::new(stats, 2 * many);
        for_each_tile(context, 4 * x.len(), Lanes::none(), &pieces, &|tile, stats, _| {
            let mut looks = Looks::new(context.interrupt);
            for (i, stats) in stats.chunks_mut(2).enumerate() {
                let group = tile * many + i;
                let mean = self.sum(x, group, &mut looks, |x| x)? / self.count as f64;
                let squares = self.sum(x, group, &mut looks, |x| (x - mean) * (x - mean))?;
                stats[0] = mean;
                stats[1] = 1.0 / ((squares / self.count as f64).sqrt() + EPSILON);
            }
            Ok(())
        })?;
        let stats = &*stats;
        // Lines of the innermost axis share a group or step through neighbouring ones.
        let (line, step) = self.moves.first().copied().unwrap_or((1, 0));
        let many = (PARALLEL_WORK / 4 / line).max(1);
        for_each_tile(context, 4 * x.len(), Lanes::none(), &Chunks::new(y, many * line), &|tile, y, _| {
            for (i, y) in y.chunks_mut(line).enumerate() {
                let from = (tile * many + i) * line;
                let group = self.group(from);
                for (j, (y, x)) in y.iter_mut().zip(&x[from..]).enumerate() {
                    let at = 2 * (group + j * step);
                    let mean = <T as Number>::Compute::from_f64(stats[at]);
                    let factor = <T as Number>::Compute::from_f64(stats[at + 1]);
                    *y = T::store(x.load().sub(mean).mul(factor));
                }
            }
            Ok(())
        })
    }
}

impl Op for MeanVarianceNormalization {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        if let Some(rank) = x.rank() {
            normal_axes(&self.axes, rank)?;
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let axes = extents(operand(inputs, 0)?)?.to_vec();
        let over = self.axes.iter().map(|&a| normal_axis(a, axes.len()));
        let mut over: Vec<usize> = over.collect::<Result<_, _>>().map_err(|_| Opaque::Operator)?;
        over.sort_unstable();
        over.dedup();
        let count = over.iter().try_fold(1usize, |n, &a| n.checked_mul(axes[a].known()?));
        let count = count.ok_or(Opaque::Extents)? as f64;
        let here: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
        let by_count = |p: &mut Builder, v: Reg| {
            let count = p.constant_as(v, count);
            p.div(v, count)
        };
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let sum = nest.fold(Fold::Sum, &over, &[x], |_, v| v[0])?;
        let squares = nest.fold(Fold::Sum, &over, &[x, sum], |p, v| {
            let mean = by_count(p, v[1]);
            let away = p.sub(v[0], mean);
            p.mul(away, away)
        })?;
        nest.store(here, &over, &[x, sum, squares], |p, v| {
            let (mean, variance) = (by_count(p, v[1]), by_count(p, v[2]));
            let deviation = p.sqrt(variance);
            let epsilon = p.constant_as(deviation, EPSILON);
            let (away, raised) = (p.sub(v[0], mean), p.add(deviation, epsilon));
            p.div(away, raised)
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let plan = Plan::new(&shape, &normal_axes(&self.axes, shape.len())?);
        let scratch = plan.groups.saturating_mul(2 * size_of::<f64>());
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            Ok(Kernel::new(move |io| plan.run::<T>(io)).with_scratch(scratch))
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let axes = normal_axes(&self.axes, x.shape.len())?;
        let data = x.as_floats()?;
        let same = |a: usize, b: usize| {
            let (a, b) = (RefTensor::unravel(&x.shape, a), RefTensor::unravel(&x.shape, b));
            (0..a.len()).all(|axis| axes.contains(&axis) || a[axis] == b[axis])
        };
        let mut out = Vec::new();
        for flat in 0..data.len() {
            let own: Vec<f64> = (0..data.len()).filter(|&i| same(i, flat)).map(|i| data[i]).collect();
            let mean = own.iter().sum::<f64>() / own.len() as f64;
            let variance = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / own.len() as f64;
            out.push((data[flat] - mean) / (variance.sqrt() + EPSILON));
        }
        Ok(vec![RefTensor::floats(x.dtype, &x.shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[9, 13]);
    let dtype = if opset < 13 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let default = g.chance(0.3);
    let rank = if default { 4 } else { g.size(1, 4) };
    let shape: Vec<usize> = (0..rank).map(|_| g.size(1, 4)).collect();
    let mut many = g.size(0, rank);
    let order = g.permutation(rank);
    let count = |many: usize| order[..many].iter().map(|&a| shape[a]).product::<usize>();
    // Groups of one element, or of two that are nearly equal, have no variance to divide by.
    while many < rank && count(many) < 4 {
        many += 1;
    }
    let enough = |axes: &[usize]| axes.iter().map(|&a| shape[a]).product::<usize>() >= 4;
    let axes: Vec<i64> = order[..many].iter().map(|&a| a as i64).collect();
    let x = if (default && enough(&[0, 2, 3])) || (!default && count(many) >= 4) {
        g.tensor(dtype, &shape)
    } else {
        g.tensor_in(dtype, &shape, 1.0, 1.0)
    };
    let case = Case::new([x]).opset(opset);
    if default { case } else { case.ints("axes", &axes) }
}
