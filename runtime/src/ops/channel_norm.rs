//! The form that InstanceNormalization and GroupNormalization share: runs of neighbouring channels of an image are
//! normalised to mean 0 and variance 1, then scaled and shifted by parameters per channel or per run.
//!
//! Moments in two passes, accumulated in f64.

use super::{Op, OpName};
use crate::cpu::moments::moments;
use crate::cpu::number::{Compute, Number, Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::norm::Rows;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use std::any::Any;
use std::sync::Arc;

/// Which channels are normalised together, and what the parameters are of.
#[derive(Debug)]
pub(super) struct ChannelNorm {
    pub(super) epsilon: f64,
    /// Number of groups; every channel is its own where it is `None`.
    pub(super) groups: Option<usize>,
    /// Whether scale and bias are per group.
    pub(super) group_parameters: bool,
}

/// The normalisation with its shapes known.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Elements normalised together.
    line: usize,
    /// Neighbouring elements of a line that share a parameter.
    run: usize,
    /// Number of parameters.
    parameters: usize,
    epsilon: f64,
}

impl Plan {
    fn run<T: Real>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (x, scale, bias) = (io.input::<T>(0)?, io.input::<T>(1)?, io.input::<T>(2)?);
        let context = io.context;
        let y = io.output::<T>(0)?;
        if y.is_empty() {
            return Ok(());
        }
        let &Self { line, run, parameters, epsilon } = self;
        let many = (PARALLEL_WORK / 8 / line).max(1);
        for_each_tile(context, 8 * x.len(), Lanes::none(), &Chunks::new(y, many * line), &|tile, y, _| {
            let mut looks = Looks::new(context.interrupt);
            for (i, y) in y.chunks_mut(line).enumerate() {
                let at = tile * many + i;
                let x = &x[at * line..][..line];
                let (mean, variance) = moments(x, &mut looks)?;
                let inverse = 1.0 / (variance + epsilon).sqrt();
                let mean = T::Compute::from_f64(mean);
                for (r, (y, x)) in y.chunks_mut(run).zip(x.chunks(run)).enumerate() {
                    let p = (at * (line / run) + r) % parameters;
                    let factor = T::Compute::from_f64(scale[p].to_f64() * inverse);
                    let shift = bias[p].load();
                    looks.past(y.len())?;
                    y.iter_mut()
                        .zip(x)
                        .for_each(|(y, x)| *y = T::store(x.load().sub(mean).mul(factor).add(shift)));
                }
            }
            Ok(())
        })
    }
}

/// The normalisation `op`, each channel of its input a group of one that has `groups` of them in its place; `None` where
/// it is none of channels by themselves.
pub(crate) fn norm_of_groups(op: &dyn Op, groups: usize) -> Option<(OpName, Arc<dyn Op>)> {
    let &ChannelNorm { epsilon, groups: None, .. } = op.as_any().downcast_ref::<ChannelNorm>()? else {
        return None;
    };
    let name = OpName { domain: "", name: "GroupNormalization" };
    Some((name, Arc::new(ChannelNorm { epsilon, groups: Some(groups), group_parameters: true })))
}

impl ChannelNorm {
    fn groups(&self, channels: usize) -> usize {
        self.groups.unwrap_or(channels)
    }
}

impl Op for ChannelNorm {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 3)?;
        let x = inputs.typed(0, FLOATS)?;
        let channels = match x.shape.as_deref() {
            Some([] | [_]) => return Err(OpError::input(0, "has no channel axis")),
            Some(shape) => shape[1].known(),
            None => None,
        };
        if channels.is_some_and(|c| c > 0 && !c.is_multiple_of(self.groups(c).max(1))) {
            return Err(OpError::attribute("num_groups", "does not divide the number of channels"));
        }
        let count = if self.group_parameters { self.groups } else { channels };
        for index in 1..3 {
            let fact = inputs.tensor(index)?;
            if fact.dtype != x.dtype {
                return Err(OpError::DType { index, got: fact.dtype });
            }
            let fits = match fact.shape.as_deref() {
                None => true,
                Some([own]) => own.known().zip(count).is_none_or(|(a, b)| a == b),
                Some(_) => false,
            };
            if !fits {
                return Err(OpError::input(index, format!("has shape {:?}", fact.shape)));
            }
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    /// Of channels by themselves, or of runs of channels: group `g` and channel `c` of it are then axes of their own.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let mut axes = extents(operand(inputs, 0)?)?.to_vec();
        if axes.len() < 3 && self.groups.is_none() {
            return Err(Opaque::Operator);
        }
        let rank = axes.len();
        let mut here: Vec<Affine> = (0..rank).map(Affine::axis).collect();
        let mut parameter = Affine::axis(1);
        if let Some(groups) = self.groups {
            let channels = axes[1].known().filter(|c| c.is_multiple_of(groups)).ok_or(Opaque::Extents)?;
            axes.splice(1..2, [Dim::Known(groups), Dim::Known(channels / groups)]);
            let run = i64::try_from(channels / groups).map_err(|_| Opaque::Extents)?;
            let channel = Affine::axis(1).scaled(run).and_then(|c| c.plus(2, 1)).ok_or(Opaque::Extents)?;
            here =
                [Affine::axis(0), channel.clone()].into_iter().chain((3..=rank).map(Affine::axis)).collect();
            parameter = if self.group_parameters { Affine::axis(1) } else { channel };
        }
        let over: Vec<usize> = (2..axes.len()).collect();
        let count = over.iter().try_fold(1usize, |n, &a| n.checked_mul(axes[a].known()?));
        let count = count.ok_or(Opaque::Extents)? as f64;
        let by_count = |p: &mut Builder, v: Reg| {
            let count = p.constant_as(v, count);
            p.div(v, count)
        };
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let [scale, bias] = [1, 2].map(|index| nest.read(index, vec![parameter.clone()], Outside::Never));
        let sum = nest.fold(Fold::Sum, &over, &[x], |_, v| v[0])?;
        let squares = nest.fold(Fold::Sum, &over, &[x, sum], |p, v| {
            let mean = by_count(p, v[1]);
            let away = p.sub(v[0], mean);
            p.mul(away, away)
        })?;
        nest.store(here, &over, &[x, sum, squares, scale?, bias?], |p, v| {
            let (mean, variance) = (by_count(p, v[1]), by_count(p, v[2]));
            let epsilon = p.constant_as(variance, self.epsilon);
            let raised = p.add(variance, epsilon);
            let root = p.sqrt(raised);
            let (inverse, away) = (p.recip(root), p.sub(v[0], mean));
            let normal = p.mul(away, inverse);
            p.mul_add(normal, v[3], v[4])
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let x = site.input_shape(0)?;
        let spatial: usize = x[2..].iter().product();
        let groups = self.groups(x[1]).max(1);
        let line = (x[1] / groups * spatial).max(1);
        let (run, parameters) =
            if self.group_parameters { (line, groups) } else { (spatial.max(1), x[1].max(1)) };
        let plan = Plan { line, run, parameters, epsilon: self.epsilon };
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => Ok(Kernel::new(move |io| plan.run::<T>(io))))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let x = site.input_shape(0)?;
        let spatial: usize = x[2..].iter().product();
        let groups = self.groups(x[1]).max(1);
        let per_group = x[1] / groups;
        let (length, rows) = (per_group * spatial, x[0] * groups);
        let (step, run) = if self.group_parameters { (1, length) } else { (per_group, spatial) };
        let rows = Rows {
            rows,
            length,
            period: groups,
            step,
            run: run.max(1),
            centred: true,
            epsilon: self.epsilon,
            statistics: DType::F32,
        };
        families::norm::kernel(site, &rows)
            .or_else(|reject| site.nest_or(reject, self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, scale, bias) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let (data, scale, bias) = (x.as_floats()?, scale.as_floats()?, bias.as_floats()?);
        let (images, channels) = (x.shape[0], x.shape[1]);
        let spatial: usize = x.shape[2..].iter().product();
        let per_group = channels / self.groups(channels).max(1);
        let mut out = vec![0.0; data.len()];
        for image in 0..images {
            for channel in 0..channels {
                let group = channel / per_group;
                let first = (image * channels + group * per_group) * spatial;
                let own = &data[first..first + per_group * spatial];
                let mean = own.iter().sum::<f64>() / own.len() as f64;
                let variance = own.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / own.len() as f64;
                let parameter = if self.group_parameters { group } else { channel };
                for i in 0..spatial {
                    let at = (image * channels + channel) * spatial + i;
                    let normal = (data[at] - mean) / (variance + self.epsilon).sqrt();
                    out[at] = normal * scale[parameter] + bias[parameter];
                }
            }
        }
        Ok(vec![RefTensor::floats(x.dtype, &x.shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
