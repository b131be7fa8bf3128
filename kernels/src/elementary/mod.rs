//! # Elementary functions
//! Exponential, logarithm, hyperbolic tangent, logistic and error function of an f32, from sums, products, quotients and
//! fused multiply-adds alone, which IEEE 754 defines: the emulator's results are the device's, bit for bit.
//!
//! Each reduces its argument and evaluates a polynomial (coefficients of Cephes' single-precision functions). The error is
//! below 2 units in the last place where the result is normal, below 3 for `erf` and `log`; near the roots of `log` it is
//! absolute (2⁻²⁴). Nothing here flushes subnormal results, and a NaN stays one. The bounds of the functions that maps have
//! besides stand in their files, as those of the functions of f64 do (`double`).

pub(crate) mod double;
mod hyperbolic;
mod power;
#[cfg(test)]
mod tests;
mod trigonometric;

pub use hyperbolic::{acosh, asinh, atanh, cosh, expm1, log1p, sinh};
pub use power::{pow, rem};
pub use trigonometric::{acos, asin, atan, cos, sin, tan};
pub(crate) use trigonometric::{cos_of, reduced, sin_of, tan_of};

use crate::device::math::{fma_f32, round_f32};

/// `c[0] + c[1]·x + c[2]·x² + …`
#[inline(always)]
fn polynomial<const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    let mut k = N - 1;
    while k > 0 {
        k -= 1;
        sum = fma_f32(sum, x, c[k]);
    }
    sum
}

/// ln 2 = LN_2_HIGH + LN_2_LOW; the high part has 9 bits, so that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `2^n` for `-126 ≤ n ≤ 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// `(e^r − 1 − r) / r²` for `|r| ≤ ½·ln 2`.
const EXP: [f32; 6] = [0.500_000_04, 0.166_666_67, 4.166_579_6e-2, 8.333_452e-3, 1.398_2e-3, 1.987_569_2e-4];

/// `e^x`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    scaled_exp(x, 0)
}

/// `e^x / 2^by`, `by` being 0 or 1. With `n = round(x / ln 2)`: `2^n · e^(x − n·ln 2)`, the power in two factors, so that
/// neither overflows.
#[inline(always)]
fn scaled_exp(x: f32, by: i32) -> f32 {
    // Beyond these the result is 0 or infinite; a NaN passes both comparisons.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 90.0 { 90.0 } else { x };
    let n = round_f32(x * core::f32::consts::LOG2_E);
    let r = fma_f32(-n, LN_2_LOW, fma_f32(-n, LN_2_HIGH, x));
    let y = fma_f32(polynomial(r, EXP), r * r, r) + 1.0;
    let n = n as i32 - by;
    let half = n >> 1;
    y * power_of_two(half) * power_of_two(n - half)
}

/// `ln x`. With `x = 2^e · m`, `√½ ≤ m < √2`: `e · ln 2 + ln m`.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    if !(x > 0.0 && x < f32::INFINITY) {
        return if x == 0.0 {
            f32::NEG_INFINITY
        } else if x < 0.0 {
            f32::NAN
        } else {
            x
        };
    }
    let subnormal = x < f32::MIN_POSITIVE;
    let bits = (if subnormal { x * 8_388_608.0 } else { x }).to_bits();
    // From the bits of √½ on, the exponent counts up where the mantissa passes √2.
    let above = bits.wrapping_sub(0x3f35_04f3);
    let e = (above as i32 >> 23) - if subnormal { 23 } else { 0 };
    let m = f32::from_bits((above & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    log_in_parts(m, e as f32)
}

/// `e · ln 2 + ln(1 + m)` for `√½ ≤ 1 + m < √2`.
#[inline(always)]
fn log_in_parts(m: f32, e: f32) -> f32 {
    let c = [
        0.333_333_3,
        -0.249_999_94,
        0.200_007_15,
        -0.166_680_58,
        0.142_493_23,
        -0.124_201_41,
        0.116_769_99,
        -0.115_146_1,
        7.037_683_6e-2,
    ];
    let square = m * m;
    let y = fma_f32(e, LN_2_LOW, polynomial(m, c) * m * square);
    fma_f32(e, LN_2_HIGH, m + fma_f32(-0.5, square, y))
}

/// `tanh x`: a polynomial below 0.625, `1 − 2 / (e^2x + 1)` above.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    tanh_of_power(x, exp(x.abs() + x.abs()))
}

/// `tanh x` where `power` is `e^2|x|`.
#[inline(always)]
pub(crate) fn tanh_of_power(x: f32, power: f32) -> f32 {
    if x.abs() < 0.625 {
        let square = x * x;
        let c = [-0.333_332_8, 0.133_314_42, -5.373_971_6e-2, 2.063_909e-2, -5.704_988_7e-3];
        return fma_f32(polynomial(square, c) * square, x, x);
    }
    let y = 1.0 - 2.0 / (power + 1.0);
    if x < 0.0 { -y } else { y }
}

/// `1 / (1 + e^−x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|)`.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    let positive = if x < 0.0 { 0.0 } else { x };
    positive + log_above_one(exp(-x.abs()))
}

/// `ln(1 + p)` for p from 0 to 1. What rounding `1 + p` takes from p or adds to it changes the logarithm by the same
/// ratio (Goldberg, What every computer scientist should know about floating-point arithmetic, 1991, theorem 4).
#[inline(always)]
pub(crate) fn log_above_one(p: f32) -> f32 {
    let sum = 1.0 + p;
    if sum == 1.0 { p } else { log(sum) * (p / (sum - 1.0)) }
}

/// The error function: a polynomial below 1, `1 − e^(−x²) · p(1 / x²) / x` above.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let size = x.abs();
    if size < 1.0 {
        let c = [
            core::f32::consts::FRAC_2_SQRT_PI,
            -0.376_126_26,
            0.112_835_85,
            -2.685_381_2e-2,
            5.188_327_7e-3,
            -8.010_193_5e-4,
            7.853_861e-5,
        ];
        return x * polynomial(x * x, c);
    }
    // From 4 on the result rounds to 1.
    let a = if size > 4.0 { 4.0 } else { size };
    let q = 1.0 / a;
    let below_two = [
        0.563_825_96,
        -0.274_112_7,
        0.340_488,
        -0.494_451_52,
        0.621_000_47,
        -0.582_473_3,
        0.368_742_47,
        -0.138_703_94,
        2.326_82e-2,
    ];
    let above_two = [
        0.564_189_5,
        -0.282_076_74,
        0.421_846_33,
        -1.015_265_2,
        2.921_019,
        -7.495_518_7,
        12.977_2,
        -10.477_664,
    ];
    let p = if a < 2.0 { polynomial(q * q, below_two) } else { polynomial(q * q, above_two) };
    let y = 1.0 - exp(-a * a) * q * p;
    if x < 0.0 {
        -y
    } else if x.is_nan() {
        x
    } else {
        y
    }
}
