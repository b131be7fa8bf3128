//! # Functions of an f64
//! The crate `libm` has most of them (FreeBSD's, below 1 unit in the last place); it is compiled for the device as it is.
//! Sine, cosine and tangent are written here: its reduction of large arguments needs arrays. Here the fraction of
//! `x · 2/π` is computed in integers from 192 bits of `2/π` (Payne and Hanek) whatever the size of `x`, which leaves at
//! least 70 bits of it, and the polynomials of FreeBSD's kernels follow.
//!
//! At most 1 unit in the last place for sine and cosine, 2 for the tangent and what `libm` has. Remainders are exact.

use crate::device::math::fma_f64;

pub(crate) use libm::{
    acos, acosh, asin, asinh, atan, atanh, cosh, erf, exp, expm1, log, log1p, pow, sinh, tanh,
};

/// 64 bits of the binary fraction of `2/π`, `i` counting from 1; 0 ahead of the first.
#[inline(always)]
fn two_over_pi(i: u32) -> u64 {
    match i {
        1 => 0xa2f9_836e_4e44_1529,
        2 => 0xfc27_57d1_f534_ddc0,
        3 => 0xdb62_9599_3c43_9041,
        4 => 0xfe51_63ab_debb_c561,
        5 => 0xb724_6e3a_424d_d2e0,
        6 => 0x0649_2eea_09d1_921c,
        7 => 0xfe1d_eb1c_b129_a73e,
        8 => 0xe882_35f5_2ebb_4484,
        9 => 0xe99c_7026_b45f_7e41,
        10 => 0x3991_d639_8353_39f4,
        11 => 0x9c84_5f8b_bdf9_283b,
        12 => 0x1ff8_97ff_de05_980f,
        13 => 0xef2f_118b_5a0a_6d1f,
        14 => 0x6d36_7ecf_27cb_09b7,
        15 => 0x4f46_3f66_9e5f_ea2d,
        16 => 0x7527_bac7_ebe5_f17b,
        17 => 0x3d07_39f7_8a52_92ea,
        18 => 0x6bfb_5fb1_1f8d_5d08,
        19 => 0x5603_3046_fc7b_6bab,
        _ => 0,
    }
}

/// π/2 in two parts.
const HALF_PI: [f64; 2] = [core::f64::consts::FRAC_PI_2, 6.123_233_995_736_766e-17];

/// `2^n` for `−1022 ≤ n ≤ 1023`.
#[inline(always)]
fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// What is left of a number behind the multiple of π/2 nearest to it: the lowest bits of the multiple, and a sum.
type Reduced = (u32, f64, f64);

/// A number beyond π/4, finite and positive.
#[inline(always)]
fn reduced_far(x: f64) -> Reduced {
    let bits = x.to_bits();
    let mantissa = bits & 0x000f_ffff_ffff_ffff | 0x0010_0000_0000_0000;
    // x is the mantissa times 2^(exponent − 64 + 2): bits of 2/π ahead of this place make multiples of 4.
    let place = (bits >> 52) as u32 - 1013;
    let (word, shift) = (place >> 6, place & 63);
    let (a, b) = (two_over_pi(word), two_over_pi(word + 1));
    let (c, d) = (two_over_pi(word + 2), two_over_pi(word + 3));
    let joined = |this: u64, next: u64| if shift == 0 { this } else { this << shift | next >> (64 - shift) };
    let (high, middle, low) = (joined(a, b), joined(b, c), joined(c, d));
    let low = u128::from(mantissa) * u128::from(low);
    let middle = u128::from(mantissa) * u128::from(middle) + (low >> 64);
    let high = mantissa.wrapping_mul(high).wrapping_add((middle >> 64) as u64);
    let (middle, low) = (middle as u64, low as u64);
    // Two bits of the quadrant, 190 of the fraction; from one half on the next multiple is nearer.
    let quadrant = (high >> 62) as u32;
    let negative = high >> 61 & 1;
    let flip = negative.wrapping_neg();
    let top = (high << 2 | middle >> 62) ^ flip;
    let next = (middle << 2 | low >> 62) ^ flip;
    let last = (low << 2) ^ flip;
    // No f64 is nearer to a multiple than 2⁻⁶¹ of it: after a word of zeros there is a one.
    let (skipped, top, next, last) = if top == 0 { (64, next, last, 0) } else { (0, top, next, last) };
    let zeros = top.leading_zeros();
    let moved = |this: u64, next: u64| if zeros == 0 { this } else { this << zeros | next >> (64 - zeros) };
    let (top, next) = (moved(top, next), moved(next, last));
    let scale = power_of_two(-64 - skipped - zeros as i32);
    let first = (top & !0x7ff) as f64 * scale;
    let second = ((top & 0x7ff) << 53 | next >> 11) as f64 * (scale * power_of_two(-53));
    let product = first * HALF_PI[0];
    let rest = fma_f64(first, HALF_PI[0], -product);
    let rest = fma_f64(second, HALF_PI[0], fma_f64(first, HALF_PI[1], rest));
    let sum = product + rest;
    let left = (product - sum) + rest;
    let quadrant = quadrant + negative as u32;
    if negative == 0 { (quadrant, sum, left) } else { (quadrant, -sum, -left) }
}

/// A number without its multiple of π/2; NaN for what is not finite.
#[inline(always)]
pub(crate) fn reduced(x: f64) -> Reduced {
    let size = x.abs();
    if size <= core::f64::consts::FRAC_PI_4 {
        return (0, x, 0.0);
    }
    if !x.is_finite() {
        return (0, f64::NAN, 0.0);
    }
    let (quadrant, left, rest) = reduced_far(size);
    if x < 0.0 { (quadrant.wrapping_neg(), -left, -rest) } else { (quadrant, left, rest) }
}

/// The sine of `x + y`, `|x| ≤ π/4`, `y` within the last place of `x`.
#[inline(always)]
fn near_sin(x: f64, y: f64) -> f64 {
    let z = x * x;
    let w = z * z;
    let r = 8.333_333_333_322_49e-3
        + z * (-1.984_126_982_985_795e-4 + z * 2.755_731_370_707_006_8e-6)
        + z * w * (-2.505_076_025_340_686_3e-8 + z * 1.589_690_995_211_55e-10);
    let v = z * x;
    x - ((z * (0.5 * y - v * r) - y) - v * -1.666_666_666_666_663_2e-1)
}

/// The cosine of `x + y`.
#[inline(always)]
fn near_cos(x: f64, y: f64) -> f64 {
    let z = x * x;
    let w = z * z;
    let r = z * (4.166_666_666_666_66e-2 + z * (-1.388_888_888_887_411e-3 + z * 2.480_158_728_947_673e-5))
        + w * w
            * (-2.755_731_435_139_066_3e-7
                + z * (2.087_572_321_298_175e-9 + z * -1.135_964_755_778_819_5e-11));
    let half = 0.5 * z;
    let w = 1.0 - half;
    w + (((1.0 - w) - half) + (z * r - x * y))
}

/// Sine and cosine of what is reduced.
#[inline(always)]
pub(crate) fn sin_cos((quadrant, x, y): Reduced) -> (f64, f64) {
    let (sine, cosine) = (near_sin(x, y), near_cos(x, y));
    match quadrant & 3 {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        2 => (-sine, -cosine),
        _ => (-cosine, sine),
    }
}

/// What truncating division leaves of `x`, exactly; it has the sign of `x`. NaN of an infinite `x` and a `y` of 0.
#[inline(always)]
pub(crate) fn rem(x: f64, y: f64) -> f64 {
    if y == 0.0 || !x.is_finite() || y.is_nan() {
        return f64::NAN;
    }
    if x.abs() < y.abs() {
        return x;
    }
    let (a, b) = (x.to_bits() & !(1 << 63), y.to_bits() & !(1 << 63));
    let exponent = |bits: u64| if bits < 1 << 52 { 1 } else { (bits >> 52) as u32 };
    let mantissa = |bits: u64| {
        let fraction = bits & 0x000f_ffff_ffff_ffff;
        if bits < 1 << 52 { fraction } else { fraction | 0x0010_0000_0000_0000 }
    };
    let divisor = mantissa(b);
    let mut shift = exponent(a) - exponent(b);
    let mut left = mantissa(a).checked_rem(divisor).unwrap_or(0);
    // Below 2⁵³ eleven bits have room.
    while shift > 0 {
        let step = if shift < 11 { shift } else { 11 };
        left = (left << step).checked_rem(divisor).unwrap_or(0);
        shift -= step;
    }
    // The last place of y, twice half of it: what is left is a multiple.
    let place = exponent(b) as i32 - 1075;
    let half = place >> 1;
    let size = left as f64 * power_of_two(half) * power_of_two(place - half);
    if x.is_sign_negative() { -size } else { size }
}
