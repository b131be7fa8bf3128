//! Numbers drawn from a seed, and numbers as element types hold them.

use crate::device::{BF16, F16};
use crate::element::{Element, Real};
use std::ops::RangeInclusive;

/// Numbers that a seed determines (SplitMix64).
#[derive(Debug)]
pub struct Draw(u64);

impl Draw {
    /// The numbers of `seed`; those of neighbouring seeds are unrelated.
    pub fn new(seed: u64) -> Self {
        let start = Self(seed).bits();
        Self(start)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Heads or tails.
    pub fn bool(&mut self) -> bool {
        self.bits() & 1 == 1
    }

    /// From −1 to 1, in steps that f32 holds.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// An index of a list of `length` elements.
    pub fn index(&mut self, length: usize) -> usize {
        (self.bits() % length as u64) as usize
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<u32>) -> u32 {
        range.start() + (self.bits() % u64::from(range.end() - range.start() + 1)) as u32
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// One of `edges`, or anything in `range`.
    pub fn edge(&mut self, edges: &[u32], range: RangeInclusive<u32>) -> u32 {
        if self.bool() { self.pick(edges) } else { self.within(range) }
    }

    /// `count` values from −`scale` to `scale` that `element` holds.
    pub fn floats(&mut self, element: Element, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| rounded(element, self.unit() * scale)).collect()
    }
}

/// A number as an element type holds it.
pub fn rounded(element: Element, value: f32) -> f32 {
    match element {
        Element::F32 => value,
        Element::F16 => F16::narrow(value).widen(),
        Element::BF16 => BF16::narrow(value).widen(),
    }
}

/// The bytes of elements.
pub fn encode(element: Element, values: &[f32]) -> Vec<u8> {
    let bytes = |&value: &f32| match element {
        Element::F32 => value.to_le_bytes().to_vec(),
        Element::F16 => F16::narrow(value).to_bits().to_le_bytes().to_vec(),
        Element::BF16 => BF16::narrow(value).to_bits().to_le_bytes().to_vec(),
    };
    values.iter().flat_map(bytes).collect()
}

/// The elements of bytes.
pub fn decode(element: Element, bytes: &[u8]) -> Vec<f32> {
    let half = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
    match element {
        Element::F32 => bytes
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect(),
        Element::F16 => bytes.chunks_exact(2).map(|pair| F16::from_bits(half(pair)).widen()).collect(),
        Element::BF16 => bytes.chunks_exact(2).map(|pair| BF16::from_bits(half(pair)).widen()).collect(),
    }
}
