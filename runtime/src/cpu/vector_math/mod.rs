//! Elementary functions for loops that the compiler makes vectors of: without branches and tables, generic over
//! the instruction set's multiply–add.

use super::number::Float;
use super::simd::Isa;

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
    /// Sine.
    fn sin<I: Isa>(self, isa: I) -> Self;
    /// Cosine.
    fn cos<I: Isa>(self, isa: I) -> Self;
}

macro_rules! standard {
    ($t:ty, $mul_add:ident: $($name:ident $method:ident),*) => {
        impl Math for $t {
            #[inline(always)]
            fn mul_add<I: Isa>(self, isa: I, b: Self, c: Self) -> Self {
                isa.$mul_add(self, b, c)
            }
            $(
                #[inline(always)]
                fn $name<I: Isa>(self, _: I) -> Self {
                    Float::$method(self)
                }
            )*
        }
    };
}

standard!(f32, mul_add_f32: exp exp, exp_m1 exp_m1, log ln, log1p ln_1p, sigmoid sigmoid, tanh tanh, erf erf,
    softplus softplus, sin sin, cos cos);
standard!(f64, mul_add_f64: exp exp, exp_m1 exp_m1, log ln, log1p ln_1p, sigmoid sigmoid, tanh tanh, erf erf,
    softplus softplus, sin sin, cos cos);
