//! # BatchNormalization
//! `y = (x − μ_c) / sqrt(σ²_c + ε) · scale_c + b_c` per channel `c` (axis 1). Inference takes `μ` and `σ²` from
//! inputs 3 and 4; with `training_mode` (opset 14) they are the batch's, and outputs 1 and 2 are the running
//! ones, `input · momentum + batch's · (1 − momentum)`. Opsets 7 (`spatial = 0`: one statistic per activation),
//! 9, 14, 15. Training outputs below opset 14 are refused.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::contraction::scratch_of;
use crate::cpu::moments::{load_floats, store_floats, sum_of};
use crate::cpu::number::{Compute, Number, Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::exec::Looks;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "BatchNormalization",
    domain: "",
    since: &[7, 9, 14, 15],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Debug)]
struct BatchNormalization {
    epsilon: f64,
    momentum: f64,
    training: bool,
    /// Whether a statistic is one activation's rather than a channel's.
    per_activation: bool,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let training = node.opset >= 14 && node.flag_or("training_mode", false)?;
    if !training && (1..5).any(|i| node.has_output(i)) {
        return Err(OpError::unsupported("an output of training outside `training_mode`"));
    }
    Ok(Arc::new(BatchNormalization {
        epsilon: f64::from(node.float_or("epsilon", 1e-5)?),
        momentum: f64::from(node.float_or("momentum", 0.9)?),
        training,
        per_activation: node.opset < 9 && !node.flag_or("spatial", true)?,
    }))
}

/// The normalisation with its shapes known.
#[derive(Clone, Copy, Debug)]
struct Plan {
    images: usize,
    channels: usize,
    /// Elements of a channel of an image.
    plane: usize,
    epsilon: f64,
    /// Set for training.
    momentum: Option<f64>,
    running: DType,
}

impl Plan {
    fn scratch<T: Real>(&self) -> usize {
        // Per channel: mean and variance in f64, then mean, factor and bias in the compute type.
        self.channels.saturating_mul(2 * size_of::<f64>() + 3 * size_of::<T::Compute>())
    }

    fn run<T: Real>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let &Self { channels, plane, .. } = self;
        let x = io.input::<T>(0)?;
        let inputs = [io.tensor(1)?, io.tensor(2)?, io.tensor(3)?, io.tensor(4)?];
        let context = io.context;
        let (y, scratch) = io.output_and_scratch::<T>(0)?;
        let (stats, params) = scratch.split_at_mut(channels * 2 * size_of::<f64>());
        let (mean, variance) = scratch_of::<f64>(stats, 2 * channels)?.split_at_mut(channels);
        let params = scratch_of::<T::Compute>(params, 3 * channels)?;
        if self.momentum.is_some() {
            let pieces = (Chunks::new(mean, 1), Chunks::new(variance, 1));
            for_each_tile(context, x.len(), Lanes::none(), &pieces, &|c, (mean, variance), _| {
                (mean[0], variance[0]) = self.batch_moments(x, c, &mut Looks::new(context.interrupt))?;
                Ok(())
            })?;
        } else {
            load_floats(inputs[2], mean)?;
            load_floats(inputs[3], variance)?;
        }
        let (centre, rest) = params.split_at_mut(channels);
        let (factor, shift) = rest.split_at_mut(channels);
        load_floats(inputs[0], factor)?;
        load_floats(inputs[1], shift)?;
        for c in 0..channels {
            centre[c] = T::Compute::from_f64(mean[c]);
            let inverse = 1.0 / (variance[c] + self.epsilon).sqrt();
            factor[c] = T::Compute::from_f64(factor[c].to_f64() * inverse);
        }
        let (centre, factor, shift) = (&*centre, &*factor, &*shift);
        let many = if plane == 1 { channels } else { 1 }.max(PARALLEL_WORK / plane.max(1));
        // Whole images where a plane is one element, so that the loop runs over channels.
        let many = if plane == 1 { many.next_multiple_of(channels.max(1)) } else { many };
        for_each_tile(context, 2 * x.len(), Lanes::none(), &Chunks::new(y, many * plane), &|i, y, _| {
            let x = &x[i * many * plane..][..y.len()];
            if plane == 1 {
                for (y, x) in y.chunks_mut(channels).zip(x.chunks(channels)) {
                    for (c, (y, x)) in y.iter_mut().zip(x).enumerate() {
                        *y = T::store(x.load().sub(centre[c]).mul(factor[c]).add(shift[c]));
                    }
                }
                return Ok(());
            }
            for (j, (y, x)) in y.chunks_mut(plane).zip(x.chunks(plane)).enumerate() {
                let c = (i * many + j) % channels;
                let (m, f, s) = (centre[c], factor[c], shift[c]);
                y.iter_mut().zip(x).for_each(|(y, x)| *y = T::store(x.load().sub(m).mul(f).add(s)));
            }
            Ok(())
        })?;
        if let Some(momentum) = self.momentum {
            self.store_running::<T>(io, &inputs, momentum)?;
        }
        Ok(())
    }

    /// Mean and population variance of channel `c` over the batch.
    fn batch_moments<T: Real>(
        &self,
        x: &[T],
        c: usize,
        looks: &mut Looks<'_>,
    ) -> Result<(f64, f64), OpError> {
        let planes = || (0..self.images).map(|i| &x[(i * self.channels + c) * self.plane..][..self.plane]);
        let count = (self.images * self.plane) as f64;
        let mean = planes().map(|p| sum_of(p, looks, |x| x)).sum::<Result<f64, OpError>>()? / count;
        let squares = planes().map(|p| sum_of(p, looks, |x| (x - mean) * (x - mean)));
        Ok((mean, squares.sum::<Result<f64, OpError>>()? / count))
    }

    /// The running statistics, from the batch's in scratch memory.
    fn store_running<T: Real>(
        &self,
        io: &mut Io<'_, '_>,
        inputs: &[crate::tensor::TensorView<'_>; 4],
        momentum: f64,
    ) -> Result<(), OpError> {
        for (output, held) in [(1, inputs[2]), (2, inputs[3])] {
            let (bytes, scratch) = io.bytes_and_scratch(output)?;
            let stats = scratch_of::<f64>(scratch, 2 * self.channels)?;
            let batch = &stats[(output - 1) * self.channels..][..self.channels];
            dispatch!(held.dtype(), floats, U => {
                let held = held.elements::<U>()?;
                let mixed =
                    held.iter().zip(batch).map(|(h, b)| h.to_f64() * momentum + b * (1.0 - momentum));
                store_floats(self.running, bytes, mixed)
            })?;
        }
        Ok(())
    }
}

impl BatchNormalization {
    /// Channels of a tensor of shape `x`, and elements of each in one image.
    fn form(&self, x: &[usize]) -> (usize, usize) {
        let plane: usize = x.iter().skip(2).product();
        let channels = x.get(1).copied().unwrap_or(1);
        if self.per_activation { (channels * plane, 1) } else { (channels, plane) }
    }
}

impl Op for BatchNormalization {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(5, 5)?;
        let x = inputs.typed(0, FLOATS)?;
        let one = [Dim::Known(1)];
        let want: Option<&[Dim]> = match x.shape.as_deref() {
            None => None,
            Some([]) => return Err(OpError::input(0, "has no axis")),
            Some([_]) => Some(&one),
            Some(x) => Some(&x[1..if self.per_activation { x.len() } else { 2 }]),
        };
        for index in 1..5 {
            let fact = inputs.typed(index, FLOATS)?;
            let (Some(shape), Some(want)) = (&fact.shape, want) else { continue };
            let differ = |a: &Dim, b: &Dim| a.known().zip(b.known()).is_some_and(|(a, b)| a != b);
            if shape.len() != want.len() || shape.iter().zip(want).any(|(a, b)| differ(a, b)) {
                return Err(OpError::input(index, format!("has shape {shape:?}; {want:?} is meant")));
            }
        }
        let y = TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) };
        let stats = |index| {
            let fact = inputs.tensor(index)?;
            Ok(Fact::from(TensorFact { shape: fact.shape.clone(), ..TensorFact::unranked(fact.dtype) }))
        };
        // Below opset 14 there are places for five outputs, of which only the first is made.
        Ok(vec![y.into(), stats(3)?, stats(4)?, stats(3)?, stats(4)?])
    }

    fn channel_affine(&self, inputs: Facts<'_>) -> Option<Vec<(f64, f64)>> {
        if self.training || self.per_activation {
            return None;
        }
        let constant = |i: usize| inputs.tensor(i).ok()?.as_constant()?.to_f64s();
        let (scale, bias, mean, variance) = (constant(1)?, constant(2)?, constant(3)?, constant(4)?);
        let channels = scale.iter().zip(&bias).zip(&mean).zip(&variance);
        Some(
            channels
                .map(|(((s, b), m), v)| {
                    let factor = s / (v + self.epsilon).sqrt();
                    (factor, b - m * factor)
                })
                .collect(),
        )
    }

    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        if self.training {
            return Err(Opaque::Operator);
        }
        let axes = extents(operand(inputs, 0)?)?.to_vec();
        let channel = match axes.len() {
            0 => return Err(Opaque::Operator),
            1 => vec![Affine::constant(0)],
            rank => (1..if self.per_activation { rank } else { 2 }).map(Affine::axis).collect(),
        };
        let here: Vec<Affine> = (0..axes.len()).map(Affine::axis).collect();
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let mut sources = vec![nest.read(0, here.clone(), Outside::Never)?];
        for statistic in 1..5 {
            sources.push(nest.read(statistic, channel.clone(), Outside::Never)?);
        }
        nest.store(here, &[], &sources, |p, v| {
            let [x, scale, bias, mean, variance] = v else { return v[0] };
            let epsilon = p.constant(p.kind(*variance), self.epsilon);
            let sum = p.add(*variance, epsilon);
            let deviation = p.sqrt(sum);
            let factor = p.div(*scale, deviation);
            let centred = p.sub(*x, *mean);
            let scaled = p.mul(centred, factor);
            p.add(scaled, *bias)
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let x = site.input_shape(0)?;
        let (channels, plane) = self.form(&x);
        let plan = Plan {
            images: x[0],
            channels,
            plane,
            epsilon: self.epsilon,
            momentum: self.training.then_some(self.momentum),
            running: site.inputs.tensor(3)?.dtype,
        };
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            Ok(Kernel::new(move |io| plan.run::<T>(io)).with_scratch(plan.scratch::<T>()))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        if self.training {
            return families::trained::kernel(site, self.epsilon, self.momentum);
        }
        families::map::of_nest(site, self.nest(site.inputs, site.outputs))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let data = x.as_floats()?;
        let float = |i| inputs.tensor(i)?.as_floats();
        let (scale, bias, held_mean, held_variance) = (float(1)?, float(2)?, float(3)?, float(4)?);
        let (channels, plane) = self.form(&x.shape);
        let channel = |flat: usize| flat / plane % channels;
        let (mut mean, mut variance) = (held_mean.to_vec(), held_variance.to_vec());
        if self.training {
            for c in 0..channels {
                let own: Vec<f64> = (0..data.len()).filter(|&i| channel(i) == c).map(|i| data[i]).collect();
                mean[c] = own.iter().sum::<f64>() / own.len() as f64;
                variance[c] = own.iter().map(|v| (v - mean[c]).powi(2)).sum::<f64>() / own.len() as f64;
            }
        }
        let normal = |(i, v): (usize, &f64)| {
            let c = channel(i);
            (v - mean[c]) / (variance[c] + self.epsilon).sqrt() * scale[c] + bias[c]
        };
        let y = RefTensor::floats(x.dtype, &x.shape, data.iter().enumerate().map(normal).collect());
        let mix = |held: &[f64], batch: &[f64]| {
            let pair = |(h, b): (&f64, &f64)| h * self.momentum + b * (1.0 - self.momentum);
            held.iter().zip(batch).map(pair).collect::<Vec<f64>>()
        };
        let like = inputs.tensor(3)?;
        let stats = |v| RefTensor::floats(like.dtype, &like.shape, v);
        Ok(vec![y.into(), stats(mix(held_mean, &mean)).into(), stats(mix(held_variance, &variance)).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 9, 14, 15]);
    let drawn = |g: &mut Gen| if opset < 14 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let dtype = drawn(g);
    let (scale_type, stats_type) =
        if opset >= 15 && g.chance(0.5) { (drawn(g), drawn(g)) } else { (dtype, dtype) };
    let rank = g.size(1, 4);
    let shape = g.shape(rank);
    let per_activation = opset < 9 && g.chance(0.4);
    let stats: Vec<usize> = match (rank, per_activation) {
        (1, _) => vec![1],
        (_, true) => shape[1..].to_vec(),
        (_, false) => vec![shape[1]],
    };
    let mut case = Case::new([
        g.tensor(dtype, &shape),
        g.tensor(scale_type, &stats),
        g.tensor(scale_type, &stats),
        g.tensor(stats_type, &stats),
        g.tensor_in(stats_type, &stats, 0.2, 2.0),
    ])
    .opset(opset);
    if opset < 9 && (per_activation || g.chance(0.3)) {
        case = case.int("spatial", (!per_activation).into());
    }
    if opset >= 14 && g.chance(0.5) {
        // An epsilon that keeps equal elements from amplifying the rounding of their mean.
        return case.int("training_mode", 1).float("momentum", 0.7).float("epsilon", 0.01).outputs(3);
    }
    if g.chance(0.5) { case.float("epsilon", 0.001) } else { case }
}
