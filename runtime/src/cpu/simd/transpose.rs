//! Sixteen vectors of sixteen elements, turned: by pairs of elements, pairs of pairs, and quarters.

use std::arch::x86_64::{
    __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// [`super::Simd::columns`] for vectors of sixteen elements.
macro_rules! columns_avx512 {
    ($lanes:literal) => {
        #[inline(always)]
        fn columns(self, rows: &[Self::Vector; 16], to: &mut [[f32; $lanes]; $lanes]) {
            // SAFETY: the token exists only where `Level` found the features.
            unsafe { transpose::columns(rows, to) }
        }
    };
}

/// `to[lane][row] = rows[row][lane]`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn columns(rows: &[__m512; 16], to: &mut [[f32; 16]; 16]) {
    let mut pairs = *rows;
    for i in 0..8 {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i] = _mm512_unpacklo_ps(a, b);
        pairs[2 * i + 1] = _mm512_unpackhi_ps(a, b);
    }
    // Quarter `q` of `fours[4 g + c]` holds rows `4 g` to `4 g + 3` of column `4 q + c`.
    let mut fours = pairs;
    for g in 0..4 {
        for c in 0..2 {
            let a = _mm512_castps_pd(pairs[4 * g + c]);
            let b = _mm512_castps_pd(pairs[4 * g + 2 + c]);
            fours[4 * g + 2 * c] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            fours[4 * g + 2 * c + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    for c in 0..4 {
        let low = (fours[c], fours[4 + c]);
        let high = (fours[8 + c], fours[12 + c]);
        let even = (_mm512_shuffle_f32x4::<EVEN>(low.0, low.1), _mm512_shuffle_f32x4::<EVEN>(high.0, high.1));
        let odd = (_mm512_shuffle_f32x4::<ODD>(low.0, low.1), _mm512_shuffle_f32x4::<ODD>(high.0, high.1));
        let turned = [
            _mm512_shuffle_f32x4::<EVEN>(even.0, even.1),
            _mm512_shuffle_f32x4::<EVEN>(odd.0, odd.1),
            _mm512_shuffle_f32x4::<ODD>(even.0, even.1),
            _mm512_shuffle_f32x4::<ODD>(odd.0, odd.1),
        ];
        for (q, column) in turned.into_iter().enumerate() {
            // SAFETY: the array holds a vector.
            unsafe { _mm512_storeu_ps(to[4 * q + c].as_mut_ptr(), column) };
        }
    }
}
