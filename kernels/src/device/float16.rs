//! The 16-bit floats: storage of weights and activations; arithmetic is in `f32`.

use super::implementation as imp;

/// IEEE 754 binary16.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct F16(u16);

/// bfloat16: the upper half of a binary32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct BF16(u16);

/// What the two formats have in common; conversions from `f32` round to nearest, ties to even.
pub trait Float16: super::Plain {
    /// The value with these bits.
    fn from_bits16(bits: u16) -> Self;
    /// Its bits.
    fn bits16(self) -> u16;
    /// The value in binary32, exactly.
    fn to_f32(self) -> f32;
    /// The nearest value of the format.
    fn from_f32(value: f32) -> Self;
    /// The bits of the values nearest to two, the first in the lower half. Compute capability 8.0.
    fn pair(low: f32, high: f32) -> u32;
}

impl F16 {
    /// The value with these bits.
    #[inline(always)]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[inline(always)]
    pub const fn to_bits(self) -> u16 {
        self.0
    }
}

impl BF16 {
    /// The value with these bits.
    #[inline(always)]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[inline(always)]
    pub const fn to_bits(self) -> u16 {
        self.0
    }
}

impl Float16 for F16 {
    #[inline(always)]
    fn from_bits16(bits: u16) -> Self {
        Self(bits)
    }

    #[inline(always)]
    fn bits16(self) -> u16 {
        self.0
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        imp::float::f16_to_f32(self.0)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self(imp::float::f32_to_f16(value))
    }

    #[inline(always)]
    fn pair(low: f32, high: f32) -> u32 {
        imp::float::pair_f16(low, high)
    }
}

impl Float16 for BF16 {
    #[inline(always)]
    fn from_bits16(bits: u16) -> Self {
        Self(bits)
    }

    #[inline(always)]
    fn bits16(self) -> u16 {
        self.0
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self(imp::float::f32_to_bf16(value))
    }

    #[inline(always)]
    fn pair(low: f32, high: f32) -> u32 {
        imp::float::pair_bf16(low, high)
    }
}
