//! Arithmetic that has instructions: rounded as IEEE 754 has it unless the name says `approximate`.

use super::implementation as imp;

macro_rules! one {
    ($($name:ident $t:ty, $what:literal;)*) => { $(
        #[doc = $what]
        #[inline(always)]
        pub fn $name(x: $t) -> $t { imp::float::$name(x) }
    )* };
}

one! {
    sqrt_f32 f32, "The square root.";
    sqrt_f64 f64, "The square root.";
    floor_f32 f32, "The nearest integer not above.";
    floor_f64 f64, "The nearest integer not above.";
    ceil_f32 f32, "The nearest integer not below.";
    ceil_f64 f64, "The nearest integer not below.";
    trunc_f32 f32, "Without its fraction.";
    trunc_f64 f64, "Without its fraction.";
    round_f32 f32, "The nearest integer, halves to the even one.";
    round_f64 f64, "The nearest integer, halves to the even one.";
    approximate_exp2 f32, "`2^x` within 2 ulp, results below the normal range flushed to zero.";
    approximate_reciprocal f32, "`1 / x` within 1 ulp.";
    approximate_rsqrt f32, "`1 / √x` within 2 ulp.";
    approximate_tanh f32, "`tanh x` within a relative error of 2⁻¹¹.";
}

/// `a · b + c`, rounded once.
#[inline(always)]
pub fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    imp::float::fma_f32(a, b, c)
}

/// `a · b + c`, rounded once.
#[inline(always)]
pub fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    imp::float::fma_f64(a, b, c)
}

/// `c + Σ a_i · b_i` over the four signed bytes of both words; the sum wraps.
#[inline(always)]
pub fn dot_bytes(a: u32, b: u32, c: i32) -> i32 {
    imp::float::dot_bytes(a, b, c)
}

/// Quotient and remainder; 0 and `a` where `b` is 0, so that no code for a panic is needed.
#[inline(always)]
pub fn divide(a: u32, b: u32) -> (u32, u32) {
    let quotient = a.checked_div(b).unwrap_or(0);
    (quotient, a - quotient * b)
}

/// `x`, which the compiler does not know: a loop up to it stays a loop.
#[inline(always)]
pub fn opaque(x: u32) -> u32 {
    imp::float::opaque(x)
}
