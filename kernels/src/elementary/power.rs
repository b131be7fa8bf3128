//! Powers and remainders of two f32.
//!
//! `x^y = e^(y · ln x)`, the logarithm and its product with `y` as sums of two f32: at most 4 units in the last place, also
//! where the result is far from 1. Remainders are exact.

use super::{polynomial, power_of_two, scaled_exp};
use crate::device::math::{floor_f32, fma_f32};

/// ln 2 in two parts, rounded to nearest.
const LN_2: [f32; 2] = [core::f32::consts::LN_2, -1.904_654_2e-9];

/// The least number whose exponential is infinite.
const LEAST_INFINITE: f32 = 88.722_84;

/// `ln x` of a positive finite `x` as a sum of two f32: with `x = 2^e·m`, `√½ ≤ m < √2` and `q = (m − 1)/(m + 1)` it is
/// `e·ln 2 + 2·atanh q`.
#[inline(always)]
fn log_in_two(x: f32) -> (f32, f32) {
    let subnormal = x < f32::MIN_POSITIVE;
    let bits = (if subnormal { x * 8_388_608.0 } else { x }).to_bits();
    let above = bits.wrapping_sub(0x3f35_04f3);
    let e = ((above as i32 >> 23) - if subnormal { 23 } else { 0 }) as f32;
    let m = f32::from_bits((above & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    // The quotient and what it lacks.
    let reciprocal = 1.0 / (m + 2.0);
    let q = m * reciprocal;
    let low = reciprocal * fma_f32(q, -m, fma_f32(q, -2.0, m));
    // atanh q = q + q³·(1/3 + q²/5 + …).
    let square = q * q;
    let square_low = fma_f32(q, low + low, fma_f32(q, q, -square));
    let cube = square * q;
    let cube_low = fma_f32(square, low, fma_f32(square_low, q, fma_f32(square, q, -cube)));
    let c = polynomial(square, [0.333_333_34, 0.2, 0.142_857_15, 0.111_111_11, 9.090_909e-2]);
    // ⅓ as an f32 is too large by 2⁻²⁶·⅔.
    let c_low = -9.934_108e-9;
    let rest = fma_f32(c, cube, fma_f32(c, cube_low, fma_f32(c_low, cube, low)));
    let twice = q + q;
    let high = fma_f32(LN_2[0], e, twice);
    let left = fma_f32(LN_2[1], e, fma_f32(2.0, rest, twice - fma_f32(-LN_2[0], e, high)));
    let sum = high + left;
    (sum, (high - sum) + left)
}

/// `x^y` of a positive finite `x` and a finite `y`.
#[inline(always)]
fn positive_pow(x: f32, y: f32) -> f32 {
    let (high, low) = log_in_two(x);
    let product = high * y;
    // Beyond these the result is 0 or infinite.
    if product > 104.0 {
        return f32::INFINITY;
    }
    if product < -105.0 {
        return 0.0;
    }
    let rest = fma_f32(low, y, fma_f32(high, y, -product));
    let sum = product + rest;
    // What rounds up to an infinite power begins a place below.
    let sum = if sum == LEAST_INFINITE { f32::from_bits(LEAST_INFINITE.to_bits() - 1) } else { sum };
    let small = (product - sum) + rest;
    let power = scaled_exp(sum, 0);
    if power < f32::INFINITY { fma_f32(power, small, power) } else { power }
}

/// `x^y` as IEEE 754 has `pow`: 1 of anything to the 0 and of 1 to anything, NaN of a negative number to what is not whole.
#[inline(always)]
pub fn pow(x: f32, y: f32) -> f32 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return f32::NAN;
    }
    let (size, far) = (x.abs(), y.abs());
    // From 2²⁴ on all numbers are even, and infinity, too.
    let whole = far >= 16_777_216.0 || floor_f32(far) == far;
    let odd = whole && far < 16_777_216.0 && floor_f32(0.5 * far) != 0.5 * far;
    let y_is_infinite = far == f32::INFINITY;
    let power = if size == 0.0 || size == f32::INFINITY || y_is_infinite {
        let grows = size > 1.0;
        if y_is_infinite && size == 1.0 {
            1.0
        } else if grows == (y > 0.0) {
            f32::INFINITY
        } else {
            0.0
        }
    } else {
        positive_pow(size, y)
    };
    if x.is_sign_positive() {
        power
    } else if odd {
        -power
    } else if whole || size == 0.0 || size == f32::INFINITY {
        power
    } else {
        f32::NAN
    }
}

/// What truncating division leaves of `x`, exactly; it has the sign of `x`. NaN of an infinite `x` and a `y` of 0.
#[inline(always)]
pub fn rem(x: f32, y: f32) -> f32 {
    if y == 0.0 || !x.is_finite() || y.is_nan() {
        return f32::NAN;
    }
    if x.abs() < y.abs() {
        return x;
    }
    let (a, b) = (x.to_bits() & 0x7fff_ffff, y.to_bits() & 0x7fff_ffff);
    let exponent = |bits: u32| if bits < 1 << 23 { 1 } else { bits >> 23 };
    let mantissa = |bits: u32| {
        let fraction = bits & 0x007f_ffff;
        if bits < 1 << 23 { fraction } else { fraction | 0x0080_0000 }
    };
    let divisor = mantissa(b);
    let mut shift = exponent(a) - exponent(b);
    let mut left = mantissa(a).checked_rem(divisor).unwrap_or(0);
    // Below 2²⁴ eight bits have room.
    while shift > 0 {
        let step = if shift < 8 { shift } else { 8 };
        left = (left << step).checked_rem(divisor).unwrap_or(0);
        shift -= step;
    }
    // The last place of y, twice half of it: what is left is a multiple.
    let place = exponent(b) as i32 - 150;
    let half = place >> 1;
    let size = left as f32 * power_of_two(half) * power_of_two(place - half);
    if x.is_sign_negative() { -size } else { size }
}
