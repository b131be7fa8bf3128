//! Exponentials and the error function with instructions that only AVX-512 has: scaling by powers of two, which rounds
//! once whatever the exponent, and tables of 32 entries in two registers.
//!
//! The exponential is `2^⌊n⌋ · 2^k/16 · e^r` with `n = x / ln 2` rounded to sixteenths, of which `k` is the number beyond
//! `⌊n⌋`, and `|r| ≤ ln 2 / 32`, where the series `1 + r + r²/2 + r³/6` is right to 10⁻⁸: at most 2 ULP. The error function is odd,
//! 1 from 4 − 1/16 on, and a polynomial of degree 4 around each eighth, 0 to 31, between which magnitudes are rounded: what
//! is left of a number near 0 is itself, so that relative errors are small there. The polynomials meet the function at
//! Chebyshev's points of their intervals; the first one's, of the quotient by its argument, has the derivative at 0 as it
//! rounds. Less than 10⁻⁸ before rounding: at most 4 ULP. The last one is 1 in its middle, so that `1 − erf` is zero from
//! there on.

use super::LANES;
use super::exponential::{LN2, RANGE};
use crate::cpu::simd::Fold;
use std::arch::x86_64::{
    __m512, __mmask16, _CMP_NLT_UQ, _CMP_UNORD_Q, _mm512_add_ps, _mm512_and_ps, _mm512_andnot_ps,
    _mm512_castps_si512, _mm512_cmp_ps_mask, _mm512_cvtss_f32, _mm512_fmadd_ps, _mm512_fnmadd_ps,
    _mm512_loadu_ps, _mm512_mask_add_ps, _mm512_mask_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_maskz_scalef_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_or_ps, _mm512_permute_ps,
    _mm512_permutex2var_ps, _mm512_permutexvar_ps, _mm512_range_ps, _mm512_set1_ps, _mm512_shuffle_f32x4,
    _mm512_storeu_ps, _mm512_sub_ps,
};

/// Elements of a vector.
const WIDTH: usize = 16;

/// The mask of the first `count` elements of a vector, of which there is at least one.
#[inline]
fn lanes(count: usize) -> __mmask16 {
    (u32::MAX >> (32 - count)) as __mmask16
}

/// `to = f(from)`, a vector at a time; the lanes of the last one that hold no element are not read and not written.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn each(to: &mut [f32], from: &[f32], f: impl Fn(__m512) -> __m512) {
    let count = to.len().min(from.len());
    let whole = count - count % WIDTH;
    let (to, to_rest) = to[..count].split_at_mut(whole);
    let (from, from_rest) = from[..count].split_at(whole);
    for (to, from) in to.chunks_exact_mut(WIDTH).zip(from.chunks_exact(WIDTH)) {
        // SAFETY: chunks have the elements of a vector.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), f(_mm512_loadu_ps(from.as_ptr()))) }
    }
    if !to_rest.is_empty() {
        let mask = lanes(to_rest.len());
        // SAFETY: the mask has a lane for each element that both slices have.
        unsafe {
            let x = _mm512_maskz_loadu_ps(mask, from_rest.as_ptr());
            _mm512_mask_storeu_ps(to_rest.as_mut_ptr(), mask, f(x));
        }
    }
}

/// The constants of an exponential.
pub(in crate::cpu) struct Exponential {
    less: __m512,
    most: __m512,
    least: __m512,
    round: __m512,
    log2_e: __m512,
    ln2: [__m512; 2],
    powers: __m512,
    terms: [__m512; 2],
}

impl Exponential {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in crate::cpu) fn new(less: f32) -> Self {
        // SAFETY: there are as many powers as a vector has elements.
        let powers = unsafe { _mm512_loadu_ps(POWERS.as_ptr()) };
        Self {
            less: _mm512_set1_ps(less),
            most: _mm512_set1_ps(0.03),
            least: _mm512_set1_ps(RANGE.0),
            round: _mm512_set1_ps(SIXTEENTHS),
            log2_e: _mm512_set1_ps(std::f32::consts::LOG2_E),
            ln2: [_mm512_set1_ps(LN2[0]), _mm512_set1_ps(LN2[1])],
            powers,
            terms: [_mm512_set1_ps(1.0 / 6.0), _mm512_set1_ps(0.5)],
        }
    }

    /// `e^(x − less)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in crate::cpu) fn at(&self, x: __m512) -> __m512 {
        let x = _mm512_sub_ps(x, self.less);
        let rounded = _mm512_fmadd_ps(x, self.log2_e, self.round);
        let n = _mm512_sub_ps(rounded, self.round);
        let r = _mm512_fnmadd_ps(n, self.ln2[1], _mm512_fnmadd_ps(n, self.ln2[0], x));
        // Beyond 2¹⁸, where nothing is rounded to sixteenths, r is anything: held to a small number, it leaves the
        // power positive and finite, which the scaling by n makes infinite, or NaN where n is.
        let r = _mm512_range_ps::<SMALLER>(r, self.most);
        let q = _mm512_fmadd_ps(self.terms[0], r, self.terms[1]);
        let p = _mm512_fmadd_ps(q, _mm512_mul_ps(r, r), r);
        // The sixteenths of n are in the low bits, of which the permutation looks at four; the scaling takes ⌊n⌋.
        let power = _mm512_permutexvar_ps(_mm512_castps_si512(rounded), self.powers);
        // What is zero is not scaled: to underflow takes a hundred cycles. NaN is.
        let some = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, self.least);
        _mm512_maskz_scalef_ps(some, _mm512_fmadd_ps(power, p, power), n)
    }
}

/// The number of smaller magnitude, with the sign of the first; the second where the first is NaN.
const SMALLER: i32 = 0b0010;

/// Added to a number below 2¹⁸, leaves it rounded to sixteenths, their number in the low bits.
const SIXTEENTHS: f32 = 786_432.0;

/// 2^(i/16).
#[rustfmt::skip]
#[allow(clippy::approx_constant, reason = "powers that are rounded")]
const POWERS: [f32; WIDTH] = [
    1.0, 1.044_273_7, 1.090_507_7, 1.138_788_6, 1.189_207_1, 1.241_857_8, 1.296_839_6, 1.354_255_6,
    1.414_213_5, 1.476_826_2, 1.542_210_8, 1.610_490_3, 1.681_792_9, 1.756_252_2, 1.834_008_1, 1.915_206_6,
];

/// `to = e^(from − less)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(in crate::cpu) fn exp(to: &mut [f32], from: &[f32], less: f32) {
    let constants = Exponential::new(less);
    each(to, from, |x| constants.at(x));
}

/// `to = e^(from − less)`, and their sum: four vectors of sums in turn, then the lanes of those in halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(in crate::cpu) fn exp_sum(to: &mut [f32], from: &[f32], less: f32) -> f32 {
    let constants = Exponential::new(less);
    let mut sums = [_mm512_set1_ps(0.0); LANES / WIDTH];
    let count = to.len().min(from.len());
    let whole = count - count % LANES;
    let (to, to_rest) = to[..count].split_at_mut(whole);
    let (from, from_rest) = from[..count].split_at(whole);
    for (to, from) in to.chunks_exact_mut(LANES).zip(from.chunks_exact(LANES)) {
        let lines = to.chunks_exact_mut(WIDTH).zip(from.chunks_exact(WIDTH));
        for ((to, from), sum) in lines.zip(&mut sums) {
            // SAFETY: chunks have the elements of a vector.
            unsafe {
                let y = constants.at(_mm512_loadu_ps(from.as_ptr()));
                _mm512_storeu_ps(to.as_mut_ptr(), y);
                *sum = _mm512_add_ps(*sum, y);
            }
        }
    }
    for ((to, from), sum) in to_rest.chunks_mut(WIDTH).zip(from_rest.chunks(WIDTH)).zip(&mut sums) {
        let mask = lanes(to.len());
        // SAFETY: the mask has a lane for each element of the chunks, which are as long as each other.
        unsafe {
            let y = constants.at(_mm512_maskz_loadu_ps(mask, from.as_ptr()));
            _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, y);
            *sum = _mm512_mask_add_ps(*sum, mask, *sum, y);
        }
    }
    in_halves(sums, |a, b| _mm512_add_ps(a, b))
}

/// All elements of `from` as one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(in crate::cpu) fn folded(fold: Fold, from: &[f32]) -> f32 {
    match fold {
        Fold::Sum => folded_by(from, 0.0, |a, b| _mm512_add_ps(a, b)),
        Fold::Product => folded_by(from, 1.0, |a, b| _mm512_mul_ps(a, b)),
        Fold::Largest => folded_by(from, f32::NEG_INFINITY, |a, b| _mm512_max_ps(a, b)),
        Fold::Max => or_nan(from, folded_by(from, f32::NEG_INFINITY, |a, b| _mm512_max_ps(a, b))),
        Fold::Min => or_nan(from, folded_by(from, f32::INFINITY, |a, b| _mm512_min_ps(a, b))),
    }
}

/// `value`, or NaN where an element of `from` is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn or_nan(from: &[f32], value: f32) -> f32 {
    let (vectors, rest) = from.as_chunks::<WIDTH>();
    let mut any: __mmask16 = 0;
    for vector in vectors {
        // SAFETY: the array has the elements of a vector.
        let x = unsafe { _mm512_loadu_ps(vector.as_ptr()) };
        any |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
    }
    if any != 0 || rest.iter().any(|x| x.is_nan()) { f32::NAN } else { value }
}

/// Vectors go to four in turn, which are combined in halves; `empty` is the value of nothing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn folded_by(from: &[f32], empty: f32, f: impl Fn(__m512, __m512) -> __m512) -> f32 {
    let empty = _mm512_set1_ps(empty);
    let mut all = [empty; LANES / WIDTH];
    let (chunks, rest) = from.as_chunks::<LANES>();
    for chunk in chunks {
        for (one, from) in all.iter_mut().zip(chunk.as_chunks::<WIDTH>().0) {
            // SAFETY: the array has the elements of a vector.
            *one = f(*one, unsafe { _mm512_loadu_ps(from.as_ptr()) });
        }
    }
    for (one, from) in all.iter_mut().zip(rest.chunks(WIDTH)) {
        // SAFETY: the mask has a lane for each element of the chunk, which has at least one.
        let from = unsafe { _mm512_mask_loadu_ps(empty, lanes(from.len()), from.as_ptr()) };
        *one = f(*one, from);
    }
    in_halves(all, f)
}

/// Four vectors as one element: the first two with the last two and so on, then lanes likewise.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn in_halves([a, b, c, d]: [__m512; LANES / WIDTH], f: impl Fn(__m512, __m512) -> __m512) -> f32 {
    let v = f(f(a, c), f(b, d));
    let v = f(v, _mm512_shuffle_f32x4::<0b01_00_11_10>(v, v));
    let v = f(v, _mm512_shuffle_f32x4::<0b10_11_00_01>(v, v));
    let v = f(v, _mm512_permute_ps::<0b01_00_11_10>(v));
    _mm512_cvtss_f32(f(v, _mm512_permute_ps::<0b10_11_00_01>(v)))
}

/// `to = erf(from · scale)`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(in crate::cpu) fn erf(to: &mut [f32], from: &[f32], scale: f32) {
    let (constants, scale) = (ErrorFunction::new(), _mm512_set1_ps(scale));
    each(to, from, |x| constants.at(_mm512_mul_ps(x, scale)));
}

/// The constants of an error function.
pub(in crate::cpu) struct ErrorFunction {
    table: [[__m512; 2]; 5],
    sign: __m512,
    limit: __m512,
    eighths: __m512,
}

impl ErrorFunction {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in crate::cpu) fn new() -> Self {
        let [a, b, c, d, e] = &ERF;
        Self {
            table: [halves(a), halves(b), halves(c), halves(d), halves(e)],
            sign: _mm512_set1_ps(-0.0),
            limit: _mm512_set1_ps(3.9375f32.next_down()),
            eighths: _mm512_set1_ps(EIGHTHS),
        }
    }

    /// `erf(x)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in crate::cpu) fn at(&self, x: __m512) -> __m512 {
        // The second operand is the result where it is NaN.
        let a = _mm512_min_ps(self.limit, _mm512_andnot_ps(self.sign, x));
        // The number of the eighth is in the low bits.
        let rounded = _mm512_add_ps(a, self.eighths);
        let at = _mm512_castps_si512(rounded);
        let t = _mm512_sub_ps(a, _mm512_sub_ps(rounded, self.eighths));
        let mut y = _mm512_permutex2var_ps(self.table[0][0], at, self.table[0][1]);
        for [low, high] in &self.table[1..] {
            y = _mm512_fmadd_ps(y, t, _mm512_permutex2var_ps(*low, at, *high));
        }
        _mm512_or_ps(y, _mm512_and_ps(self.sign, x))
    }
}

/// A table in two registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn halves(entries: &[f32; 32]) -> [__m512; 2] {
    // SAFETY: each half has the elements of a vector.
    unsafe { [_mm512_loadu_ps(entries[..16].as_ptr()), _mm512_loadu_ps(entries[16..].as_ptr())] }
}

/// Added to a number below 2¹⁹, leaves it rounded to eighths, their number in the low bits.
const EIGHTHS: f32 = 1_572_864.0;

/// Coefficients by eighth, highest power first.
#[rustfmt::skip]
#[allow(clippy::unreadable_literal, clippy::approx_constant, reason = "coefficients that were fitted, not constants")]
const ERF: [[f32; 32]; 5] = [
    [
        0.010226977, 0.06859654, 0.12678313, 0.16633894, 0.18283555, 0.1762581, 0.1505558, 0.112345904, 0.06920701,
        0.028049046, -0.0060555027, -0.030392483, -0.04450454, -0.04964849, -0.04805843, -0.042239808, -0.034442704,
        -0.026369696, -0.019097546, -0.013148407, -0.008636035, -0.005425264, -0.0032662079, -0.0018873294,
        -0.0010480041, -0.00055978465, -0.00028785766, -0.00014260394, -6.80981e-5, -3.1361993e-5, -1.3935559e-5,
        -5.9766594e-6,
    ],
    [
        -0.37629157, -0.35821512, -0.30878022, -0.23465425, -0.1464279, -0.05580543, 0.026529172, 0.092595756,
        0.13803165, 0.16215308, 0.16730548, 0.15778823, 0.13867933, 0.11483008, 0.09018952, 0.06749697, 0.048286814,
        0.03309838, 0.021776581, 0.013771343, 0.00837997, 0.0049110344, 0.0027738572, 0.0015109116, 0.0007940717,
        0.00040284207, 0.00019734517, 9.338458e-5, 4.269758e-5, 1.886767e-5, 8.059629e-6, 3.328725e-6,
    ],
    [
        -3.6949868e-6, -0.13886055, -0.26500335, -0.36763206, -0.43939105, -0.477187, -0.48219818, -0.45915186,
        -0.41510752, -0.35805827, -0.2956515, -0.2342448, -0.17839552, -0.1307675, -0.09235629, -0.06289845,
        -0.041333973, -0.026224235, -0.016070204, -0.00951537, -0.0054456973, -0.0030131615, -0.0016122545,
        -0.0008344009, -0.00041775563, -0.00020236873, -9.486308e-5, -4.3036427e-5, -1.8897623e-5, -8.032522e-6,
        -3.3052786e-6, -1.3167686e-6,
    ],
    [
        1.1283792, 1.1108848, 1.0600138, 0.9803526, 0.8787826, 0.7634997, 0.64293134, 0.52474535, 0.41510782,
        0.31827426, 0.23652135, 0.17035992, 0.11893036, 0.08047227, 0.052774966, 0.033545773, 0.020666923,
        0.012340761, 0.007142268, 0.004006438, 0.002178255, 0.001147855, 0.00058626407, 0.0002902201, 0.0001392482,
        6.475593e-5, 2.9187526e-5, 1.27509575e-5, 5.399034e-6, 2.2157308e-6, 8.813442e-7, 3.3978304e-7,
    ],
    [
        0.0, 0.1403162, 0.2763264, 0.4041169, 0.5204999, 0.6232409, 0.71115565, 0.7840751, 0.8427008, 0.8883882,
        0.92290014, 0.94817007, 0.96610516, 0.97844374, 0.9866717, 0.99199003, 0.9953223, 0.997346, 0.9985373,
        0.99921703, 0.999593, 0.9997946, 0.9998994, 0.99995214, 0.9999779, 0.9999901, 0.9999957, 0.9999982,
        0.9999993, 0.9999997, 0.9999999, 1.0,
    ],
];
