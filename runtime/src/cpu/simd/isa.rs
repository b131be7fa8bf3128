//! What loops of fused programs take from an instruction set beyond the vectors of [`super::Simd`].

use crate::cpu::vector_math;

/// How elements become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fold {
    /// 0 of nothing.
    Sum,
    /// 1 of nothing.
    Product,
    /// −∞ of nothing, and any value where one is NaN.
    Largest,
    /// −∞ of nothing, NaN where one is.
    Max,
    /// ∞ of nothing, NaN where one is.
    Min,
}

/// What the loops of [`super::TileLoop`] may use beyond plain arithmetic.
pub(crate) trait Isa: Copy {
    /// `a · b + c`, rounded once where the instruction set can.
    fn mul_add_f32(self, a: f32, b: f32, c: f32) -> f32;
    /// `a · b + c`, rounded once where the instruction set can.
    fn mul_add_f64(self, a: f64, b: f64, c: f64) -> f64;
    /// `to = e^(from − less)`.
    #[inline(always)]
    fn exp(self, to: &mut [f32], from: &[f32], less: f32) {
        vector_math::exp_each(self, to, from, less);
    }
    /// `to = e^(from − less)`, and their sum.
    #[inline(always)]
    fn exp_sum(self, to: &mut [f32], from: &[f32], less: f32) -> f32 {
        vector_math::exp_sum_each(self, to, from, less)
    }
    /// `to = erf(from · scale)`.
    #[inline(always)]
    fn erf(self, to: &mut [f32], from: &[f32], scale: f32) {
        vector_math::erf_each(self, to, from, scale);
    }
    /// All elements of `from` as one, where the instruction set has a way of its own.
    #[inline(always)]
    fn fold(self, _: Fold, _: &[f32]) -> Option<f32> {
        None
    }
    /// Copies `from` over `to`, both whole lines of 64 bytes and `to` aligned to them, past the caches where the
    /// instruction set can. What was copied may become visible late: [`super::order_streams`] ends that.
    fn stream(self, to: &mut [u8], from: &[u8]);
}
