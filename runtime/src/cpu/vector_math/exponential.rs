//! Exponentials of `f32`: `e^x`, `e^x − 1`, the logistic and the hyperbolic tangent.
//!
//! With `n = round(x / ln 2)` and `r = x − n·ln 2`, `|r| ≤ 0.347`, reduced by ln 2 in two parts of which the first has
//! so few bits that its products are exact: `e^r − 1 = r + r²·q(r)` with `q` of degree 5, minimax on the interval to
//! 4.9·10⁻¹¹ absolute. Then
//! - `e^x = 2ⁿ·(1 + (e^r − 1))`, by adding `n` to the exponent: at most 2 ULP;
//! - `e^x − 1 = 2·(2ⁿ⁻¹·(e^r − 1) + (2ⁿ⁻¹ − ½))`, whose sum does not cancel: at most 4 ULP;
//! - `sigmoid(x) = {1 or t} / (1 + t)` with `t = e^−|x|`, which neither overflows nor loses small results: at most 4 ULP;
//! - `tanh|x| = m / (m + 2)` with `m = e^2|x| − 1`: at most 4 ULP.

use crate::cpu::simd::Isa;

/// Added to a number below 2²², leaves it rounded to an integer in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts.
pub(super) const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `(e^r − 1 − r) / r²`, highest power first.
pub(super) const Q: [f32; 6] =
    [1.991_506_4e-4, 1.394_638_9e-3, 8.333_27e-3, 4.166_626_6e-2, 0.166_666_67, 0.5];
/// Above, the result is infinite; below, zero.
pub(super) const RANGE: (f32, f32) = (-104.0, 88.8);

/// Below, `e^x` may be subnormal or nearly so.
const SMALL: f32 = -80.0;
/// 2⁻⁶⁴.
const LOWERED: f32 = 5.421_011e-20;
/// The last `x` whose exponential is finite.
const LARGEST: f32 = 88.722_83;

/// `n` and `e^r − 1` for `x = n·ln 2 + r`, for `x` in [`RANGE`].
#[inline(always)]
fn split<I: Isa>(isa: I, x: f32) -> (i32, f32) {
    let shifted = isa.mul_add_f32(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = isa.mul_add_f32(n, -LN2[1], isa.mul_add_f32(n, -LN2[0], x));
    let mut q = Q[0];
    for c in &Q[1..] {
        q = isa.mul_add_f32(q, r, *c);
    }
    (shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32, isa.mul_add_f32(q, r * r, r))
}

/// `2ⁿ` for `n` from −126 to 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `x` between `low` and `high`; NaN stays.
#[inline(always)]
fn clamped(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > high { high } else { x };
    if x < low { low } else { x }
}

/// `e^x`.
#[inline(always)]
pub(crate) fn exp<I: Isa>(isa: I, x: f32) -> f32 {
    // What is zero is not computed, for the same reason.
    let zero = x < RANGE.0;
    let low = if zero { 0.0 } else { x };
    let (n, m) = split(isa, low);
    // Small results are made 2⁶⁴ times as large first, so that subnormal ones round once.
    let small = low < SMALL;
    let lifted = if small { n.wrapping_add(64) } else { n };
    let y = f32::from_bits((1.0 + m).to_bits().wrapping_add((lifted as u32) << 23));
    // Not a product of all of which some are taken: those of others may underflow, which takes a hundred cycles.
    let y = y * if small { LOWERED } else { 1.0 };
    let y = if x > LARGEST { f32::INFINITY } else { y };
    let y = if zero { 0.0 } else { y };
    if x.is_nan() { x } else { y }
}

/// `e^x` for `x` from −87 to 0.
#[inline(always)]
pub(super) fn exp_of_negative<I: Isa>(isa: I, x: f32) -> f32 {
    let (n, m) = split(isa, x);
    (1.0 + m) * power_of_two(n)
}

/// `e^x − 1`.
#[inline(always)]
pub(crate) fn exp_m1<I: Isa>(isa: I, x: f32) -> f32 {
    let (n, m) = split(isa, clamped(x, -20.0, RANGE.1));
    let scale = power_of_two(n - 1);
    (2.0 * isa.mul_add_f32(scale, m, scale - 0.5)).copysign(x)
}

/// `1 / (1 + e^−x)`.
#[inline(always)]
pub(crate) fn sigmoid<I: Isa>(isa: I, x: f32) -> f32 {
    let t = exp(isa, -x.abs());
    let top = if x < 0.0 { t } else { 1.0 };
    top / (1.0 + t)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<I: Isa>(isa: I, x: f32) -> f32 {
    let (n, m) = split(isa, clamped(2.0 * x.abs(), 0.0, 20.0));
    let scale = power_of_two(n);
    let m = isa.mul_add_f32(scale, m, scale - 1.0);
    (m / (m + 2.0)).copysign(x)
}
