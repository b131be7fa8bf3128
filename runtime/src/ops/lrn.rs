//! # LRN
//! `y[n, c, …] = x[n, c, …] / (bias + α / size · Σ x[n, i, …]²)^β`, the sum over the channels `i` from
//! `c − ⌊(size − 1) / 2⌋` to `c + ⌈(size − 1) / 2⌉` that exist. Opsets 1, 13 (bfloat16). Accumulated in f64.

use super::attributes::NodeSpec;
use super::{Accuracy, Op, OpDef};
use crate::cpu::number::{Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::FLOATS;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::loops::{Affine, Fold, Nest, Opaque, Outside, Stages, extents, operand};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "LRN",
    domain: "",
    since: &[1, 13],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

#[derive(Clone, Copy, Debug)]
struct Lrn {
    size: usize,
    alpha: f64,
    beta: f64,
    bias: f64,
}

fn parse(node: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let size = node.int("size")?.and_then(|s| usize::try_from(s).ok()).filter(|&s| s > 0);
    Ok(Arc::new(Lrn {
        size: size.ok_or_else(|| OpError::attribute("size", "is no positive number"))?,
        alpha: f64::from(node.float_or("alpha", 1e-4)?),
        beta: f64::from(node.float_or("beta", 0.75)?),
        bias: f64::from(node.float_or("bias", 1.0)?),
    }))
}

impl Lrn {
    /// The channels of `channels` that are summed for channel `c`.
    fn region(&self, c: usize, channels: usize) -> Range<usize> {
        let (below, above) = ((self.size - 1) / 2, (self.size - 1).div_ceil(2));
        c.saturating_sub(below)..c.saturating_add(above).saturating_add(1).min(channels)
    }

    fn run<T: Real>(&self, io: &mut Io<'_, '_>, channels: usize, plane: usize) -> Result<(), OpError> {
        const STRIP: usize = 64;
        let x = io.input::<T>(0)?;
        let context = io.context;
        let y = io.output::<T>(0)?;
        let work = x.len().saturating_mul(self.size.min(channels));
        for_each_tile(context, work, Lanes::none(), &Chunks::new(y, plane), &|line, y, _| {
            let (image, c) = (line / channels, line % channels);
            for (strip, y) in y.chunks_mut(STRIP).enumerate() {
                let from = strip * STRIP;
                let row = |c: usize| &x[(image * channels + c) * plane + from..][..y.len()];
                let mut squares = [0.0; STRIP];
                for i in self.region(c, channels) {
                    squares.iter_mut().zip(row(i)).for_each(|(s, x)| *s += x.to_f64() * x.to_f64());
                }
                let own = row(c);
                for ((y, x), s) in y.iter_mut().zip(own).zip(squares) {
                    let scale = (self.bias + self.alpha / self.size as f64 * s).powf(self.beta);
                    *y = T::from_f64(x.to_f64() / scale);
                }
            }
            Ok(())
        })
    }
}

impl Op for Lrn {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(1, 1)?;
        let x = inputs.typed(0, FLOATS)?;
        if x.rank().is_some_and(|rank| rank < 2) {
            return Err(OpError::input(0, "has no channel axis"));
        }
        Ok(vec![TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) }.into()])
    }

    /// The sum of squares over an axis of the neighbouring channels, those outside the input left out.
    fn nest(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Result<Nest, Opaque> {
        let mut axes = extents(operand(inputs, 0)?)?.to_vec();
        let rank = axes.len();
        let here: Vec<Affine> = (0..rank).map(Affine::axis).collect();
        let below = i64::try_from((self.size - 1) / 2).ok();
        let neighbour = below.and_then(|below| Affine::axis(1).plus(rank, 1)?.shifted(-below));
        let mut near = here.clone();
        *near.get_mut(1).ok_or(Opaque::Operator)? = neighbour.ok_or(Opaque::Extents)?;
        axes.push(Dim::Known(self.size));
        let mut nest = Stages::over(inputs, outputs, axes)?;
        let (x, other) = (nest.read(0, here.clone(), Outside::Never)?, nest.read(0, near, Outside::Skipped)?);
        let squares = nest.fold(Fold::Sum, &[rank], &[other], |p, v| p.mul(v[0], v[0]))?;
        nest.store(here, &[], &[x, squares], |p, v| {
            let share = p.constant_as(v[1], self.alpha / self.size as f64);
            let (bias, beta) = (p.constant_as(v[1], self.bias), p.constant_as(v[1], self.beta));
            let scaled = p.mul(v[1], share);
            let raised = p.add(bias, scaled);
            let scale = p.pow(raised, beta);
            p.div(v[0], scale)
        })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let shape = site.input_shape(0)?;
        let (op, channels, plane) = (*self, shape[1], shape[2..].iter().product());
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            Ok(Kernel::new(move |io| op.run::<T>(io, channels, plane)))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let response = families::norm::Response {
            below: (self.size - 1) / 2,
            above: (self.size - 1).div_ceil(2),
            alpha: self.alpha / self.size as f64,
            beta: self.beta,
            bias: self.bias,
        };
        families::norm::channels(site, &response)
            .or_else(|reject| site.of_nest(reject, || self.nest(site.inputs, site.outputs)))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let x = inputs.tensor(0)?;
        let data = x.as_floats()?;
        let (below, above) = (((self.size - 1) / 2) as i64, self.size as i64 / 2);
        let mut out = Vec::new();
        for flat in 0..data.len() {
            let mut index = RefTensor::unravel(&x.shape, flat);
            let c = index[1] as i64;
            let mut sum = 0.0;
            for i in 0..x.shape[1] {
                if i as i64 >= c - below && i as i64 <= c + above {
                    index[1] = i;
                    sum += data[RefTensor::ravel(&x.shape, &index)].powi(2);
                }
            }
            out.push(data[flat] / (self.bias + self.alpha / self.size as f64 * sum).powf(self.beta));
        }
        Ok(vec![RefTensor::floats(x.dtype, &x.shape, out).into()])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let opset = *g.pick(&[7, 13]);
    let dtype = if opset < 13 { *g.pick(&FLOATS[..3]) } else { *g.pick(FLOATS) };
    let rank = g.size(2, 5);
    let shape = g.shape(rank);
    let mut case = Case::new([g.tensor(dtype, &shape)]).opset(opset).int("size", g.int(1, 7));
    if g.chance(0.6) {
        case = case.float("alpha", 0.3).float("beta", 0.5).float("bias", 2.0);
    }
    case
}
