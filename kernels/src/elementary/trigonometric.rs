//! Sine, cosine and tangent of an f32 of any size, and their inverses.
//!
//! `x = n·π/2 + r`, `|r| ≤ π/4`. Up to 2¹⁶ the multiples of π/2 are taken away in three parts, of which the first has so few
//! bits that nothing is lost; beyond, the fraction of `x · 2/π` is computed in integers from 192 bits of `2/π` (Payne and
//! Hanek), so that every f32 has its own sine. At most 2 units in the last place for sine and cosine, 4 for the tangent,
//! 3 for the inverses.

use super::polynomial;
use crate::device::math::{fma_f32, round_f32, sqrt_f32};
use core::f32::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

/// Up to here `n` has 16 bits, and its products with the parts of π/2 are exact enough.
const LIMIT: f32 = 65_536.0;
/// π/2 in three parts, the first of 20 bits.
const HALF_PI: [f32; 3] = [f32::from_bits(0x3fc9_0fd8), 3.139_164_7e-7, 5.390_302_5e-15];
/// π/2 − FRAC_PI_2.
const FRAC_PI_2_LOW: f32 = -4.371_139e-8;

/// Word `i` of the binary fraction of `2/π`, 0 behind the last.
#[inline(always)]
fn two_over_pi(i: u32) -> u32 {
    match i {
        0 => 0x28be_60db,
        1 => 0x9391_054a,
        2 => 0x7f09_d5f4,
        3 => 0x7d4d_3770,
        4 => 0x36d8_a566,
        5 => 0x4f10_e410,
        _ => 0,
    }
}

/// The multiple of π/2 nearest to `|x|`, the lowest two bits of it, and what is left, of an `x` beyond [`LIMIT`].
#[inline(always)]
fn reduced_far(x: f32) -> (u32, f32) {
    let bits = x.to_bits();
    let mantissa = (bits & 0x007f_ffff) << 8 | 0x8000_0000;
    let exponent = (bits >> 23 & 0xff).wrapping_sub(126);
    let (word, shift) = (exponent >> 5 & 7, exponent & 31);
    // Word −1 is 0.
    let (a, b) = (two_over_pi(word.wrapping_sub(1)), two_over_pi(word));
    let (c, d) = (two_over_pi(word + 1), two_over_pi(word + 2));
    let joined = |this: u32, next: u32| if shift == 0 { this } else { this << shift | next >> (32 - shift) };
    let (high, middle, low) = (joined(a, b), joined(b, c), joined(c, d));
    let mantissa = u64::from(mantissa);
    // 2 bits of the quadrant, 62 of the fraction; what is above them does not matter.
    let product = mantissa.wrapping_mul(low.into()) >> 32;
    let product = mantissa.wrapping_mul(middle.into()).wrapping_add(product);
    let product = (mantissa.wrapping_mul(high.into()) << 32).wrapping_add(product);
    let quadrant = (product >> 62) as u32;
    let fraction = product << 2;
    // From one half on the next multiple is nearer.
    let up = (fraction >> 63) as u32;
    let left = (fraction as i64) as f64 * (core::f64::consts::FRAC_PI_2 / 18_446_744_073_709_551_616.0);
    (quadrant.wrapping_add(up), left as f32)
}

/// `x` as quadrants and what is left of it; NaN for what is not finite. Its code is long: who computes one of several
/// functions of `x` reduces it once.
#[inline(always)]
pub(crate) fn reduced(x: f32) -> (u32, f32) {
    if x.abs() > LIMIT {
        if !x.is_finite() {
            return (0, f32::NAN);
        }
        let (quadrant, left) = reduced_far(x);
        return if x < 0.0 { (quadrant.wrapping_neg(), -left) } else { (quadrant, left) };
    }
    let n = round_f32(x * FRAC_2_PI);
    let left = fma_f32(-n, HALF_PI[0], x);
    let left = fma_f32(-n, HALF_PI[2], fma_f32(-n, HALF_PI[1], left));
    (n as i32 as u32, left)
}

/// The sine of `r` where it is asked for an even quadrant, else the cosine, negative in the upper half.
#[inline(always)]
fn of_quadrant(quadrant: u32, r: f32) -> f32 {
    let square = r * r;
    let y = if quadrant & 1 == 0 {
        let s = polynomial(square, [-0.166_666_67, 8.333_386e-3, -1.985_599_2e-4, 2.865_679_6e-6]);
        fma_f32(r * square, s, r)
    } else {
        polynomial(square, [1.0, -0.5, 4.166_665_7e-2, -1.388_773e-3, 2.446_770_7e-5])
    };
    if quadrant & 2 == 0 { y } else { -y }
}

/// The sine; `−0` of `−0`.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    sin_of(x, reduced(x))
}

/// The sine of an `x` that is reduced.
#[inline(always)]
pub(crate) fn sin_of(x: f32, (quadrant, r): (u32, f32)) -> f32 {
    if x == 0.0 { x } else { of_quadrant(quadrant, r) }
}

/// The cosine.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    cos_of(reduced(x))
}

/// The cosine of what is reduced.
#[inline(always)]
pub(crate) fn cos_of((quadrant, r): (u32, f32)) -> f32 {
    of_quadrant(quadrant.wrapping_add(1), r)
}

/// The tangent; `−0` of `−0`.
#[inline(always)]
pub fn tan(x: f32) -> f32 {
    tan_of(x, reduced(x))
}

/// The tangent of an `x` that is reduced.
#[inline(always)]
pub(crate) fn tan_of(x: f32, (quadrant, r): (u32, f32)) -> f32 {
    if x == 0.0 {
        return x;
    }
    let square = r * r;
    let c = [0.333_331_57, 0.133_387_99, 5.341_128e-2, 2.443_013_5e-2, 3.119_922_3e-3, 9.385_402e-3];
    let y = fma_f32(polynomial(square, c) * square, r, r);
    if quadrant & 1 == 0 { y } else { -1.0 / y }
}

/// The inverse sine of a number from 0 to ½, whose square is given.
#[inline(always)]
fn asin_below_half(x: f32, square: f32) -> f32 {
    let c = [0.166_667_53, 7.495_300_3e-2, 4.547_002_6e-2, 2.418_131e-2, 4.216_32e-2];
    fma_f32(polynomial(square, c) * square, x, x)
}

/// The inverse sine: NaN outside −1 … 1. Above ½ it is `π/2 − 2·asin √((1 − x)/2)`.
#[inline(always)]
pub fn asin(x: f32) -> f32 {
    let size = x.abs();
    if size <= 0.5 {
        return asin_below_half(x, x * x);
    }
    let half = 0.5 * (1.0 - size);
    let part = asin_below_half(sqrt_f32(half), half);
    let y = FRAC_PI_2 + fma_f32(-2.0, part, FRAC_PI_2_LOW);
    if x < 0.0 { -y } else { y }
}

/// The inverse cosine: NaN outside −1 … 1.
#[inline(always)]
pub fn acos(x: f32) -> f32 {
    let size = x.abs();
    if size <= 0.5 {
        return FRAC_PI_2 - (asin_below_half(x, x * x) - FRAC_PI_2_LOW);
    }
    let half = 0.5 * (1.0 - size);
    let part = 2.0 * asin_below_half(sqrt_f32(half), half);
    if x < 0.0 { PI - (part - 2.0 * FRAC_PI_2_LOW) } else { part }
}

/// The inverse tangent, by `atan x = π/4 + atan((x − 1)/(x + 1)) = π/2 − atan(1/x)`.
#[inline(always)]
pub fn atan(x: f32) -> f32 {
    let size = x.abs();
    let (base, low, z) = if size > 2.414_213_6 {
        (FRAC_PI_2, FRAC_PI_2_LOW, -1.0 / size)
    } else if size > 0.414_213_57 {
        (FRAC_PI_4, 0.5 * FRAC_PI_2_LOW, (size - 1.0) / (size + 1.0))
    } else {
        (0.0, 0.0, size)
    };
    let square = z * z;
    let c = [-0.333_329_5, 0.199_777_11, -0.138_776_86, 8.053_745e-2];
    let y = base + (fma_f32(polynomial(square, c) * square, z, z) + low);
    f32::from_bits(y.to_bits() & 0x7fff_ffff | x.to_bits() & 0x8000_0000)
}
