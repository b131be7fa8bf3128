//! Exponential less one, logarithm of one more, and the hyperbolic functions with their inverses, of an f32.
//!
//! Where a result is small beside what it is the difference of, a polynomial stands in its place. At most 4 units in the
//! last place.

use super::{EXP, LN_2_HIGH, LN_2_LOW, log, log_in_parts, polynomial, power_of_two, scaled_exp};
use crate::device::math::{fma_f32, round_f32, sqrt_f32};
use core::f32::consts::{LN_2, LOG2_E, SQRT_2};

/// From here on `x² + 1` and `x² − 1` are `x²`.
const LARGE: f32 = 16_384.0;

/// `e^x − 1 = 2^n·(e^r − 1) + (2^n − 1)`, `|r| ≤ ½·ln 2`.
#[inline(always)]
pub fn expm1(x: f32) -> f32 {
    if x > 40.0 {
        return scaled_exp(x, 0);
    }
    // Below the result is −1; a NaN passes.
    let bounded = if x < -20.0 { -20.0 } else { x };
    let n = round_f32(bounded * LOG2_E);
    let r = fma_f32(-n, LN_2_LOW, fma_f32(-n, LN_2_HIGH, bounded));
    let power = fma_f32(polynomial(r, EXP), r * r, r);
    let scale = power_of_two(n as i32);
    if x == 0.0 { x } else { fma_f32(power, scale, scale - 1.0) }
}

/// `ln(1 + x)`. What rounding `1 + x` loses changes the logarithm by its ratio to the sum.
#[inline(always)]
pub fn log1p(x: f32) -> f32 {
    if x > -0.292_893 && x < 0.414_213_5 {
        return if x == 0.0 { x } else { log_in_parts(x, 0.0) };
    }
    let sum = 1.0 + x;
    let lost = if x > 1.0 { 1.0 - (sum - x) } else { x - (sum - 1.0) };
    let y = log(sum);
    // Infinite of −1 and of infinity, NaN below −1.
    if y.abs() < f32::INFINITY { y + lost / sum } else { y }
}

/// The hyperbolic sine.
#[inline(always)]
pub fn sinh(x: f32) -> f32 {
    let size = x.abs();
    if size <= 1.0 {
        let square = x * x;
        let c = [0.166_667_16, 8.330_284e-3, 2.037_219_1e-4];
        return fma_f32(polynomial(square, c) * square, x, x);
    }
    let half = scaled_exp(size, 1);
    let y = half - 0.25 / half;
    if x < 0.0 { -y } else { y }
}

/// The hyperbolic cosine.
#[inline(always)]
pub fn cosh(x: f32) -> f32 {
    let half = scaled_exp(x.abs(), 1);
    half + 0.25 / half
}

/// The inverse hyperbolic sine, `ln(x + √(x² + 1))`.
#[inline(always)]
pub fn asinh(x: f32) -> f32 {
    let size = x.abs();
    if size < 0.5 {
        let square = x * x;
        let c = [-0.166_662_88, 7.484_759e-2, -4.269_934e-2, 2.012_200_3e-2];
        // Of a negative zero the sum of two zeros would lose the sign.
        return if x == 0.0 { x } else { fma_f32(polynomial(square, c) * square, x, x) };
    }
    let large = size > LARGE;
    let y = log(if large { size } else { size + sqrt_f32(fma_f32(size, size, 1.0)) });
    let y = if large { y + LN_2 } else { y };
    if x < 0.0 { -y } else { y }
}

/// The inverse hyperbolic cosine, `ln(x + √(x² − 1))`; NaN below 1.
#[inline(always)]
pub fn acosh(x: f32) -> f32 {
    let above = x - 1.0;
    if above < 0.5 {
        // NaN where the root is.
        let c = [SQRT_2, -0.117_847_42, 2.645_490_5e-2, -7.527_289e-3, 1.759_688e-3];
        return polynomial(above, c) * sqrt_f32(above);
    }
    let large = x > LARGE;
    let y = log(if large { x } else { x + sqrt_f32(above * (x + 1.0)) });
    if large { y + LN_2 } else { y }
}

/// The inverse hyperbolic tangent, `½·ln((1 + x)/(1 − x))`; NaN outside −1 … 1.
#[inline(always)]
pub fn atanh(x: f32) -> f32 {
    let size = x.abs();
    if size < 0.5 {
        let square = x * x;
        let c = [0.333_337_3, 0.199_782_16, 0.146_691_43, 8.243_703e-2, 0.181_740_08];
        return fma_f32(polynomial(square, c) * square, x, x);
    }
    let y = 0.5 * log((1.0 + size) / (1.0 - size));
    if x < 0.0 { -y } else { y }
}
