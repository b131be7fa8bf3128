//! Logarithms of `f32`: `ln x`, `ln(1 + x)` and `ln(1 + e^x)`.
//!
//! `x = 2ᵏ·(1 + f)` with `1 + f` between √½ and √2; subnormal `x` is scaled first. `ln(1 + f) = f − f²/2 + f³·p(f)` with
//! `p` of degree 8, minimax on the interval to 7.5·10⁻¹⁰ relative to the logarithm, plus `k·ln 2` in two parts: at most
//! 4 ULP. `ln(1 + x) = ln u + c / u` with `u` the rounded `1 + x` and `c` what the rounding lost: at most 4 ULP.
//! `ln(1 + e^x) = max(x, 0) + ln(1 + e^−|x|)`, which does not overflow: at most 4 ULP.

use super::exponential::exp;
use crate::cpu::simd::Isa;

/// ln 2 in two parts, the first of few bits.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// `(ln(1 + f) − f + f²/2) / f³`, highest power first.
const P: [f32; 9] = [
    6.746_485e-2,
    -0.116_756_94,
    0.118_882_55,
    -0.124_055_85,
    0.142_195_37,
    -0.166_679_96,
    0.200_021_19,
    -0.250_000_1,
    0.333_333_13,
];
/// Bits of √½.
const SQRT_HALF: u32 = 0x3f35_04f3;

/// `ln x` for positive finite `x`, in two parts: all but `k·ln 2`'s first part, and that.
#[inline(always)]
fn of_positive<I: Isa>(isa: I, x: f32) -> f32 {
    let tiny = x < f32::MIN_POSITIVE;
    let scaled = if tiny { x * 8_388_608.0 } else { x };
    let bits = scaled.to_bits();
    let exponent = (bits.wrapping_sub(SQRT_HALF) as i32) >> 23;
    let f = f32::from_bits(bits.wrapping_sub((exponent as u32) << 23)) - 1.0;
    let k = exponent as f32 - if tiny { 23.0 } else { 0.0 };
    let mut p = P[0];
    for c in &P[1..] {
        p = isa.mul_add_f32(p, f, *c);
    }
    let square = f * f;
    let tail = isa.mul_add_f32(f * square, p, k * LN2[1]);
    let tail = isa.mul_add_f32(-0.5, square, tail);
    isa.mul_add_f32(k, LN2[0], f + tail)
}

/// Natural logarithm.
#[inline(always)]
pub(crate) fn log<I: Isa>(isa: I, x: f32) -> f32 {
    let y = of_positive(isa, x);
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

/// `ln(1 + x)`.
#[inline(always)]
pub(crate) fn log1p<I: Isa>(isa: I, x: f32) -> f32 {
    let u = 1.0 + x;
    let lost = x - (u - 1.0);
    let y = of_positive(isa, u) + lost / u;
    let y = if u == f32::INFINITY { u } else { y };
    let y = if u == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if u >= 0.0 { y } else { f32::NAN };
    y.copysign(x)
}

/// `ln(1 + e^x)`.
#[inline(always)]
pub(crate) fn softplus<I: Isa>(isa: I, x: f32) -> f32 {
    let t = exp(isa, -x.abs());
    let u = 1.0 + t;
    let tail = of_positive(isa, u) + (t - (u - 1.0)) / u;
    if x > 0.0 { x + tail } else { tail }
}
