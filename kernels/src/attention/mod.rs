//! # Attention
//! `y_i = Σ_j p_ij · v_j`, `p_ij = exp(s_ij − m_i) / Σ_j exp(s_ij − m_i)`, `s_ij = cap(scale · q_i·k_j) + mask_ij`, in one pass
//! over the keys, without the matrix of all scores. Heads of queries may share heads of keys; keys may be bounded by a
//! window around each query's position and by a number per image. A query that sees no key gives zeros.
//!
//! - [`scalar`]: any element type by scalar arithmetic.
//! - [`tensor`]: f16 and bf16 by tensor cores, and f32 where the caller allows its factors to be rounded to tf32.
//!
//! This file has what the kernels take and what they share: which keys a query sees, and the score of one; `shape.rs` what
//! becomes of an attention as a caller describes it.

mod operand;
pub mod scalar;
mod shape;
pub mod tensor;

use crate::device::Global;
use crate::wide::load_real;
pub use shape::{Buffers, Mask, Shape};

/// Elements between images, heads and rows of an operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Strides {
    /// Between images.
    pub image: u32,
    /// Between heads.
    pub head: u32,
    /// Between rows.
    pub row: u32,
}

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    q: Global<u8>,
    k: Global<u8>,
    v: Global<u8>,
    /// Null: none.
    mask: Global<u8>,
    /// Keys of each image that are valid. Null: all.
    lengths: Global<u64>,
    y: Global<u8>,
    of_q: Strides,
    of_k: Strides,
    of_v: Strides,
    of_y: Strides,
    /// Of the mask: images, heads and queries; keys are side by side or, where `mask_step` is 0, one for all.
    of_mask: Strides,
    mask_step: u32,
    /// Keys that the mask tells of; those behind are masked.
    mask_keys: u32,
    /// Type of the mask: that of an element, or `BOOL`.
    mask_type: u32,
    queries: u32,
    keys: u32,
    /// Heads of queries per head of keys.
    group: u32,
    width: u32,
    value_width: u32,
    /// Position of the first query among the keys, where `lengths` is null.
    past: u32,
    /// Keys before and behind a query's position that it sees.
    left: u32,
    right: u32,
    scale: f32,
    /// Bound of the scores; 0: none.
    cap: f32,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 168);

/// The widest head.
pub const MOST_WIDTH: u32 = 256;
/// The type of a mask of truth values.
const BOOL: u32 = 0xff;
/// No bound of a window.
pub const UNBOUNDED: u32 = u32::MAX;

impl Strides {
    /// The first element of a head of an image.
    #[inline(always)]
    fn place(&self, image: u32, head: u32) -> u64 {
        u64::from(image) * u64::from(self.image) + u64::from(head) * u64::from(self.head)
    }
}

impl Params {
    /// How many keys of an image are valid, and the position of its first query among them.
    #[inline(always)]
    fn valid(&self, image: u32) -> (u32, i64) {
        if self.lengths.is_null() {
            return (self.keys, i64::from(self.past));
        }
        let length = self.lengths.load(image as usize) as i64;
        let inside = if length < 0 { 0 } else { length };
        let limit = if inside < i64::from(self.keys) { inside as u32 } else { self.keys };
        (limit, length - i64::from(self.queries))
    }

    /// The keys that any of `count` queries from `first` on sees of the first `limit`.
    #[inline(always)]
    fn visible_to_block(&self, first: u32, count: u32, offset: i64, limit: u32) -> (u32, u32) {
        let last = if first + count < self.queries { first + count } else { self.queries };
        let (from, _) = self.visible(offset + i64::from(first), limit);
        let (_, until) = self.visible(offset + i64::from(last) - 1, limit);
        (from, until)
    }

    /// The keys that a query at `position` sees of the first `limit`.
    #[inline(always)]
    fn visible(&self, position: i64, limit: u32) -> (u32, u32) {
        let clip = |at: i64| {
            let at = if at > 0 { at } else { 0 };
            if at < i64::from(limit) { at as u32 } else { limit }
        };
        let first = if self.left == UNBOUNDED { 0 } else { clip(position - i64::from(self.left)) };
        let last = if self.right == UNBOUNDED { limit } else { clip(position + i64::from(self.right) + 1) };
        (first, last)
    }

    /// The score of a key by the product of it and a query, bounded by this tanh: −∞ where it is masked.
    #[inline(always)]
    fn score(&self, product: f32, mask: u64, key: u32, tanh: impl Fn(f32) -> f32) -> f32 {
        let mut score = product * self.scale;
        if self.cap > 0.0 {
            score = self.cap * tanh(score / self.cap);
        }
        if self.mask.is_null() {
            return score;
        }
        if key >= self.mask_keys {
            return f32::NEG_INFINITY;
        }
        let at = (mask + u64::from(key) * u64::from(self.mask_step)) as usize;
        if self.mask_type == BOOL {
            return if self.mask.load(at) != 0 { score } else { f32::NEG_INFINITY };
        }
        let term = load_real(self.mask, self.mask_type, at);
        if term == f32::NEG_INFINITY { term } else { score + term }
    }
}
