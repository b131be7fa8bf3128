//! Exponentials and the error function with instructions that only AVX-512 has: scaling by powers of two, which rounds
//! once whatever the exponent, and tables of 32 entries in two registers.
//!
//! The exponential is `2^⌊n⌋ · 2^k/16 · e^r` with `n = x / ln 2` rounded to sixteenths, of which `k` is the number beyond
//! `⌊n⌋`, and `|r| ≤ ln 2 / 32`, where the series `1 + r + r²/2 + r³/6` is right to 10⁻⁸: at most 2 ULP. The error function is odd,
//! 1 from 4 on, and a polynomial of degree 5 on each of 32 intervals of an eighth: around 0 in the first, which makes
//! it exact to relative errors there, and around the middle in the others. The coefficients were fitted by least
//! squares with weights raised where the error was largest, to 2·10⁻⁹ before rounding: at most 4 ULP.

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
    table: [[__m512; 2]; 6],
    middle: [__m512; 2],
    sign: __m512,
    limit: __m512,
    half: __m512,
    eighths: __m512,
}

impl ErrorFunction {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in crate::cpu) fn new() -> Self {
        let [a, b, c, d, e, f] = &ERF;
        Self {
            table: [halves(a), halves(b), halves(c), halves(d), halves(e), halves(f)],
            middle: halves(&MIDDLE),
            sign: _mm512_set1_ps(-0.0),
            limit: _mm512_set1_ps(4.0f32.next_down()),
            half: _mm512_set1_ps(0.0625),
            eighths: _mm512_set1_ps(EIGHTHS),
        }
    }

    /// `erf(x)`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in crate::cpu) fn at(&self, x: __m512) -> __m512 {
        // The second operand is the result where it is NaN.
        let a = _mm512_min_ps(self.limit, _mm512_andnot_ps(self.sign, x));
        // The number of the interval in the low bits. On its ends either neighbour may be taken.
        let at = _mm512_castps_si512(_mm512_add_ps(_mm512_sub_ps(a, self.half), self.eighths));
        let middle = _mm512_permutex2var_ps(self.middle[0], at, self.middle[1]);
        let t = _mm512_sub_ps(a, middle);
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

/// What the powers are of: 0 in the first interval, the distance from its middle in the others.
const MIDDLE: [f32; 32] = {
    let mut middle = [0.0; 32];
    let mut i = 1;
    while i < 32 {
        middle[i] = (i as f32 + 0.5) / 8.0;
        i += 1;
    }
    middle
};

/// Coefficients by interval, highest power first.
#[rustfmt::skip]
#[allow(clippy::unreadable_literal, clippy::approx_constant, reason = "coefficients that were fitted, not constants")]
const ERF: [[f32; 32]; 6] = [
    [
        0.11108989, 0.09363899, 0.06357855, 0.026392037, -0.010787624, -0.04156191, -0.061635133,
        -0.06947586, -0.0661825, -0.054740816, -0.038964387, -0.022492936, -0.0080814585, 0.002708997,
        0.009456513, 0.012585278, 0.012985434, 0.011667884, 0.009524749, 0.0072101275, 0.0051205005,
        0.0034366674, 0.002190598, 0.0013308066, 7.72557e-4, 4.294094e-4, 2.2889016e-4, 1.17146104e-4,
        5.763364e-5, 2.7276596e-5, 1.2424544e-5, 5.4542315e-6,
    ],
    [
        2.573745e-4, 0.09954749, 0.14922288, 0.17752376, 0.18221974, 0.16539355, 0.1325244, 0.090926036,
        0.048021268, 0.009907232, -0.01949991, -0.038659368, -0.048055302, -0.049526308, -0.04552023,
        -0.038465425, -0.030359818, -0.022591826, -0.01594586, -0.010719923, -0.0068846582, -0.0042334343,
        -0.0024967375, -0.0014142133, -7.7018683e-4, -4.0365296e-4, -2.0373966e-4, -9.91e-5, -4.6476573e-5,
        -2.1026064e-5, -9.179659e-6, -3.868732e-6,
    ],
    [
        -0.3761395, -0.33759978, -0.2745043, -0.19170095, -0.10064889, -0.012822127, 0.062259134,
        0.118356004, 0.15299292, 0.16713075, 0.16425857, 0.1492243, 0.12711339, 0.10239468, 0.07843117,
        0.057341445, 0.040123586, 0.026925506, 0.017355539, 0.010758574, 0.006420081, 0.0036909955,
        0.002045746, 0.0010937202, 5.643019e-4, 2.810879e-4, 1.3522248e-4, 6.284384e-5, 2.8222654e-5,
        1.2250551e-5, 5.1407496e-6, 2.085869e-6,
    ],
    [
        2.2283807e-7, -0.204262, -0.3198107, -0.4076674, -0.46255538, -0.48356572, -0.4737793, -0.43926054,
        -0.3877094, -0.32708892, -0.26449326, -0.2054161, -0.15345684, -0.11040223, -0.0765611,
        -0.05121488, -0.033067465, -0.020617487, -0.012418761, -0.0072289994, -0.0040678284, -0.0022133011,
        -0.0011646781, -5.9284444e-4, -2.919554e-4, -1.391221e-4, -6.415572e-5, -2.8634113e-5,
        -1.2370447e-5, -5.1734464e-6, -2.0946093e-6, -8.21083e-7,
    ],
    [
        1.1283792, 1.0893989, 1.0233954, 0.93181217, 0.82232136, 0.7033687, 0.58311313, 0.46854457,
        0.36490288, 0.27544317, 0.20151852, 0.14289802, 0.09821228, 0.06542348, 0.042240575, 0.026433477,
        0.016032714, 0.0094251465, 0.0053702868, 0.002965754, 0.0015874536, 8.235601e-4, 4.1411203e-4,
        2.0182208e-4, 9.5334006e-5, 4.364709e-5, 1.9368279e-5, 8.330193e-6, 3.4725413e-6, 1.4030336e-6,
        5.4943587e-7, 2.0854235e-7,
    ],
    [
        0.0, 0.20911768, 0.34146863, 0.46389812, 0.57367444, 0.66908467, 0.74946404, 0.8151024, 0.8670583,
        0.90692174, 0.93656856, 0.9579406, 0.97287464, 0.9829897, 0.98963064, 0.9938568, 0.9964638,
        0.9980225, 0.9989259, 0.99943346, 0.99970984, 0.9998557, 0.9999303, 0.99996734, 0.99998516,
        0.99999344, 0.9999972, 0.9999988, 0.9999995, 0.9999998, 0.99999994, 1.0,
    ],
];
