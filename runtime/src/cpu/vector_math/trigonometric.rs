//! Sine and cosine of `f32`.
//!
//! `x = n·π/2 + r`, `|r| ≤ π/4`, reduced in f64 by π/2 in two parts, the first of 33 bits so that its products with `n`
//! are exact for `|x|` up to [`LIMIT`]. On the interval `sin r = r + r³·s(r²)` and `cos r = 1 − r²/2 + r⁴·c(r²)`, minimax
//! of degree 2 each, to 3.7·10⁻⁹ relative and 9.7·10⁻¹¹ absolute. At most 4 ULP; beyond the limit the caller takes the
//! standard library's.

use crate::cpu::simd::Isa;

/// Arguments of a larger magnitude are not reduced.
pub(crate) const LIMIT: f32 = 1.0e6;
/// Added to a number below 2⁵¹, leaves it rounded to an integer in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// π/2 in two parts.
const HALF_PI: [f64; 2] = [1.570_796_326_734_125_6, 6.077_100_506_506_192e-11];
/// `(sin(√t)/√t − 1)/t`, highest power first.
const S: [f32; 3] = [-1.951_664_7e-4, 8.332_173e-3, -0.166_666_55];
/// `(cos(√t) − 1 + t/2)/t²`, highest power first.
const C: [f32; 3] = [2.443_771_5e-5, -1.388_736_2e-3, 4.166_664_6e-2];

/// The sine of `x + quarter·π/2`.
#[inline(always)]
fn shifted_sin<I: Isa>(isa: I, x: f32, quarter: u64) -> f32 {
    let wide = f64::from(x);
    let rounded = isa.mul_add_f64(wide, std::f64::consts::FRAC_2_PI, ROUND);
    let n = rounded - ROUND;
    let r = isa.mul_add_f64(n, -HALF_PI[1], isa.mul_add_f64(n, -HALF_PI[0], wide)) as f32;
    let turn = (rounded.to_bits().wrapping_add(quarter)) as u32;
    let t = r * r;
    let s = isa.mul_add_f32(isa.mul_add_f32(S[0], t, S[1]), t, S[2]);
    let c = isa.mul_add_f32(isa.mul_add_f32(C[0], t, C[1]), t, C[2]);
    // The sum of two zeros would lose the sign of the one.
    let sine = if r == 0.0 { r } else { isa.mul_add_f32(r * t, s, r) };
    let cosine = isa.mul_add_f32(t * t, c, isa.mul_add_f32(t, -0.5, 1.0));
    let y = if turn & 1 == 0 { sine } else { cosine };
    f32::from_bits(y.to_bits() ^ ((turn & 2) << 30))
}

/// Sine, for arguments up to [`LIMIT`].
#[inline(always)]
pub(crate) fn sin<I: Isa>(isa: I, x: f32) -> f32 {
    shifted_sin(isa, x, 0)
}

/// Cosine, for arguments up to [`LIMIT`].
#[inline(always)]
pub(crate) fn cos<I: Isa>(isa: I, x: f32) -> f32 {
    shifted_sin(isa, x, 1)
}
