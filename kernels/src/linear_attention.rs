//! # Linear attention
//! A state `S` of `d_k × d_v` for each head of keys goes over the tokens: `S ← a ⊙ S + k ⊗ u`, `y = scale · Sᵀq`, with
//! `a = exp(g)` or 1 for each row, and `u = v` or `β(v − (a ⊙ S)ᵀk)`.
//!
//! Columns of a state do not meet: a warp takes one, its lanes keep every 32nd element in registers from the first token to
//! the last, and two sums over the warp are all that a token takes, one for the rule that takes off what is held and one for
//! each head of queries that reads the state. States and sums are f32: sums of `d_k` terms in an order that the lanes give.
//!
//! Grid `min(⌈batch · heads · d_v / 4⌉, 32 per multiprocessor)`, block 128, no shared memory.

use crate::device::math::divide;
use crate::device::{Global, thread, warp};
use crate::element::Element;
use crate::elementary::exp;
use crate::elements;
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject};
use crate::wide::{load_real, store_real};

/// Threads of a block.
pub const THREADS: u32 = 128;
const WARPS: u32 = THREADS / 32;
/// Elements of a column that a lane keeps.
const KEPT: usize = 8;
/// The widest key.
pub const MOST_KEY: u32 = 32 * KEPT as u32;

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    query: Global<u8>,
    key: Global<u8>,
    value: Global<u8>,
    past: Global<u8>,
    decay: Global<u8>,
    rate: Global<u8>,
    y: Global<u8>,
    present: Global<u8>,
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    /// Elements of a key, and of a value.
    keys: u32,
    values: u32,
    /// Columns of all states.
    columns: u32,
    /// Warps of the grid.
    warps: u32,
    scale: f32,
    dtype: u32,
    state_type: u32,
    decays: u32,
    rates: u32,
    /// Whether there is a past, and which outputs are wanted.
    has_past: u32,
    wants_y: u32,
    wants_present: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 128);

/// How many numbers there are for a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Given {
    /// None.
    Nothing,
    /// One.
    One,
    /// One for each head.
    Head,
    /// One for each element of a key.
    Element,
}

/// The sum of all lanes' values.
#[inline(always)]
fn sum(value: f32) -> f32 {
    warp::reduce(value, |a, b| a + b)
}

/// A column through all tokens.
#[inline(always)]
fn column(p: &Params, number: u32) {
    let lane = warp::lane_id();
    let (state, m) = divide(number, p.values);
    let (image, head) = divide(state, p.kv_heads);
    let (group, _) = divide(p.heads, p.kv_heads);
    let element = |i: usize| lane + 32 * i as u32;
    let of_state = |d: u32| (u64::from(state * p.keys + d) * u64::from(p.values) + u64::from(m)) as usize;
    let mut s = [0f32; KEPT];
    for i in 0..KEPT {
        if p.has_past != 0 && element(i) < p.keys {
            s[i] = load_real(p.past, p.state_type, of_state(element(i)));
        }
    }
    let mut token = 0;
    while token < p.tokens {
        let row = image * p.tokens + token;
        let own = row * p.kv_heads + head;
        let mut key = [0f32; KEPT];
        for i in 0..KEPT {
            if element(i) < p.keys {
                key[i] = load_real(p.key, p.dtype, (own * p.keys + element(i)) as usize);
            }
        }
        if p.decays == Given::Head as u32 {
            let factor = exp(load_real(p.decay, p.dtype, own as usize));
            for i in 0..KEPT {
                s[i] *= factor;
            }
        } else if p.decays == Given::Element as u32 {
            for i in 0..KEPT {
                if element(i) < p.keys {
                    s[i] *= exp(load_real(p.decay, p.dtype, (own * p.keys + element(i)) as usize));
                }
            }
        }
        let mut update = load_real(p.value, p.dtype, (own * p.values + m) as usize);
        if p.rates != Given::Nothing as u32 {
            let mut held = 0.0;
            for i in 0..KEPT {
                held += s[i] * key[i];
            }
            let at = if p.rates == Given::Head as u32 { own } else { row };
            update = load_real(p.rate, p.dtype, at as usize) * (update - sum(held));
        }
        for i in 0..KEPT {
            s[i] += key[i] * update;
        }
        let mut reader = 0;
        while p.wants_y != 0 && reader < group {
            let vector = row * p.heads + head * group + reader;
            let mut read = 0.0;
            for i in 0..KEPT {
                if element(i) < p.keys {
                    read += s[i] * load_real(p.query, p.dtype, (vector * p.keys + element(i)) as usize);
                }
            }
            let read = sum(read);
            if lane == 0 {
                store_real(p.y, p.dtype, (vector * p.values + m) as usize, p.scale * read);
            }
            reader += 1;
        }
        token += 1;
    }
    for i in 0..KEPT {
        if p.wants_present != 0 && element(i) < p.keys {
            store_real(p.present, p.state_type, of_state(element(i)), s[i]);
        }
    }
}

/// Every warp.
#[inline(always)]
fn run(p: Params) {
    let mut number = thread::index_1d() / 32;
    while number < p.columns {
        column(&p, number);
        number += p.warps;
    }
}

entry!(
    /// Any floats.
    LINEAR_ATTENTION = linear_attention(Params): run, THREADS, with_spills(256)
);

/// A linear attention as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Images.
    pub batch: u32,
    /// Tokens of each.
    pub tokens: u32,
    /// Heads of queries, a multiple of those of keys.
    pub heads: u32,
    /// Heads of keys.
    pub kv_heads: u32,
    /// Elements of a key and of a query.
    pub key: u32,
    /// Elements of a value.
    pub value: u32,
    /// What is read is multiplied with.
    pub scale: f32,
    /// How many decays a token has: none, one for each head, or one for each element.
    pub decays: Given,
    /// How many rates: none, one, or one for each head.
    pub rates: Given,
    /// Type of all but the states.
    pub element: Element,
    /// Type of the states.
    pub state: Element,
}

/// The memory of a launch; what is absent or not wanted has address 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffers {
    /// The queries.
    pub query: Buffer,
    /// The keys.
    pub key: Buffer,
    /// The values.
    pub value: Buffer,
    /// The states before the first token.
    pub past: Buffer,
    /// The decays' exponents.
    pub decay: Buffer,
    /// The rates.
    pub rate: Buffer,
    /// What queries read.
    pub y: Buffer,
    /// The states behind the last token.
    pub present: Buffer,
}

impl Shape {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        if self.key > MOST_KEY {
            return Err(Reject::Extent {
                name: "elements of a key",
                got: self.key.into(),
                limit: MOST_KEY.into(),
            });
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Reject::Unsupported { what: "heads of queries that do not share those of keys" });
        }
        if self.decays == Given::One || self.rates == Given::Element {
            return Err(Reject::Unsupported { what: "so many decays or rates" });
        }
        let rows = u64::from(self.batch).saturating_mul(self.tokens.into());
        let widest = u64::from(self.heads).saturating_mul(self.key.max(self.value).into());
        elements::limit("elements", rows.saturating_mul(widest))?;
        elements::limit("elements of the states", self.states())
    }

    /// Elements of all states.
    fn states(&self) -> u64 {
        let all = u64::from(self.batch).saturating_mul(self.kv_heads.into());
        all.saturating_mul(u64::from(self.key) * u64::from(self.value))
    }

    /// A launch that has been checked; nothing is to be done where there are no values.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        let columns = self.batch * self.kv_heads * self.value;
        if columns == 0 {
            return Ok(None);
        }
        let (rows, size) = (u64::from(self.batch) * u64::from(self.tokens), self.element.bytes());
        let holds =
            |buffer: Buffer, name: &'static str, each: u64| buffer.holds(name, rows * each * size, size);
        let [heads, kv_heads, key, value] = [self.heads, self.kv_heads, self.key, self.value].map(u64::from);
        holds(buffers.query, "query", heads * key)?;
        holds(buffers.key, "key", kv_heads * key)?;
        holds(buffers.value, "value", kv_heads * value)?;
        let numbers = |given: Given| match given {
            Given::Nothing => None,
            Given::One => Some(1),
            Given::Head => Some(kv_heads),
            Given::Element => Some(kv_heads * key),
        };
        if let Some(each) = numbers(self.decays) {
            holds(buffers.decay, "decay", each)?;
        }
        if let Some(each) = numbers(self.rates) {
            holds(buffers.rate, "rate", each)?;
        }
        if buffers.y.is_some() {
            holds(buffers.y, "y", heads * value)?;
        }
        for (buffer, name) in [(buffers.past, "past"), (buffers.present, "present")] {
            if buffer.is_some() {
                buffer.holds(name, self.states() * self.state.bytes(), self.state.bytes())?;
            }
        }
        let most = 32 * device.multiprocessors;
        let wanted = columns.div_ceil(WARPS);
        let blocks = if wanted < most { wanted } else { most };
        let at = |buffer: Buffer| Global::from_address(buffer.address);
        let params = Params {
            query: at(buffers.query),
            key: at(buffers.key),
            value: at(buffers.value),
            past: at(buffers.past),
            decay: at(buffers.decay),
            rate: at(buffers.rate),
            y: at(buffers.y),
            present: at(buffers.present),
            tokens: self.tokens,
            heads: self.heads,
            kv_heads: self.kv_heads,
            keys: self.key,
            values: self.value,
            columns,
            warps: blocks * WARPS,
            scale: self.scale,
            dtype: self.element as u32,
            state_type: self.state as u32,
            decays: self.decays as u32,
            rates: self.rates as u32,
            has_past: buffers.past.is_some().into(),
            wants_y: buffers.y.is_some().into(),
            wants_present: buffers.present.is_some().into(),
            reserved: 0,
        };
        let geometry = Geometry::linear(blocks, THREADS);
        Prepared::new(&LINEAR_ATTENTION, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let (element, state) = (Element::F16, Element::F32);
        let (decays, rates) = (Given::Element, Given::One);
        let shape = Shape {
            batch: 1,
            tokens: 2,
            heads: 2,
            kv_heads: 1,
            key: 3,
            value: 4,
            scale: 1.0,
            decays,
            rates,
            element,
            state,
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers {
            query: buffer(24),
            key: buffer(12),
            value: buffer(16),
            decay: buffer(12),
            rate: buffer(4),
            y: buffer(32),
            ..Buffers::default()
        };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { decay: buffer(10), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "decay", needed: 12, got: 10 }));
        let short = shape.prepare(&Buffers { past: buffer(24), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "past", needed: 48, got: 24 }));
        assert!(Shape { key: MOST_KEY + 1, ..shape }.accepts().is_err());
        assert!(Shape { heads: 3, kv_heads: 2, ..shape }.accepts().is_err());
        assert!(Shape { batch: u32::MAX, ..shape }.accepts().is_err());
    }
}
