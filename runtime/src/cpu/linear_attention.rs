//! Linear attention: a state of `d_k × d_v` per head of keys, updated token by token.
//!
//! `S ← a ⊙ S + k ⊗ u`, `o = scale · Sᵀq`, with `a = exp(g)` or 1 for each row of the state, and `u = v` or
//! `β(v − (a ⊙ S)ᵀk)`. A tile is one state; each token goes over it twice, once to decay it and to read what it holds of the
//! key, once to write and to read for the queries. Rows of the state are contiguous, so that all inner loops are over
//! neighbouring elements. States and sums are f32.

use super::contraction::scratch_of;
use super::gemm::{Blocks, MatrixMut};
use super::moments::store_floats;
use super::number::{Number, Real, dispatch};
use super::tiles::{Chunks, Lanes, for_each_tile};
use super::{Io, RunContext};
use crate::dtype::DType;
use crate::error::OpError;
use crate::tensor::TensorView;

/// What an update does besides adding `k ⊗ v`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rule {
    /// The state decays first.
    pub(crate) gated: bool,
    /// What the state holds of the key is taken off the value, and the rest added in part.
    pub(crate) delta: bool,
}

/// A linear attention with its shapes known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) batch: usize,
    pub(crate) tokens: usize,
    /// Heads of queries, a multiple of those of keys.
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Elements of a key and of a query, and of a value.
    pub(crate) key: usize,
    pub(crate) value: usize,
    pub(crate) scale: f32,
    pub(crate) rule: Rule,
    /// Whether there is a decay for each element of a key, or one for the head.
    pub(crate) decay_by_element: bool,
    /// Whether there is a rate for each head, or one for all.
    pub(crate) rate_by_head: bool,
}

/// What all tiles read.
struct Inputs<'a, T> {
    query: &'a [T],
    key: &'a [T],
    value: &'a [T],
    decay: &'a [T],
    rate: &'a [T],
    past: Option<TensorView<'a>>,
}

impl Plan {
    /// Floating-point operations of the whole.
    pub(crate) fn flops(&self) -> f64 {
        let group = self.heads / self.kv_heads.max(1);
        let rule = usize::from(self.rule.gated) + 2 * usize::from(self.rule.delta);
        let steps = self.batch as f64 * self.tokens as f64 * self.kv_heads as f64;
        steps * self.state() as f64 * (2 + 2 * group + rule) as f64
    }

    fn state(&self) -> usize {
        self.key.saturating_mul(self.value)
    }

    /// Scratch bytes of a thread: the state, what is written to it, what a query reads.
    fn scratch_each(&self) -> usize {
        let elements = self.state().saturating_add(self.value.saturating_mul(2));
        elements.saturating_mul(size_of::<f32>())
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        Lanes::bytes(self.scratch_each(), threads)
    }

    /// Output 0 is read off the states, output 1 the states after the last token.
    pub(crate) fn run<T: Real<Compute = f32>>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let inputs = Inputs::<T> {
            query: io.input(0)?,
            key: io.input(1)?,
            value: io.input(2)?,
            past: io.optional(3),
            decay: io.optional_input(4)?.unwrap_or_default(),
            rate: io.optional_input(5)?.unwrap_or_default(),
        };
        let context = io.context;
        let state_type = inputs.past.map_or(T::DTYPE, |past| past.dtype());
        let (y, present, scratch) = io.output_bytes_and_scratch::<T>()?;
        let &Self { batch, tokens, heads, kv_heads, value, .. } = self;
        let strip = heads / kv_heads * value;
        let blocks = if y.is_empty() {
            None
        } else {
            Some(Blocks::new(y, (batch, tokens, heads * value), (tokens, strip))?)
        };
        let states = Chunks::new(present, self.state().saturating_mul(state_type.bits() / 8));
        let lanes = Lanes::new(scratch, self.scratch_each());
        for_each_tile(context, self.flops() as usize, lanes, &(blocks, states), &|tile, (y, state), own| {
            let y = y.map(|block| block.out);
            self.tile(context, &inputs, tile, y, (state_type, state), own)
        })
    }

    /// The tokens of one image through the state of one head.
    fn tile<T: Real<Compute = f32>>(
        &self,
        context: RunContext<'_>,
        inputs: &Inputs<'_, T>,
        tile: usize,
        mut y: Option<MatrixMut<'_, T>>,
        (state_type, present): (DType, &mut [u8]),
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let &Self { tokens, heads, kv_heads, key: dk, value: dv, .. } = self;
        let (image, head, group) = (tile / kv_heads, tile % kv_heads, heads / kv_heads);
        let size = self.state();
        let (state, rest) = scratch_of::<f32>(scratch, size + 2 * dv)?.split_at_mut(size);
        let (update, read) = rest.split_at_mut(dv);
        state.fill(0.0);
        if let Some(past) = inputs.past {
            load_part(past, tile * size, state)?;
        }
        for token in 0..tokens {
            context.interrupt.check()?;
            let row = image * tokens + token;
            let key = &inputs.key[(row * kv_heads + head) * dk..][..dk];
            let value = &inputs.value[(row * kv_heads + head) * dv..][..dv];
            self.recall(inputs, row, head, key, state, update);
            let rate = self
                .rule
                .delta
                .then(|| inputs.rate[if self.rate_by_head { row * kv_heads + head } else { row }].load());
            for (u, v) in update.iter_mut().zip(value) {
                *u = rate.map_or(v.load(), |rate| rate * (v.load() - *u));
            }
            for (state, k) in state.chunks_exact_mut(dv).zip(key) {
                let k = k.load();
                state.iter_mut().zip(&*update).for_each(|(s, u)| *s += k * u);
            }
            let Some(y) = &mut y else { continue };
            for (reader, y) in y.row(token).chunks_exact_mut(dv).enumerate() {
                let query = &inputs.query[(row * heads + head * group + reader) * dk..][..dk];
                read.fill(0.0);
                for (state, q) in state.chunks_exact(dv).zip(query) {
                    let q = q.load();
                    read.iter_mut().zip(state).for_each(|(o, s)| *o += q * s);
                }
                y.iter_mut().zip(&*read).for_each(|(y, o)| *y = T::store(self.scale * o));
            }
        }
        if present.is_empty() {
            return Ok(());
        }
        store_floats(state_type, present, state.iter().map(|s| f64::from(*s)))
    }

    /// Decays the state, and reads what it holds of `key`, where the rule wants that.
    fn recall<T: Real<Compute = f32>>(
        &self,
        inputs: &Inputs<'_, T>,
        row: usize,
        head: usize,
        key: &[T],
        state: &mut [f32],
        held: &mut [f32],
    ) {
        let first = row * self.kv_heads + head;
        held.fill(0.0);
        let factor = |at: usize| inputs.decay[at].load().exp();
        let of_head = (self.rule.gated && !self.decay_by_element).then(|| factor(first));
        if !self.rule.gated && !self.rule.delta {
            return;
        }
        for (d, (state, k)) in state.chunks_exact_mut(self.value).zip(key).enumerate() {
            if self.rule.gated {
                let factor = of_head.unwrap_or_else(|| factor(first * self.key + d));
                state.iter_mut().for_each(|s| *s *= factor);
            }
            if self.rule.delta {
                let k = k.load();
                held.iter_mut().zip(&*state).for_each(|(h, s)| *h += k * s);
            }
        }
    }
}

/// The elements of `from` at `at`, as many as `to` has.
fn load_part(from: TensorView<'_>, at: usize, to: &mut [f32]) -> Result<(), OpError> {
    dispatch!(from.dtype(), floats, S => {
        let part = &from.elements::<S>()?[at..][..to.len()];
        to.iter_mut().zip(part).for_each(|(to, from)| *to = from.to_f64() as f32);
        Ok(())
    })
}
