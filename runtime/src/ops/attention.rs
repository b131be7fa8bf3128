//! # Attention
//! `Y = softmax(cap(Q · Kᵀ · scale) + bias) · V` for each head, where the bias is the sum of `attn_mask`, the causal
//! bound, the window and the padding of a cache, −∞ where a key takes no part. Q, K and V are
//! `[batch, heads, length, width]` or `[batch, length, heads · width]`; a head of keys serves `q_num_heads /
//! kv_num_heads` heads of queries. Opsets 23, 24 (`nonpad_kv_seqlen`, masks shorter than the keys), 25 (windows).
//!
//! Query `i` stands at position `past + i`, in a cache of `n` valid keys at `n − queries + i`. The softmax is computed
//! in at least the type of the operands whatever `softmax_precision` asks for.

use super::attributes::NodeSpec;
use super::{Accuracy, Cost, Op, OpDef};
use crate::cpu::attention::{Attention as Plan, Cache, MaskForm, Operands, Sizes, Stage, Visible};
use crate::cpu::contraction::Panel;
use crate::cpu::number::dispatch;
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::families::attention::Roles;
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS, NUMBERS_AND_BOOL};
use crate::error::OpError;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::reference::{RefAttention, RefInputs, RefValue};
use crate::testing::gen_attention;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "Attention",
    domain: "",
    since: &[23, 24, 25],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case: gen_attention::case,
};

const MASK: usize = 3;
const PAST_KEY: usize = 4;
const PAST_VALUE: usize = 5;
const LENGTHS: usize = 6;

#[derive(Clone, Debug)]
struct Attention {
    heads: Option<usize>,
    kv_heads: Option<usize>,
    scale: Option<f32>,
    softcap: f32,
    precision: Option<DType>,
    stage: Stage,
    visible: Visible,
    /// Opset 24 on: a mask may be shorter than the keys, which are then masked from there on.
    short_masks: bool,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let count = |name: &str| -> Result<Option<usize>, OpError> {
        let Some(count) = spec.int(name)? else { return Ok(None) };
        let heads = usize::try_from(count).ok().filter(|&n| n > 0);
        heads.map(Some).ok_or_else(|| OpError::attribute(name, "is no positive number"))
    };
    let window = |name: &str| -> Result<Option<usize>, OpError> {
        let bound = if spec.opset < 25 { -1 } else { spec.int_or(name, -1)? };
        if bound < -1 {
            return Err(OpError::attribute(name, format!("is {bound}")));
        }
        Ok(usize::try_from(bound).ok())
    };
    let softcap = spec.float_or("softcap", 0.0)?;
    if softcap.is_nan() || softcap < 0.0 {
        return Err(OpError::attribute("softcap", "is no bound"));
    }
    let stage = match spec.int_or("qk_matmul_output_mode", 0)? {
        0 => Stage::Product,
        1 => Stage::Capped,
        2 => Stage::Biased,
        3 => Stage::Softmax,
        other => return Err(OpError::attribute("qk_matmul_output_mode", format!("is {other}"))),
    };
    if spec.has_input(PAST_KEY) != spec.has_input(PAST_VALUE) {
        return Err(OpError::input(PAST_KEY, "and the values of the cache come only together"));
    }
    if spec.has_input(LENGTHS) && spec.has_input(PAST_KEY) {
        return Err(OpError::input(LENGTHS, "is of a cache that is updated elsewhere, and another is given"));
    }
    Ok(Arc::new(Attention {
        heads: count("q_num_heads")?,
        kv_heads: count("kv_num_heads")?,
        scale: spec.float("scale")?,
        softcap,
        precision: softmax_precision(spec)?,
        stage,
        visible: Visible {
            causal: spec.flag_or("is_causal", false)?,
            left: window("left_window_size")?,
            right: window("right_window_size")?,
        },
        short_masks: spec.opset >= 24,
    }))
}

/// The type that the softmax is asked to be computed in.
pub(super) fn softmax_precision(spec: &NodeSpec) -> Result<Option<DType>, OpError> {
    let dtype = spec.dtype("softmax_precision")?;
    if dtype.is_some_and(|d| !FLOATS.contains(&d)) {
        return Err(OpError::attribute("softmax_precision", "is no float that softmax is computed in"));
    }
    Ok(dtype)
}

/// One extent from two places that must agree; the better known of the two.
pub(super) fn agreed(a: Dim, b: &Dim, what: &str) -> Result<Dim, OpError> {
    match (&a, b) {
        (Dim::Known(x), Dim::Known(y)) if x != y => {
            Err(OpError::shape(format!("{what} is {x} in one input and {y} in another")))
        }
        (Dim::Unknown, b) | (Dim::Expr(_), b @ Dim::Known(_)) => Ok(b.clone()),
        _ => Ok(a),
    }
}

/// The extent that `heads` heads share.
fn per_head(hidden: &Dim, heads: usize) -> Result<Dim, OpError> {
    match hidden.known() {
        Some(n) if !n.is_multiple_of(heads) => {
            Err(OpError::shape(format!("{n} elements are not those of {heads} heads")))
        }
        _ => Ok(hidden.exact_div(&Dim::Known(heads)).unwrap_or(Dim::Unknown)),
    }
}

/// Extents as far as they are known; see [`Sizes`].
#[derive(Clone, Debug)]
struct Extents {
    batch: Dim,
    heads: Dim,
    kv_heads: Dim,
    queries: Dim,
    past: Dim,
    keys: Dim,
    width: Dim,
    value_width: Dim,
    /// Rank of Q, K and V.
    rank: Option<usize>,
}

impl Extents {
    fn total(&self) -> Dim {
        &self.past + &self.keys
    }

    fn sizes(&self) -> Result<Sizes, OpError> {
        let known = |d: &Dim| d.known().ok_or_else(|| OpError::internal("an extent is not known"));
        Ok(Sizes {
            batch: known(&self.batch)?,
            heads: known(&self.heads)?,
            kv_heads: known(&self.kv_heads)?,
            queries: known(&self.queries)?,
            past: known(&self.past)?,
            keys: known(&self.keys)?,
            width: known(&self.width)?,
            value_width: known(&self.value_width)?,
        })
    }
}

impl Attention {
    /// `[batch, heads, length, width]` of input `index`.
    fn operand(&self, inputs: Facts<'_>, index: usize) -> Result<[Dim; 4], OpError> {
        let (name, heads) =
            if index == 0 { ("q_num_heads", self.heads) } else { ("kv_num_heads", self.kv_heads) };
        match inputs.tensor(index)?.shape.as_deref() {
            None => Ok([const { Dim::Unknown }; 4]),
            Some([b, l, hidden]) => {
                let heads = heads.ok_or_else(|| OpError::attribute(name, "is missing"))?;
                Ok([b.clone(), Dim::Known(heads), l.clone(), per_head(hidden, heads)?])
            }
            Some([b, h, l, w]) => {
                let given = heads.map_or(Dim::Unknown, Dim::Known);
                Ok([b.clone(), agreed(given, h, "the number of heads")?, l.clone(), w.clone()])
            }
            Some(_) => Err(OpError::input(index, "has neither 3 nor 4 axes")),
        }
    }

    fn extents(&self, inputs: Facts<'_>) -> Result<Extents, OpError> {
        let ranks: Vec<usize> = (0..3).filter_map(|i| inputs.tensor(i).ok()?.rank()).collect();
        if ranks.windows(2).any(|r| r[0] != r[1]) {
            return Err(OpError::shape("queries, keys and values differ in rank"));
        }
        let [batch, heads, queries, width] = self.operand(inputs, 0)?;
        let [b, kv_heads, keys, w] = self.operand(inputs, 1)?;
        let (batch, width) = (agreed(batch, &b, "the batch")?, agreed(width, &w, "the width of a key")?);
        let [b, h, l, value_width] = self.operand(inputs, 2)?;
        let batch = agreed(batch, &b, "the batch")?;
        let kv_heads = agreed(kv_heads, &h, "the number of heads")?;
        let keys = agreed(keys, &l, "the number of keys")?;
        let mut e = Extents {
            batch,
            heads,
            kv_heads,
            queries,
            past: Dim::Known(0),
            keys,
            width,
            value_width,
            rank: ranks.first().copied(),
        };
        if inputs.has(PAST_KEY) {
            e.past = Dim::Unknown;
            for index in [PAST_KEY, PAST_VALUE] {
                let [b, h, l, w] = match inputs.tensor(index)?.shape.as_deref() {
                    None => continue,
                    Some([b, h, l, w]) => [b, h, l, w],
                    Some(_) => return Err(OpError::input(index, "has not 4 axes")),
                };
                e.batch = agreed(e.batch, b, "the batch")?;
                e.kv_heads = agreed(e.kv_heads, h, "the number of heads")?;
                e.past = agreed(e.past, l, "the length of the cache")?;
                let own = if index == PAST_KEY { &mut e.width } else { &mut e.value_width };
                *own = agreed(own.clone(), w, "the width of a head")?;
            }
        }
        if let Some(lengths) = inputs.optional(LENGTHS)? {
            match lengths.shape.as_deref() {
                None => {}
                Some([b]) => e.batch = agreed(e.batch, b, "the batch")?,
                Some(_) => return Err(OpError::input(LENGTHS, "is no list")),
            }
        }
        if e.heads.known() == Some(0) || e.kv_heads.known() == Some(0) || e.width.known() == Some(0) {
            return Err(OpError::shape("there are no heads, or heads of no elements"));
        }
        if let (Some(q), Some(kv)) = (e.heads.known(), e.kv_heads.known())
            && !q.is_multiple_of(kv)
        {
            return Err(OpError::shape(format!("{q} heads of queries cannot share {kv} heads of keys")));
        }
        Ok(e)
    }

    fn check_types(&self, inputs: Facts<'_>) -> Result<(), OpError> {
        inputs.expect_count(3, if self.short_masks { 7 } else { 6 })?;
        let (q, v) = (inputs.typed(0, FLOATS)?.dtype, inputs.typed(2, FLOATS)?.dtype);
        inputs.typed(1, &[q])?;
        for (index, dtypes) in
            [(MASK, NUMBERS_AND_BOOL), (PAST_KEY, &[q]), (PAST_VALUE, &[v]), (LENGTHS, &[DType::I64])]
        {
            if inputs.has(index) {
                inputs.typed(index, dtypes)?;
            }
        }
        Ok(())
    }

    fn check_mask(&self, inputs: Facts<'_>, e: &Extents) -> Result<(), OpError> {
        let Some(shape) = inputs.optional(MASK)?.and_then(|mask| mask.shape.as_deref()) else {
            return Ok(());
        };
        let misfit = || OpError::input(MASK, format!("of shape {shape:?} does not fit the scores"));
        let [lead @ .., last] = shape else { return Err(misfit()) };
        let broadcasts = |(own, scores): (&Dim, &Dim)| match (own.known(), scores.known()) {
            (Some(own), Some(scores)) => own == scores || own == 1,
            _ => true,
        };
        let total = e.total();
        let covers = match (last.known(), total.known()) {
            (Some(own), Some(total)) if self.short_masks => own <= total,
            _ => broadcasts((last, &total)),
        };
        // A single element is for all keys, also where there are none.
        let covers = covers || last.known() == Some(1);
        let fits = lead.iter().rev().zip([&e.queries, &e.heads, &e.batch]).all(broadcasts);
        if covers && fits && lead.len() <= 3 { Ok(()) } else { Err(misfit()) }
    }

    fn plan(&self, inputs: Facts<'_>) -> Result<Plan, OpError> {
        let e = self.extents(inputs)?;
        let sizes = e.sizes()?;
        let dtype = inputs.tensor(0)?.dtype;
        let mask = if inputs.has(MASK) {
            let shape = inputs.tensor(MASK)?.known_shape();
            let shape = shape.ok_or_else(|| OpError::internal("a mask of unknown shape"))?;
            Some(MaskForm::new(&shape, sizes.total(), !self.short_masks))
        } else {
            None
        };
        Ok(Plan {
            sizes,
            packed: e.rank == Some(3),
            scale: self.scale.map_or_else(|| 1.0 / (sizes.width as f64).sqrt(), f64::from),
            softcap: f64::from(self.softcap),
            wide_softmax: self.precision == Some(DType::F64) && dtype != DType::F64,
            visible: self.visible,
            mask,
        })
    }
}

/// Checks that the numbers of valid keys are some.
fn check_lengths(lengths: Option<&[i64]>, keys: usize) -> Result<(), OpError> {
    let inside = |n: i64| usize::try_from(n).is_ok_and(|n| n <= keys);
    match lengths.unwrap_or_default().iter().find(|&&n| !inside(n)) {
        Some(n) => Err(OpError::value(format!("{n} valid keys of {keys}"))),
        None => Ok(()),
    }
}

fn run<T: Panel>(io: &mut Io<'_, '_>, plan: &Plan, stage: Stage) -> Result<(), OpError> {
    let context = io.context;
    let operands = Operands::<T> {
        query: io.input(0)?,
        key: io.input(1)?,
        past_key: io.optional_input(PAST_KEY)?.unwrap_or_default(),
        value: io.tensor(2)?,
        past_value: io.optional(PAST_VALUE),
        mask: io.optional(MASK),
        lengths: io.optional_input(LENGTHS)?,
    };
    let Sizes { kv_heads, past, keys, width, value_width, .. } = plan.sizes;
    check_lengths(operands.lengths, keys)?;
    plan.attend(context, &operands, io.output_and_scratch::<T>(0)?)?;
    for (output, (new, old), width) in [(1, (1, PAST_KEY), width), (2, (2, PAST_VALUE), value_width)] {
        let (new, old) = (io.tensor(new)?, io.optional(old));
        let row = width.saturating_mul(new.dtype().bits() / 8);
        let cache = Cache { kv_heads, past, keys, row, packed: plan.packed };
        cache.join(context, old, new, io.output_bytes(output)?)?;
    }
    plan.show(context, &operands, stage, T::DTYPE, io.bytes_and_scratch(3)?)
}

impl Op for Attention {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        self.check_types(inputs)?;
        let e = self.extents(inputs)?;
        self.check_mask(inputs, &e)?;
        let (key, value) = (inputs.tensor(0)?.dtype, inputs.tensor(2)?.dtype);
        let total = e.total();
        let y = match e.rank {
            Some(3) => {
                let hidden = &e.heads * &e.value_width;
                TensorFact::new(key, vec![e.batch.clone(), e.queries.clone(), hidden])
            }
            Some(_) => {
                let shape = [&e.batch, &e.heads, &e.queries, &e.value_width];
                TensorFact::new(key, shape.map(Dim::clone).to_vec())
            }
            None => TensorFact::unranked(key),
        };
        let four = |dtype, shape: [&Dim; 4]| TensorFact::new(dtype, shape.map(Dim::clone).to_vec());
        Ok(vec![
            y.into(),
            four(key, [&e.batch, &e.kv_heads, &total, &e.width]).into(),
            four(value, [&e.batch, &e.kv_heads, &total, &e.value_width]).into(),
            four(key, [&e.batch, &e.heads, &e.queries, &total]).into(),
        ])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let moved = inputs.0.iter().flatten().map(|f| bytes(f)).chain(outputs.iter().map(bytes)).sum();
        let flops = self.extents(inputs).and_then(|e| e.sizes()).map_or(0.0, |s| {
            let scores = s.batch as f64 * s.heads as f64 * s.queries as f64 * s.total() as f64;
            scores * (2.0 * (s.width as f64 + s.value_width as f64) + 4.0)
        });
        Cost { flops, bytes: moved }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let (plan, stage) = (self.plan(site.inputs)?, self.stage);
        dispatch!(site.inputs.tensor(0)?.dtype, floats, T => {
            let scratch = plan.scratch::<T>(site.threads);
            Ok(Kernel::new(move |io| run::<T>(io, &plan, stage)).with_scratch(scratch))
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let roles = Roles { mask: MASK, past: [PAST_KEY, PAST_VALUE], lengths: LENGTHS };
        let plan = self.plan(site.inputs).map_err(|_| GpuReject::DataDependent)?;
        families::attention::kernel(site, &plan, roles)
            .or_else(|_| families::attention_parts::kernel(site, &plan, roles, self.stage))
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let signed = |bound: Option<usize>| bound.and_then(|n| i64::try_from(n).ok());
        let reference = RefAttention {
            heads: self.heads.zip(self.kv_heads),
            causal: self.visible.causal,
            left: signed(self.visible.left),
            right: signed(self.visible.right),
            scale: self.scale.map(f64::from),
            softcap: f64::from(self.softcap),
            shown: self.stage as usize,
            short_masks: self.short_masks,
        };
        reference.run(inputs)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
