//! Elementary functions for loops that the compiler makes vectors of: without branches and tables, generic over
//! the instruction set's multiply–add. Those of `f32` are our own; the files state formula, reduction and bound.
//! `f64` takes the standard library's.
//!
//! The tests hold every 257th value, on every instruction set, to 2 units in the last place for `exp` and 4 for the
//! others, and zeros and ends; the soak job `vector-math` holds every value of `f32`, of `sin` and `cos` up to [`TURNS`].
//! Largest errors over all of them, with and without fused multiply–add, and of the forms for whole tiles of AVX-512:
//!
//! | function | fused | not fused | AVX-512, tiles |
//! |---|---|---|---|
//! | exp | 1.00 | 0.97 | 1.06 |
//! | exp_m1 | 1.42 | 1.53 | |
//! | sigmoid | 2.40 | 2.40 | |
//! | tanh | 2.42 | 2.42 | |
//! | log1p | 1.44 | 1.44 | |
//! | log | 0.83 | 0.85 | |
//! | softplus | 1.99 | 1.99 | |
//! | erf | 1.13 | 1.32 | 2.15 |
//! | sin | 1.57 | 1.57 | |
//! | cos | 1.57 | 1.58 | |

mod error_function;
mod exponential;
mod logarithm;
#[cfg(test)]
mod tests;
mod trigonometric;
#[cfg(target_arch = "x86_64")]
pub(super) mod wide;

use super::number::Float;
use super::simd::Isa;
pub(crate) use trigonometric::LIMIT as TURNS;

/// `to = e^(from − less)`, an element at a time.
#[inline(always)]
pub(super) fn exp_each<I: Isa>(isa: I, to: &mut [f32], from: &[f32], less: f32) {
    for (y, &x) in to.iter_mut().zip(from) {
        *y = exponential::exp(isa, x - less);
    }
}

/// Lanes of a sum.
pub(super) const LANES: usize = 64;

/// The sum of all lanes, in halves.
#[inline(always)]
pub(super) fn sum_of_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// `to = e^(from − less)`, and their sum, which is dealt to lanes.
#[inline(always)]
pub(super) fn exp_sum_each<I: Isa>(isa: I, to: &mut [f32], from: &[f32], less: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for (to, from) in to.chunks_mut(LANES).zip(from.chunks(LANES)) {
        exp_each(isa, to, from, less);
        lanes.iter_mut().zip(to).for_each(|(lane, y)| *lane += *y);
    }
    sum_of_lanes(lanes)
}

/// `to = erf(from · scale)`, an element at a time.
#[inline(always)]
pub(super) fn erf_each<I: Isa>(isa: I, to: &mut [f32], from: &[f32], scale: f32) {
    for (y, &x) in to.iter_mut().zip(from) {
        *y = error_function::erf(isa, x * scale);
    }
}

/// A float with functions for such loops.
pub(crate) trait Math: Float {
    /// `self · b + c`, rounded once where the instruction set can.
    fn mul_add<I: Isa>(self, isa: I, b: Self, c: Self) -> Self;
    /// `e^x`.
    fn exp<I: Isa>(self, isa: I) -> Self;
    /// `e^x − 1`.
    fn exp_m1<I: Isa>(self, isa: I) -> Self;
    /// Natural logarithm.
    fn log<I: Isa>(self, isa: I) -> Self;
    /// `ln(1 + x)`.
    fn log1p<I: Isa>(self, isa: I) -> Self;
    /// `1 / (1 + e^−x)`.
    fn sigmoid<I: Isa>(self, isa: I) -> Self;
    /// Hyperbolic tangent.
    fn tanh<I: Isa>(self, isa: I) -> Self;
    /// `2/√π ∫₀ˣ e^−t² dt`.
    fn erf<I: Isa>(self, isa: I) -> Self;
    /// `ln(1 + e^x)`.
    fn softplus<I: Isa>(self, isa: I) -> Self;
    /// Sine; of `f32` for magnitudes up to [`TURNS`].
    fn sin<I: Isa>(self, isa: I) -> Self;
    /// Cosine; of `f32` for magnitudes up to [`TURNS`].
    fn cos<I: Isa>(self, isa: I) -> Self;
}

impl Math for f32 {
    #[inline(always)]
    fn mul_add<I: Isa>(self, isa: I, b: Self, c: Self) -> Self {
        isa.mul_add_f32(self, b, c)
    }

    #[inline(always)]
    fn exp<I: Isa>(self, isa: I) -> Self {
        exponential::exp(isa, self)
    }

    #[inline(always)]
    fn exp_m1<I: Isa>(self, isa: I) -> Self {
        exponential::exp_m1(isa, self)
    }

    #[inline(always)]
    fn log<I: Isa>(self, isa: I) -> Self {
        logarithm::log(isa, self)
    }

    #[inline(always)]
    fn log1p<I: Isa>(self, isa: I) -> Self {
        logarithm::log1p(isa, self)
    }

    #[inline(always)]
    fn sigmoid<I: Isa>(self, isa: I) -> Self {
        exponential::sigmoid(isa, self)
    }

    #[inline(always)]
    fn tanh<I: Isa>(self, isa: I) -> Self {
        exponential::tanh(isa, self)
    }

    #[inline(always)]
    fn erf<I: Isa>(self, isa: I) -> Self {
        error_function::erf(isa, self)
    }

    #[inline(always)]
    fn softplus<I: Isa>(self, isa: I) -> Self {
        logarithm::softplus(isa, self)
    }

    #[inline(always)]
    fn sin<I: Isa>(self, isa: I) -> Self {
        trigonometric::sin(isa, self)
    }

    #[inline(always)]
    fn cos<I: Isa>(self, isa: I) -> Self {
        trigonometric::cos(isa, self)
    }
}

impl Math for f64 {
    #[inline(always)]
    fn mul_add<I: Isa>(self, isa: I, b: Self, c: Self) -> Self {
        isa.mul_add_f64(self, b, c)
    }

    fn exp<I: Isa>(self, _: I) -> Self {
        Self::exp(self)
    }

    fn exp_m1<I: Isa>(self, _: I) -> Self {
        Self::exp_m1(self)
    }

    fn log<I: Isa>(self, _: I) -> Self {
        Self::ln(self)
    }

    fn log1p<I: Isa>(self, _: I) -> Self {
        Self::ln_1p(self)
    }

    fn sigmoid<I: Isa>(self, _: I) -> Self {
        Float::sigmoid(self)
    }

    fn tanh<I: Isa>(self, _: I) -> Self {
        Self::tanh(self)
    }

    fn erf<I: Isa>(self, _: I) -> Self {
        Float::erf(self)
    }

    fn softplus<I: Isa>(self, _: I) -> Self {
        Float::softplus(self)
    }

    fn sin<I: Isa>(self, _: I) -> Self {
        Self::sin(self)
    }

    fn cos<I: Isa>(self, _: I) -> Self {
        Self::cos(self)
    }
}
