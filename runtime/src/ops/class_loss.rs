//! The form that NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss share: `loss = −log_prob[target] · weight` of
//! each sample, 0 where the target is `ignore_index`; not reduced, summed, or averaged by the weights of the samples
//! that count.
//!
//! Sums are accumulated in f64, in blocks that depend on shapes alone.

use super::Op;
use super::attributes::NodeSpec;
use crate::cpu::contraction::scratch_of;
use crate::cpu::lines::Lines;
use crate::cpu::number::{Number, Real, dispatch};
use crate::cpu::softmax::{Form, softmax};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel, RunContext};
use crate::cuda::families::losses::Reduced;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::tensor::TensorView;
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

/// Samples summed before their sums are.
const BLOCK: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reduction {
    None,
    Sum,
    Mean,
}

#[derive(Debug)]
struct ClassLoss {
    reduction: Reduction,
    ignored: Option<i64>,
    /// Whether the input are scores, of which the logarithm of the softmax is taken.
    scores: bool,
}

/// Parses the loss of log-probabilities, or of `scores`.
pub(super) fn parse(node: &NodeSpec, scores: bool) -> Result<Arc<dyn Op>, OpError> {
    let reduction = match node.string("reduction")?.as_deref() {
        None | Some("mean") => Reduction::Mean,
        Some("sum") => Reduction::Sum,
        Some("none") => Reduction::None,
        Some(other) => return Err(OpError::attribute("reduction", format!("is `{other}`"))),
    };
    Ok(Arc::new(ClassLoss { reduction, ignored: node.int("ignore_index")?, scores }))
}

/// The loss with its shapes known.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// `[images, classes, samples of an image]`.
    lines: Lines,
    reduction: Reduction,
    ignored: Option<i64>,
    scores: bool,
}

impl Plan {
    fn samples(&self) -> usize {
        self.lines.outer * self.lines.inner
    }

    /// Loss and weight of sample `at`.
    fn loss<T: Real>(
        &self,
        (x, target, weight): (&[T], i64, Option<&[T]>),
        at: usize,
    ) -> Result<(f64, f64), OpError> {
        if self.ignored == Some(target) {
            return Ok((0.0, 0.0));
        }
        let Lines { length, inner, .. } = self.lines;
        let class = usize::try_from(target).ok().filter(|&c| c < length);
        let class = class.ok_or_else(|| OpError::value(format!("class {target} of {length} is named")))?;
        let start = at / inner * length * inner + at % inner;
        let line = || x[start..].iter().step_by(inner).take(length).map(|x| x.to_f64());
        let mut value = x[start + class * inner].to_f64();
        if self.scores {
            let most = line().fold(f64::NEG_INFINITY, f64::max);
            value -= most + line().map(|x| (x - most).exp()).sum::<f64>().ln();
        }
        let weight = weight.map_or(1.0, |w| w[class].to_f64());
        Ok((-value * weight, weight))
    }

    fn run<T: Real>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (x, weight, targets) = (io.input::<T>(0)?, io.optional_input::<T>(2)?, io.tensor(1)?);
        let context = io.context;
        if self.scores && io.wants(1) {
            softmax(context, self.lines, Form::LogSoftmax, x, io.output::<T>(1)?)?;
        }
        let (out, scratch) = io.output_and_scratch::<T>(0)?;
        match targets.dtype() {
            DType::I32 => self.losses(context, (x, weight), targets, (out, scratch), |t: i32| t.into()),
            _ => self.losses(context, (x, weight), targets, (out, scratch), |t: i64| t),
        }
    }

    fn losses<T: Real, I: Number>(
        &self,
        context: RunContext<'_>,
        (x, weight): (&[T], Option<&[T]>),
        targets: TensorView<'_>,
        (out, scratch): (&mut [T], &mut [u8]),
        index: impl Fn(I) -> i64 + Sync,
    ) -> Result<(), OpError> {
        let targets = targets.elements::<I>()?;
        let work = if self.scores { x.len() * 8 } else { targets.len() };
        let one = |at: usize| self.loss((x, index(targets[at]), weight), at);
        if self.reduction == Reduction::None {
            return for_each_tile(context, work, Lanes::none(), &Chunks::new(out, BLOCK), &|tile, out, _| {
                for (i, y) in out.iter_mut().enumerate() {
                    *y = T::from_f64(one(tile * BLOCK + i)?.0);
                }
                Ok(())
            });
        }
        let sums = scratch_of::<f64>(scratch, 2 * self.samples().div_ceil(BLOCK))?;
        for_each_tile(context, work, Lanes::none(), &Chunks::new(sums, 2), &|tile, sums, _| {
            sums.fill(0.0);
            for at in tile * BLOCK..((tile + 1) * BLOCK).min(targets.len()) {
                let (loss, weight) = one(at)?;
                sums[0] += loss;
                sums[1] += weight;
            }
            Ok(())
        })?;
        let total = |at: usize| sums.iter().skip(at).step_by(2).sum::<f64>();
        let value = if self.reduction == Reduction::Mean { total(0) / total(1) } else { total(0) };
        out.fill(T::from_f64(value));
        Ok(())
    }
}

impl Op for ClassLoss {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 3)?;
        let x = inputs.typed(0, FLOATS)?;
        let targets = inputs.typed(1, &[DType::I32, DType::I64])?;
        let weight = inputs.optional(2)?;
        if let Some(weight) = weight.filter(|w| w.dtype != x.dtype) {
            return Err(OpError::DType { index: 2, got: weight.dtype });
        }
        let mut samples = None;
        if let Some(shape) = &x.shape {
            if shape.len() < 2 {
                return Err(OpError::input(0, "has no class axis"));
            }
            let mut own = shape.clone();
            let classes = own.remove(1);
            let differ = |a: &Dim, b: &Dim| a.known().zip(b.known()).is_some_and(|(a, b)| a != b);
            if let Some(t) = &targets.shape
                && (t.len() != own.len() || t.iter().zip(&own).any(|(a, b)| differ(a, b)))
            {
                return Err(OpError::input(1, format!("has shape {t:?}; {own:?} is meant")));
            }
            if let Some(w) = weight.and_then(|w| w.shape.as_deref())
                && (w.len() != 1 || differ(&w[0], &classes))
            {
                return Err(OpError::input(2, format!("has shape {w:?} for {classes} classes")));
            }
            samples = Some(own);
        }
        let loss = match self.reduction {
            Reduction::None => TensorFact { shape: samples, ..TensorFact::unranked(x.dtype) },
            _ => TensorFact::ranked(x.dtype, 0),
        };
        let log_prob = TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) };
        Ok(if self.scores { vec![loss.into(), log_prob.into()] } else { vec![loss.into()] })
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let lines = Lines::along(&site.input_shape(0)?, 1);
        let plan = Plan { lines, reduction: self.reduction, ignored: self.ignored, scores: self.scores };
        let scratch = plan.samples().div_ceil(BLOCK) * 2 * size_of::<f64>();
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            Ok(Kernel::new(move |io| plan.run::<T>(io)).with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let lines = Lines::along(&site.input_shape(0)?, 1);
        let reduced = match self.reduction {
            Reduction::None => Reduced::Not,
            Reduction::Sum => Reduced::Sum,
            Reduction::Mean => Reduced::Mean,
        };
        families::losses::kernel(site, lines, (self.ignored, self.scores, reduced), || {
            families::lines::softmax(site, lines, true)
        })
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, targets, weight) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.optional(2)?);
        let mut log_prob = x.as_floats()?.to_vec();
        if self.scores {
            for flat in 0..log_prob.len() {
                let mut index = RefTensor::unravel(&x.shape, flat);
                let mut line = Vec::new();
                for class in 0..x.shape[1] {
                    index[1] = class;
                    line.push(x.as_floats()?[RefTensor::ravel(&x.shape, &index)]);
                }
                let most = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = line.iter().map(|v| (v - most).exp()).sum();
                log_prob[flat] = x.as_floats()?[flat] - most - sum.ln();
            }
        }
        let (mut losses, mut total) = (Vec::new(), 0.0);
        for (flat, target) in targets.to_i64s()?.into_iter().enumerate() {
            if self.ignored == Some(target) {
                losses.push(0.0);
                continue;
            }
            let mut index = RefTensor::unravel(&targets.shape, flat);
            index.insert(1, target as usize);
            let own = match weight {
                Some(w) => w.as_floats()?[target as usize],
                None => 1.0,
            };
            total += own;
            losses.push(-log_prob[RefTensor::ravel(&x.shape, &index)] * own);
        }
        let sum: f64 = losses.iter().sum();
        let loss = match self.reduction {
            Reduction::None => RefTensor::floats(x.dtype, &targets.shape, losses),
            Reduction::Sum => RefTensor::floats(x.dtype, &[], vec![sum]),
            Reduction::Mean => RefTensor::floats(x.dtype, &[], vec![sum / total]),
        };
        let mut out = vec![loss.into()];
        if self.scores {
            out.push(RefTensor::floats(x.dtype, &x.shape, log_prob).into());
        }
        Ok(out)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Draws a use of one of these operators.
pub(super) fn case(g: &mut Gen, opset: i64, dtype: DType) -> Case {
    let rank = g.size(2, 5);
    let mut shape: Vec<usize> = (0..rank).map(|_| g.size(1, 5)).collect();
    if g.chance(0.1) {
        shape[0] = g.size(100, 600);
        shape[2..].fill(1);
    }
    let mut samples = shape.clone();
    let classes = samples.remove(1) as i64;
    let ignored = g.chance(0.4).then(|| *g.pick(&[0, -1, 100]));
    let count: usize = samples.iter().product();
    let drawn: Vec<i128> = (0..count)
        .map(|i| match ignored {
            // One sample counts at least, so that there is a mean.
            Some(ignored) if i > 0 && g.chance(0.3) => ignored.into(),
            Some(0) => g.int(1.min(classes - 1), classes - 1).into(),
            _ => g.int(0, classes - 1).into(),
        })
        .collect();
    let target_type = *g.pick(&[DType::I32, DType::I64]);
    let targets = RefTensor::ints(target_type, &samples, drawn).to_tensor();
    let targets = targets.unwrap_or_else(|_| g.tensor(target_type, &samples));
    let mut case = Case::new([g.tensor(dtype, &shape), targets]).opset(opset);
    if g.chance(0.5) {
        case = case.input(g.tensor_in(dtype, &[classes as usize], 0.2, 1.5));
    }
    if let Some(ignored) = ignored {
        case = case.int("ignore_index", ignored);
    }
    if g.chance(0.8) {
        case = case.string("reduction", *g.pick(&["none", "sum", "mean"]));
    }
    case
}
