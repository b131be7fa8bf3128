//! # FlexAttention
//! `Y = prob_mod(softmax(score_mod(Q · Kᵀ · scale))) · V` for each head, of `[batch, heads, length, width]`; a head of keys
//! serves neighbouring heads of queries. The modifiers are graphs from the whole tensor of scores, or of
//! probabilities, to one of the same shape. Domain `ai.onnx.preview`, version 1.
//!
//! Scores and what follows are of the type `softmax_precision`: f64 for f64, f32 otherwise by default. Without modifiers
//! they are never held as a whole; see [`crate::cpu::attention`].

use super::attention::{agreed, softmax_precision};
use super::attributes::{Body, NodeSpec};
use super::{Accuracy, Cost, Op, OpDef, PackSite, Packed};
use crate::cpu::attention::{Attention as Plan, Operands, Sizes, Stage, Visible};
use crate::cpu::body::{BodyPrograms, pack_bodies, run_body};
use crate::cpu::contraction::{BatchAxis, Contraction, Panel};
use crate::cpu::lines::Lines;
use crate::cpu::moments::store_floats;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::softmax::{Form, softmax};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, families};
use crate::dtype::{DType, FLOATS};
use crate::error::OpError;
use crate::exec::Program;
use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::{Dim, NodeError};
use crate::memory::{Budget, Buffer};
use crate::reference::{RefInputs, RefTensor, RefValue, run_graph};
use crate::tensor::{Tensor, TensorView, Value, ValueRef, element_count};
use crate::testing::gen_attention;
use smallvec::SmallVec;
use std::any::Any;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "FlexAttention",
    domain: "ai.onnx.preview",
    since: &[1],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse,
    case: gen_attention::flex_case,
};

/// Inputs before those that the modifiers capture.
const FORMAL: usize = 3;

#[derive(Clone, Debug)]
struct FlexAttention {
    scale: Option<f32>,
    precision: Option<DType>,
    score_mod: Option<Body>,
    prob_mod: Option<Body>,
}

fn parse(spec: &NodeSpec) -> Result<Arc<dyn Op>, OpError> {
    let modifier = |name: &str| -> Result<Option<Body>, OpError> {
        let body = spec.body(name)?;
        if body.as_ref().is_some_and(|b| b.formal_inputs != 1 || b.graph.outputs.len() != 1) {
            return Err(OpError::attribute(name, "is no graph of one input and one output"));
        }
        Ok(body)
    };
    Ok(Arc::new(FlexAttention {
        scale: spec.float("scale")?,
        precision: softmax_precision(spec)?,
        score_mod: modifier("score_mod")?,
        prob_mod: modifier("prob_mod")?,
    }))
}

/// `[batch, heads, queries, width]`, keys, width of a value.
struct Extents {
    query: [Dim; 4],
    kv_heads: Dim,
    keys: Dim,
    value_width: Dim,
}

impl Extents {
    fn sizes(&self) -> Result<Sizes, OpError> {
        let known = |d: &Dim| d.known().ok_or_else(|| OpError::internal("an extent is not known"));
        let [batch, heads, queries, width] = &self.query;
        Ok(Sizes {
            batch: known(batch)?,
            heads: known(heads)?,
            kv_heads: known(&self.kv_heads)?,
            queries: known(queries)?,
            past: 0,
            keys: known(&self.keys)?,
            width: known(width)?,
            value_width: known(&self.value_width)?,
        })
    }
}

fn extents(inputs: Facts<'_>) -> Result<Extents, OpError> {
    let axes = |index: usize| match inputs.tensor(index)?.shape.as_deref() {
        None => Ok([const { Dim::Unknown }; 4]),
        Some(shape) => {
            <[Dim; 4]>::try_from(shape.to_vec()).map_err(|_| OpError::input(index, "has not 4 axes"))
        }
    };
    let ([mut batch, heads, queries, mut width], key, value) = (axes(0)?, axes(1)?, axes(2)?);
    for other in [&key[0], &value[0]] {
        batch = agreed(batch, other, "the batch")?;
    }
    width = agreed(width, &key[3], "the width of a key")?;
    let [_, kv_heads, keys, _] = key;
    let kv_heads = agreed(kv_heads, &value[1], "the number of heads")?;
    let keys = agreed(keys, &value[2], "the number of keys")?;
    if heads.known() == Some(0) || kv_heads.known() == Some(0) || width.known() == Some(0) {
        return Err(OpError::shape("there are no heads, or heads of no elements"));
    }
    if let (Some(q), Some(kv)) = (heads.known(), kv_heads.known())
        && !q.is_multiple_of(kv)
    {
        return Err(OpError::shape(format!("{q} heads of queries cannot share {kv} heads of keys")));
    }
    let [_, _, _, value_width] = value;
    Ok(Extents { query: [batch, heads, queries, width], kv_heads, keys, value_width })
}

/// The type that scores have for operands of `dtype`.
fn score_type(precision: Option<DType>, dtype: DType) -> DType {
    precision.unwrap_or(if dtype == DType::F64 { DType::F64 } else { DType::F32 })
}

/// The scores, as the modifiers are given them.
fn scores(inputs: Facts<'_>, precision: Option<DType>) -> Result<TensorFact, OpError> {
    let Extents { query: [batch, heads, queries, _], keys, .. } = extents(inputs)?;
    let dtype = score_type(precision, inputs.tensor(0)?.dtype);
    Ok(TensorFact::new(dtype, vec![batch, heads, queries, keys]))
}

impl FlexAttention {
    /// The modifiers with the captures of each among the node's inputs.
    fn modifiers(&self) -> [Option<(&Body, std::ops::Range<usize>)>; 2] {
        let mut next = FORMAL;
        [&self.score_mod, &self.prob_mod].map(|body| {
            let body = body.as_ref()?;
            let first = next;
            next += body.graph.inputs.len() - body.formal_inputs;
            Some((body, first..next))
        })
    }

    fn scale(&self, width: usize) -> f64 {
        self.scale.map_or_else(|| 1.0 / (width as f64).sqrt(), f64::from)
    }

    /// The attention without its modifiers, shapes known, and the type of its scores.
    fn plan(&self, inputs: Facts<'_>) -> Result<(Plan, DType), OpError> {
        let (sizes, dtype) = (extents(inputs)?.sizes()?, inputs.tensor(0)?.dtype);
        let score_type = score_type(self.precision, dtype);
        let plan = Plan {
            sizes,
            packed: false,
            scale: self.scale(sizes.width),
            softcap: 0.0,
            wide_softmax: score_type == DType::F64 && dtype != DType::F64,
            visible: Visible::default(),
            mask: None,
        };
        Ok((plan, score_type))
    }
}

/// A modifier with its program and captures, when there is one.
type Modifier = Option<(Arc<BodyPrograms>, usize, std::ops::Range<usize>)>;

/// The operator with its shapes known.
struct Prepared {
    plan: Plan,
    score_type: DType,
    modifiers: [Modifier; 2],
}

impl Prepared {
    fn score_shape(&self) -> [usize; 4] {
        let Sizes { batch, heads, queries, keys, .. } = self.plan.sizes;
        [batch, heads, queries, keys]
    }

    /// Weighted sums of values: the rows of a group of heads share one matrix.
    fn sums(&self) -> Contraction {
        let Sizes { batch, heads, kv_heads, queries, keys, value_width, .. } = self.plan.sizes;
        let rows = (heads / kv_heads.max(1)).saturating_mul(queries);
        let axis = BatchAxis {
            extent: batch.saturating_mul(kv_heads),
            a: rows.saturating_mul(keys),
            b: keys.saturating_mul(value_width),
            y: 0,
        };
        let (a, b) = ((keys, 1), (value_width, 1));
        Contraction { batch: vec![axis], m: rows, n: value_width, k: keys, a, b, y: 0 }.row_major()
    }

    /// The outcome of modifier `which` on `scores`, or `scores` where there is none.
    fn modified(&self, io: &Io<'_, '_>, which: usize, scores: Tensor) -> Result<Tensor, OpError> {
        let Some((programs, at, captures)) = &self.modifiers[which] else { return Ok(scores) };
        let mut given: SmallVec<[ValueRef<'_>; 4]> = SmallVec::new();
        given.push(scores.view().into());
        for index in captures.clone() {
            given.push(io.value(index)?);
        }
        let program: &Program = &programs.0[*at];
        let made = run_body(program, &given, io.context)?.pop().and_then(Value::into_tensor);
        let fits = |t: &Tensor| t.dtype() == self.score_type && t.shape() == self.score_shape();
        made.filter(fits).ok_or_else(|| OpError::value("a modifier changes the shape or type of the scores"))
    }

    /// With modifiers: scores and probabilities as whole tensors of type `P`.
    fn run<T: Panel, P: Panel>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (context, shape) = (io.context, self.score_shape());
        let budget = context.budget;
        let operands = operands::<T>(io)?;
        let place = || -> Result<Buffer, OpError> {
            let count = element_count(&shape).ok_or_else(|| budget.overflow())?;
            Buffer::zeroed_for::<P>(count, budget)
        };
        let mut scores = place()?;
        let parts = (scores.bytes_mut(), io.scratch());
        self.plan.show(context, &operands, Stage::Product, P::DTYPE, parts)?;
        let scores = self.modified(io, 0, Tensor::from_buffer(P::DTYPE, &shape, scores)?)?;
        let mut weights = place()?;
        let lines = Lines::along(&shape, 3);
        let score_view = scores.view();
        softmax(context, lines, Form::Softmax, score_view.elements::<P>()?, weights.elements_mut::<P>())?;
        let weights = self.modified(io, 1, Tensor::from_buffer(P::DTYPE, &shape, weights)?)?;
        let values = converted::<P>(operands.value, budget)?;
        let (weights, values) = (weights.view(), values.as_ref().map_or(operands.value, Tensor::view));
        let operands = (weights.elements::<P>()?, values.elements::<P>()?);
        let sums = self.sums();
        if T::DTYPE == P::DTYPE {
            return sums.run(context, operands, io.output_and_scratch::<P>(0)?, &|_, _, _| Ok(()));
        }
        let mut made = Buffer::zeroed_for::<P>(io.output::<T>(0)?.len(), budget)?;
        sums.run(context, operands, (made.elements_mut::<P>(), io.scratch()), &|_, _, _| Ok(()))?;
        let y = io.output::<T>(0)?;
        y.iter_mut().zip(made.elements::<P>()).for_each(|(y, made)| *y = T::from_f64(made.to_f64()));
        Ok(())
    }
}

/// What the attention reads.
fn operands<'a, T: Panel>(io: &Io<'a, '_>) -> Result<Operands<'a, T>, OpError> {
    Ok(Operands {
        query: io.input(0)?,
        key: io.input(1)?,
        past_key: &[],
        value: io.tensor(2)?,
        past_value: None,
        mask: None,
        lengths: None,
    })
}

/// `view` as a tensor of type `P`, when it is of another.
fn converted<P: Number>(view: TensorView<'_>, budget: &Budget) -> Result<Option<Tensor>, OpError> {
    if view.dtype() == P::DTYPE {
        return Ok(None);
    }
    let mut buffer = Buffer::zeroed_for::<P>(view.len(), budget)?;
    dispatch!(view.dtype(), floats, V => {
        let from = view.elements::<V>()?.iter().map(|v| v.to_f64());
        if !view.is_empty() {
            store_floats(P::DTYPE, buffer.bytes_mut(), from)?;
        }
        Ok::<(), OpError>(())
    })?;
    Tensor::from_buffer(P::DTYPE, view.shape(), buffer).map(Some)
}

impl Op for FlexAttention {
    fn infer(&self, inputs: Facts<'_>) -> Result<Vec<Fact>, OpError> {
        let captures = self.bodies().iter().map(|b| b.graph.inputs.len() - b.formal_inputs).sum::<usize>();
        inputs.expect_count(FORMAL, FORMAL + captures)?;
        let dtype = inputs.typed(0, FLOATS)?.dtype;
        inputs.typed(1, &[dtype])?;
        inputs.typed(2, &[dtype])?;
        let Extents { query: [batch, heads, queries, _], value_width, .. } = extents(inputs)?;
        let scores = scores(inputs, self.precision)?;
        for (body, captured) in self.modifiers().into_iter().flatten() {
            let mut given: Vec<Fact> = vec![scores.clone().into()];
            for index in captured {
                given.push(inputs.value(index)?.clone());
            }
            let made = body.graph.infer_outputs(&given)?;
            let made = made.first().and_then(Fact::tensor);
            let agree = |(a, b): (&Dim, &Dim)| a.known().zip(b.known()).is_none_or(|(a, b)| a == b);
            let fits = made.is_some_and(|made| {
                made.dtype == scores.dtype
                    && made.shape.iter().zip(&scores.shape).all(|(made, scores)| {
                        made.len() == scores.len() && made.iter().zip(scores).all(agree)
                    })
            });
            if !fits {
                return Err(OpError::shape("a modifier changes the shape or type of the scores"));
            }
        }
        Ok(vec![TensorFact::new(dtype, vec![batch, heads, queries, value_width]).into()])
    }

    fn cost(&self, inputs: Facts<'_>, outputs: &[Fact]) -> Cost {
        let bytes = |f: &Fact| f.tensor().and_then(TensorFact::bytes).unwrap_or(0) as f64;
        let moved = inputs.0.iter().flatten().map(|f| bytes(f)).chain(outputs.iter().map(bytes)).sum();
        let flops = extents(inputs).and_then(|e| e.sizes()).map_or(0.0, |s| {
            let scores = s.batch as f64 * s.heads as f64 * s.queries as f64 * s.keys as f64;
            scores * (2.0 * (s.width as f64 + s.value_width as f64) + 4.0)
        });
        Cost { flops, bytes: moved }
    }

    fn body_cost(&self, inputs: Facts<'_>) -> Option<Cost> {
        let scores = scores(inputs, self.precision).ok()?;
        self.modifiers().into_iter().flatten().try_fold(Cost::default(), |sum, (body, captured)| {
            let mut given: Vec<Fact> = vec![scores.clone().into()];
            for index in captured {
                given.push(inputs.value(index).ok()?.clone());
            }
            Some(sum + body.graph.cost(&given)?)
        })
    }

    fn pack(&self, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
        let bodies = self.bodies();
        if bodies.is_empty() { Ok(None) } else { pack_bodies(&bodies, site) }
    }

    fn cpu(&self, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
        let dtype = site.inputs.tensor(0)?.dtype;
        let (plan, score_type) = self.plan(site.inputs)?;
        let mut next = 0;
        let mut modifiers = [const { None }; 2];
        for (place, modifier) in modifiers.iter_mut().zip(self.modifiers()) {
            let Some((_, captures)) = modifier else { continue };
            let programs = site.packed_as::<BodyPrograms>();
            let programs = programs.ok_or_else(|| OpError::internal("bodies not packed"))?;
            *place = Some((programs, next, captures));
            next += 1;
        }
        let prepared = Prepared { plan, score_type, modifiers };
        let threads = site.threads;
        dispatch!(dtype, floats, T => {
            let scratch = prepared.plan.scratch::<T>(threads);
            if next == 0 {
                return Ok(Kernel::new(move |io| {
                    let operands = operands::<T>(io)?;
                    prepared.plan.attend(io.context, &operands, io.output_and_scratch::<T>(0)?)
                })
                .with_scratch(scratch));
            }
            dispatch!(score_type, floats, P => {
                let scratch = scratch.max(prepared.sums().scratch::<P>(threads, false, None));
                Ok(Kernel::new(move |io| prepared.run::<T, P>(io)).with_scratch(scratch))
            })
        })
    }

    fn gpu(&self, site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
        let (plan, score_type) = self.plan(site.inputs).map_err(|_| GpuReject::NoKernel)?;
        let modifiers = self.modifiers().map(|modifier| modifier.map(|(body, range)| (&body.graph, range)));
        families::flex_attention::kernel(site, &plan, score_type, modifiers)
    }

    fn reference(&self, inputs: &RefInputs<'_>) -> Result<Vec<RefValue>, OpError> {
        let (q, k, v) = (inputs.tensor(0)?, inputs.tensor(1)?, inputs.tensor(2)?);
        let (&[batch, heads, rows, width], &[_, kv_heads, keys, _]) = (&q.shape[..], &k.shape[..]) else {
            return Err(OpError::internal("an operand of other than 4 axes"));
        };
        let (value_width, group) = (v.shape[3], heads / kv_heads);
        let (qs, ks, vs) = (q.as_floats()?, k.as_floats()?, v.as_floats()?);
        let shared = |at: usize| at / (heads * rows) * kv_heads + at / rows % heads / group;
        let mut scores = Vec::with_capacity(batch * heads * rows * keys);
        for at in 0..batch * heads * rows {
            for j in 0..keys {
                let key = &ks[(shared(at) * keys + j) * width..][..width];
                let product: f64 = qs[at * width..][..width].iter().zip(key).map(|(q, k)| q * k).sum();
                scores.push(product * self.scale(width));
            }
        }
        let shape = [batch, heads, rows, keys];
        let precision = score_type(self.precision, q.dtype);
        let [score_mod, prob_mod] = self.modifiers();
        let modified = |modifier: Option<(&Body, std::ops::Range<usize>)>, data: Vec<f64>| {
            let Some((body, captures)) = modifier else { return Ok(data) };
            let mut given: Vec<RefValue> = vec![RefTensor::floats(precision, &shape, data).into()];
            for index in captures {
                given.push(inputs.value(index)?.clone());
            }
            let made = run_graph(&body.graph, &given).map_err(NodeError::in_body)?;
            let made = made.first().ok_or_else(|| OpError::internal("a modifier gives nothing"))?;
            Ok::<_, OpError>(made.tensor()?.as_floats()?.to_vec())
        };
        let mut weights = modified(score_mod, scores)?;
        for line in weights.chunks_mut(keys.max(1)) {
            let most = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = line.iter().map(|s| (s - most).exp()).sum();
            line.iter_mut().for_each(|s| *s = (*s - most).exp() / sum);
        }
        let weights = modified(prob_mod, weights)?;
        let mut y = Vec::with_capacity(batch * heads * rows * value_width);
        for at in 0..batch * heads * rows {
            for m in 0..value_width {
                let value = |j: usize| vs[(shared(at) * keys + j) * value_width + m];
                y.push((0..keys).map(|j| weights[at * keys + j] * value(j)).sum());
            }
        }
        Ok(vec![RefTensor::floats(q.dtype, &[batch, heads, rows, value_width], y).into()])
    }

    fn bodies(&self) -> Vec<&Body> {
        self.score_mod.iter().chain(&self.prob_mod).collect()
    }

    fn with_bodies(&self, bodies: Vec<Body>) -> Option<Arc<dyn Op>> {
        let mut bodies = bodies.into_iter();
        let score_mod = self.score_mod.as_ref().and_then(|_| bodies.next());
        let prob_mod = self.prob_mod.as_ref().and_then(|_| bodies.next());
        Some(Arc::new(FlexAttention { score_mod, prob_mod, ..self.clone() }))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
