//! # LinearAttention
//! A state `S` of `d_k × d_v` for each head of keys goes over the tokens:
//! - `linear`: `S ← S + k ⊗ v`
//! - `gated`: `S ← exp(g) ⊙ S + k ⊗ v`
//! - `delta`: `S ← S + k ⊗ β(v − Sᵀk)`
//! - `gated_delta`: `S ← exp(g) ⊙ S`, then as `delta`
//!
//! and `output = scale · Sᵀq` after each, `scale = 1/√d_k` by default. `q_num_heads / kv_num_heads` heads of queries read one
//! state. Opset 27. States and sums are held in f32 from the first token to the last; `chunk_size` tunes other
//! algorithms and changes no result.

use super::attention::agreed;
use super::attributes::NodeSpec;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::linear_attention::{Plan, Rule};
use crate::cpu::number::dispatch;
use crate::cpu::{CpuSite, Kernel};
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
    name: "LinearAttention",
    domain: "",
    since: &[27],
    until: None,
    dtypes: DTYPES,
    accuracy: Accuracy::Reduction,
    parse,
    case,
};

const DTYPES: &[DType] = &[DType::F32, DType::F16, DType::BF16];
const PAST: usize = 3;
const DECAY: usize = 4;
const BETA: usize = 5;

#[derive(Debug)]
struct LinearAttention {
    heads: usize,
    kv_heads: usize,
    scale: Option<f32>,
    rule: Rule,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let count = |name: &str| {
        let heads = spec.int(name)?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
        heads.ok_or_else(|| OpError::attribute(name, "is no positive number"))
    };
    let (heads, kv_heads) = (count("q_num_heads")?, count("kv_num_heads")?);
    if !heads.is_multiple_of(kv_heads) {
        return Err(OpError::attribute("q_num_heads", format!("is no multiple of {kv_heads}")));
    }
    if spec.int_or("chunk_size", 64)? < 1 {
        return Err(OpError::attribute("chunk_size", "is no positive number"));
    }
    let rule = match spec.string("update_rule")?.as_deref() {
        Some("linear") => Rule { gated: false, delta: false },
        Some("gated") => Rule { gated: true, delta: false },
        Some("delta") => Rule { gated: false, delta: true },
        None | Some("gated_delta") => Rule { gated: true, delta: true },
        Some(other) => return Err(OpError::attribute("update_rule", format!("is `{other}`"))),
    };
    for (index, wanted) in [(DECAY, rule.gated), (BETA, rule.delta)] {
        match (spec.has_input(index), wanted) {
            (false, true) => return Err(OpError::input(index, "is missing")),
            (true, false) => return Err(OpError::input(index, "has no part in this update rule")),
            _ => {}
        }
    }
    let scale = Some(spec.float_or("scale", 0.0)?).filter(|&s| s != 0.0);
    Ok(Arc::new(LinearAttention { heads, kv_heads, scale, rule }))
}

/// Extents as far as they are known.
struct Extents {
    batch: Dim,
    tokens: Dim,
    key: Dim,
    value: Dim,
    /// Whether there is a decay for each element of a key, and a rate for each head.
    decay_by_element: Option<bool>,
    rate_by_head: Option<bool>,
}

impl LinearAttention {
    fn extents(&self, inputs: Facts<'_>) -> Result<Extents, OpError> {
        let mut e = Extents {
            batch: Dim::Unknown,
            tokens: Dim::Unknown,
            key: Dim::Unknown,
            value: Dim::Unknown,
            decay_by_element: None,
            rate_by_head: None,
        };
        let mut last = [const { Dim::Unknown }; 6];
        for index in [0, 1, 2, DECAY, BETA] {
            match inputs.optional(index)?.and_then(|f| f.shape.as_deref()) {
                None => {}
                Some([batch, tokens, hidden]) => {
                    e.batch = agreed(e.batch, batch, "the batch")?;
                    e.tokens = agreed(e.tokens, tokens, "the number of tokens")?;
                    last[index] = hidden.clone();
                }
                Some(_) => return Err(OpError::input(index, "has not 3 axes")),
            }
        }
        let per_head = |hidden: &Dim, heads: usize| match hidden.known() {
            Some(n) if n == 0 || !n.is_multiple_of(heads) => {
                Err(OpError::shape(format!("{n} elements are not those of {heads} heads")))
            }
            _ => Ok(hidden.exact_div(&Dim::Known(heads)).unwrap_or(Dim::Unknown)),
        };
        e.key = agreed(
            per_head(&last[0], self.heads)?,
            &per_head(&last[1], self.kv_heads)?,
            "the width of a key",
        )?;
        e.value = per_head(&last[2], self.kv_heads)?;
        match inputs.optional(PAST)?.and_then(|f| f.shape.as_deref()) {
            None => {}
            Some([batch, heads, key, value]) => {
                e.batch = agreed(e.batch, batch, "the batch")?;
                agreed(Dim::Known(self.kv_heads), heads, "the number of heads")?;
                e.key = agreed(e.key, key, "the width of a key")?;
                e.value = agreed(e.value, value, "the width of a value")?;
            }
            Some(_) => return Err(OpError::input(PAST, "has not 4 axes")),
        }
        if let Some(n) = last[DECAY].known() {
            // Where both readings fit they are one.
            e.decay_by_element = Some(n != self.kv_heads);
            let wrong = e.key.known().is_some_and(|key| Some(n) != self.kv_heads.checked_mul(key));
            if n != self.kv_heads && wrong {
                return Err(OpError::input(DECAY, "is neither one per head nor one per element of a key"));
            }
        }
        if let Some(n) = last[BETA].known() {
            e.rate_by_head = Some(n == self.kv_heads);
            if n != self.kv_heads && n != 1 {
                return Err(OpError::input(BETA, "is neither one nor one per head"));
            }
        }
        Ok(e)
    }

    fn plan(&self, inputs: Facts<'_>) -> Result<Plan, OpError> {
        let e = self.extents(inputs)?;
        let known = |d: &Dim| d.known().ok_or_else(|| OpError::internal("an extent is not known"));
        let key = known(&e.key)?;
        Ok(Plan {
            batch: known(&e.batch)?,
            tokens: known(&e.tokens)?,
            heads: self.heads,
            kv_heads: self.kv_heads,
            key,
            value: known(&e.value)?,
            scale: self.scale.map_or_else(|| 1.0 / (key as f64).sqrt(), f64::from) as f32,
            rule: self.rule,
            decay_by_element: e.decay_by_element == Some(true),
            rate_by_head: e.rate_by_head == Some(true),
        })
    }
}

impl Op for LinearAttention {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        inputs.expect_count(3, 6)?;
        let dtype = inputs.typed(0, DTYPES)?.dtype;
        for index in [1, 2, DECAY, BETA] {
            if inputs.has(index) {
                inputs.typed(index, &[dtype])?;
            }
        }
        let state = if inputs.has(PAST) { inputs.typed(PAST, DTYPES)?.dtype } else { dtype };
        let e = self.extents(inputs)?;
        let output = vec![e.batch.clone(), e.tokens, &Dim::Known(self.heads) * &e.value];
        let present = vec![e.batch, Dim::Known(self.kv_heads), e.key, e.value];
        Ok(vec![TensorFact::new(dtype, output).into(), TensorFact::new(state, present).into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let moved = inputs.0.iter().flatten().map(|f| bytes(f)).chain(outputs.iter().map(bytes)).sum();
        Cost { flops: self.plan(inputs).map_or(0.0, |plan| plan.flops()), bytes: moved }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let plan = self.plan(site.inputs)?;
        let scratch = plan.scratch(site.threads);
        dispatch!(site.inputs.tensor(0)?.dtype, singles, T => {
            Ok(Kernel::new(move |io| plan.run::<T>(io)).with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let plan = self.plan(site.inputs).map_err(|_| GpuReject::NoKernel)?;
        families::linear_attention::kernel(site, &plan)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (q, k, v) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let (past, decay, beta) = (inputs.optional(PAST)?, inputs.optional(DECAY)?, inputs.optional(BETA)?);
        let (batch, tokens) = (q.shape[0], q.shape[1]);
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let (dk, dv) = (q.shape[2] / heads, v.shape[2] / kv_heads);
        let scale = self.scale.map_or_else(|| 1.0 / (dk as f64).sqrt(), f64::from);
        // Element `i` of the part of head `h`, or the element that stands for all of them.
        let of = |t: &RefTensor, row: usize, h: usize, i: usize| -> Result<f64, OpError> {
            let last = t.shape[2];
            let at = if last == 1 {
                0
            } else if last == kv_heads {
                h
            } else {
                h * (last / kv_heads) + i
            };
            Ok(t.as_floats()?[row * last + at])
        };
        let mut y = vec![0.0; batch * tokens * heads * dv];
        let mut present = Vec::new();
        for b in 0..batch {
            for h in 0..kv_heads {
                let first = (b * kv_heads + h) * dk * dv;
                let mut s = match past {
                    Some(past) => past.as_floats()?[first..first + dk * dv].to_vec(),
                    None => vec![0.0; dk * dv],
                };
                for row in b * tokens..(b + 1) * tokens {
                    let key = &k.as_floats()?[(row * kv_heads + h) * dk..][..dk];
                    let mut value = v.as_floats()?[(row * kv_heads + h) * dv..][..dv].to_vec();
                    if let Some(decay) = decay {
                        for (at, s) in s.iter_mut().enumerate() {
                            *s *= of(decay, row, h, at / dv)?.exp();
                        }
                    }
                    if let Some(beta) = beta {
                        for (m, value) in value.iter_mut().enumerate() {
                            let held: f64 = (0..dk).map(|d| s[d * dv + m] * key[d]).sum();
                            *value = of(beta, row, h, 0)? * (*value - held);
                        }
                    }
                    for (at, s) in s.iter_mut().enumerate() {
                        *s += key[at / dv] * value[at % dv];
                    }
                    for reader in h * (heads / kv_heads)..(h + 1) * (heads / kv_heads) {
                        let query = &q.as_floats()?[(row * heads + reader) * dk..][..dk];
                        for m in 0..dv {
                            let read: f64 = (0..dk).map(|d| s[d * dv + m] * query[d]).sum();
                            y[(row * heads + reader) * dv + m] = scale * read;
                        }
                    }
                }
                present.extend(s);
            }
        }
        let state = past.map_or(q.dtype, |past| past.dtype);
        Ok(vec![
            RefTensor::floats(q.dtype, &[batch, tokens, heads * dv], y).into(),
            RefTensor::floats(state, &[batch, kv_heads, dk, dv], present).into(),
        ])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn case(g: &mut Gen) -> Case {
    let dtype = *g.pick(DTYPES);
    let (kv_heads, group) = (g.size(1, 3), g.size(1, 3));
    let (batch, tokens) = (g.size(0, 3), g.extent());
    let (dk, dv) = (g.positive_extent(), g.positive_extent());
    let rule = *g.pick(&["linear", "gated", "delta", "gated_delta"]);
    let (gated, delta) = (rule.starts_with("gated"), rule.ends_with("delta"));
    let heads = kv_heads * group;
    let past = g.chance(0.5).then(|| {
        let dtype = if g.chance(0.7) { dtype } else { *g.pick(DTYPES) };
        g.tensor_in(dtype, &[batch, kv_heads, dk, dv], -1.0, 1.0)
    });
    let decay_width = if g.chance(0.5) { kv_heads } else { kv_heads * dk };
    let decay = gated.then(|| g.tensor_in(dtype, &[batch, tokens, decay_width], -1.5, 0.0));
    let rates = if g.chance(0.5) { kv_heads } else { 1 };
    let beta = delta.then(|| g.tensor_in(dtype, &[batch, tokens, rates], 0.0, 1.0));
    // Keys of about unit length, so that the delta rules do not diverge.
    let bound = 1.0 / (dk as f64).sqrt();
    let mut case = Case::new([
        g.tensor_in(dtype, &[batch, tokens, heads * dk], -1.0, 1.0),
        g.tensor_in(dtype, &[batch, tokens, kv_heads * dk], -bound, bound),
        g.tensor_in(dtype, &[batch, tokens, kv_heads * dv], -1.0, 1.0),
    ])
    .opset(27)
    .outputs(g.size(1, 2));
    let last = [past.is_some(), gated, delta].iter().rposition(|&given| given).map_or(0, |at| at + 1);
    for given in [past, decay, beta].into_iter().take(last) {
        case = case.optional(given);
    }
    case = case.int("q_num_heads", heads as i64).int("kv_num_heads", kv_heads as i64);
    if rule != "gated_delta" || g.chance(0.5) {
        case = case.string("update_rule", rule);
    }
    if g.chance(0.3) {
        case = case.int("chunk_size", 32);
    }
    if g.chance(0.5) { case.float("scale", *g.pick(&[0.0, 0.5, 1.5])) } else { case }
}
