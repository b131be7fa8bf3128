//! # CausalConvWithState
//! `y[b, c, t] = act(bias[c] + Σ_j weight[c, j] · z[b, c, t + j])`, where `z` is `past_state`, or `k − 1` zeros, with the
//! input behind it; the last `k − 1` elements of `z` are the state for what follows. `act` is the identity or
//! `v · sigmoid(v)`. Opset 27. Accumulated in f32.

use super::attributes::NodeSpec;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::number::{Compute, Float, Real, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::DType;
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefInputs, RefTensor, RefValue};
use crate::testing::{Case, Gen};
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "CausalConvWithState",
    domain: "",
    since: &[27],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

const DTYPES: &[DType] = &[DType::F32, DType::F16, DType::BF16];

#[derive(Debug)]
struct CausalConvWithState {
    silu: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let silu = match spec.string("activation")?.as_deref() {
        None | Some("none") => false,
        Some("silu" | "swish") => true,
        Some(other) => return Err(OpError::attribute("activation", format!("is `{other}`"))),
    };
    Ok(Arc::new(CausalConvWithState { silu }))
}

/// The operator with its shapes known.
#[derive(Clone, Copy, Debug)]
struct Plan {
    channels: usize,
    length: usize,
    taps: usize,
    silu: bool,
}

impl Plan {
    /// Lines of the output and of the state, `[images · channels]` of them.
    fn run<T: Real>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (x, weight) = (io.input::<T>(0)?, io.input::<T>(1)?);
        let (bias, past) = (io.optional_input::<T>(2)?, io.optional_input::<T>(3)?);
        let context = io.context;
        let ([y, state], _) = io.outputs_and_scratch::<T, 2>()?;
        let &Self { channels, length, taps, silu } = self;
        let kept = taps - 1;
        // Element `t` of the padded line `at`.
        let padded = |at: usize, t: usize| match (t.checked_sub(kept), past) {
            (Some(t), _) => x[at * length + t].load(),
            (None, Some(past)) => past[at * kept + t].load(),
            (None, None) => T::Compute::zero(),
        };
        let work = y.len().saturating_mul(taps);
        let many = (PARALLEL_WORK / length.saturating_mul(taps).max(1)).max(1);
        let pieces = (Chunks::new(y, many * length), Chunks::new(state, many * kept));
        for_each_tile(context, work, Lanes::none(), &pieces, &|tile, (y, state), _| {
            for (i, y) in y.chunks_exact_mut(length.max(1)).enumerate() {
                let at = tile * many + i;
                let channel = at % channels;
                let weight = &weight[channel * taps..][..taps];
                let bias = bias.map_or_else(T::Compute::zero, |b| b[channel].load());
                let store = |sum: T::Compute| T::store(if silu { sum.mul(sum.sigmoid()) } else { sum });
                let (edge, inner) = y.split_at_mut(kept.min(length));
                for (t, y) in edge.iter_mut().enumerate() {
                    let terms = weight.iter().enumerate().map(|(j, w)| w.load().mul(padded(at, t + j)));
                    *y = store(terms.fold(bias, Compute::add));
                }
                let x = &x[at * length..][..length];
                for (y, x) in inner.iter_mut().zip(x.windows(taps)) {
                    let terms = weight.iter().zip(x).map(|(w, x)| w.load().mul(x.load()));
                    *y = store(terms.fold(bias, Compute::add));
                }
            }
            for (i, state) in state.chunks_exact_mut(kept.max(1)).enumerate() {
                let at = tile * many + i;
                for (t, state) in state.iter_mut().enumerate() {
                    *state = T::store(padded(at, length + t));
                }
            }
            Ok(())
        })
    }
}

impl Op for CausalConvWithState {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(2, 4)?;
        let x = inputs.typed(0, DTYPES)?;
        let rank = |index: usize, axes: usize| -> Result<Vec<Dim>, OpError> {
            match inputs.optional(index)?.map(|f| (f.dtype, f.shape.as_deref())) {
                Some((dtype, _)) if dtype != x.dtype => Err(OpError::DType { index, got: dtype }),
                None | Some((_, None)) => Ok(vec![Dim::Unknown; axes]),
                Some((_, Some(shape))) if shape.len() == axes => Ok(shape.to_vec()),
                Some(_) => Err(OpError::input(index, format!("has not {axes} axes"))),
            }
        };
        let (input, weight, bias, past) = (rank(0, 3)?, rank(1, 3)?, rank(2, 1)?, rank(3, 3)?);
        if weight[2].known() == Some(0) {
            return Err(OpError::input(1, "has no taps"));
        }
        let mut kept = match weight[2].known() {
            Some(taps) => Dim::Known(taps - 1),
            None => weight[2].affine(1, -1),
        };
        let agree = |a: &Dim, b: &Dim| a.known().zip(b.known()).is_none_or(|(a, b)| a == b);
        let one = Dim::Known(1);
        let pairs = [
            (1, &weight[0], &input[1]),
            (1, &weight[1], &one),
            (2, &bias[0], &input[1]),
            (2, &bias[0], &weight[0]),
            (3, &past[0], &input[0]),
            (3, &past[1], &input[1]),
            (3, &past[2], &kept),
        ];
        if let Some((index, ..)) = pairs.iter().find(|(_, a, b)| !agree(a, b)) {
            return Err(OpError::input(*index, "does not fit the others in shape"));
        }
        if kept == Dim::Unknown {
            kept = past[2].clone();
        }
        let state = vec![input[0].clone(), input[1].clone(), kept];
        let y = TensorFact { shape: x.shape.clone(), ..TensorFact::unranked(x.dtype) };
        Ok(vec![y.into(), TensorFact::new(x.dtype, state).into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let moved = inputs.0.iter().flatten().map(|f| bytes(f)).chain(outputs.iter().map(bytes)).sum();
        let taps = inputs.tensor(1).ok().and_then(|w| w.shape.as_ref()?.get(2)?.known()).unwrap_or(0);
        let count = outputs.first().and_then(|f| f.tensor()?.element_count()).unwrap_or(0);
        Cost { flops: 2.0 * count as f64 * taps as f64, bytes: moved }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (x, weight) = (site.input_shape(0)?, site.input_shape(1)?);
        let plan = Plan { channels: x[1], length: x[2], taps: weight[2], silu: self.silu };
        dispatch!(site.inputs.tensor(0)?.dtype, singles, T => Ok(Kernel::new(move |io| plan.run::<T>(io))))
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        families::causal::kernel(site, self.silu)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (x, weight) = (inputs.tensor(0)?, inputs.tensor(1)?);
        let (bias, past) = (inputs.optional(2)?, inputs.optional(3)?);
        let &[batch, channels, length] = &x.shape[..] else {
            return Err(OpError::internal("an input of other than 3 axes"));
        };
        let taps = weight.shape[2];
        let (mut y, mut state) = (Vec::new(), Vec::new());
        for line in 0..batch * channels {
            let mut z = match past {
                Some(past) => past.as_floats()?[line * (taps - 1)..][..taps - 1].to_vec(),
                None => vec![0.0; taps - 1],
            };
            z.extend_from_slice(&x.as_floats()?[line * length..][..length]);
            let channel = line % channels;
            for t in 0..length {
                let mut sum = match bias {
                    Some(bias) => bias.as_floats()?[channel],
                    None => 0.0,
                };
                for j in 0..taps {
                    sum += weight.as_floats()?[channel * taps + j] * z[t + j];
                }
                y.push(if self.silu { sum / (1.0 + (-sum).exp()) } else { sum });
            }
            state.extend_from_slice(&z[z.len() + 1 - taps..]);
        }
        Ok(vec![
            RefTensor::floats(x.dtype, &x.shape, y).into(),
            RefTensor::floats(x.dtype, &[batch, channels, taps - 1], state).into(),
        ])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(DTYPES);
    let (batch, channels, length, taps) = (g.size(0, 3), g.extent(), g.extent(), g.size(1, 6));
    let length = if g.chance(0.05) { g.size(100, 3000) } else { length };
    let bias = g.chance(0.5).then(|| g.tensor(dtype, &[channels]));
    let past = g.chance(0.5).then(|| g.tensor(dtype, &[batch, channels, taps - 1]));
    let mut case =
        Case::new([g.tensor(dtype, &[batch, channels, length]), g.tensor(dtype, &[channels, 1, taps])])
            .opset(27)
            .outputs(g.size(1, 2));
    if bias.is_some() || past.is_some() {
        case = case.optional(bias);
    }
    if past.is_some() {
        case = case.optional(past);
    }
    let activation = *g.pick(&["none", "silu", "swish"]);
    if g.chance(0.7) { case.string("activation", activation) } else { case }
}
