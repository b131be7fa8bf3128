//! Chains in AVX-512: eight vectors of sixteen elements.

macro_rules! featured {
    ($($item:tt)*) => { #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] $($item)* };
}

#[allow(clippy::duplicate_mod, reason = "steps are compiled for each instruction set")]
#[path = "steps.rs"]
mod steps;

pub(super) use steps::{Code, Spot, code, run};

/// The operations of steps. Comparisons and truth values are 0 or 1 in 32 bits.
///
/// # Safety
/// - Of `load`, `store` and `stream`: there are the elements of a vector; what is streamed to begins on a line.
mod of {
    use crate::cpu::simd::Avx512;
    use crate::cpu::vector_math::wide::{ErrorFunction, Exponential};
    use std::arch::x86_64::{
        __m512, __mmask16, _CMP_EQ_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _CMP_UNORD_Q, _MM_FROUND_NO_EXC,
        _MM_FROUND_TO_NEAREST_INT, _MM_FROUND_TO_NEG_INF, _MM_FROUND_TO_POS_INF, _mm512_abs_ps,
        _mm512_add_ps, _mm512_and_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
        _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_maskz_set1_epi32,
        _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_or_ps, _mm512_roundscale_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_setzero_ps, _mm512_sqrt_ps, _mm512_storeu_ps, _mm512_stream_ps, _mm512_sub_ps,
        _mm512_test_epi32_mask, _mm512_xor_ps,
    };

    pub(super) type V = __m512;
    pub(super) type Token = Avx512;
    pub(super) const LANES: usize = 16;
    /// Bytes of a block.
    pub(super) const BLOCK: usize = 8 * 4 * LANES;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn zero() -> V {
        _mm512_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn load(from: *const f32) -> V {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn store(to: *mut f32, value: V) {
        // SAFETY: as the caller promises.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn stream(to: *mut f32, value: V) {
        // SAFETY: as the caller promises.
        unsafe { _mm512_stream_ps(to, value) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn add(a: V, b: V) -> V {
        _mm512_add_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn sub(a: V, b: V) -> V {
        _mm512_sub_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn mul(a: V, b: V) -> V {
        _mm512_mul_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn div(a: V, b: V) -> V {
        _mm512_div_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn and(a: V, b: V) -> V {
        _mm512_and_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn or(a: V, b: V) -> V {
        _mm512_or_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn xor(a: V, b: V) -> V {
        _mm512_xor_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn min(a: V, b: V) -> V {
        first_nan(a, _mm512_min_ps(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn max(a: V, b: V) -> V {
        first_nan(a, _mm512_max_ps(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn equal(a: V, b: V) -> V {
        truth(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn less(a: V, b: V) -> V {
        truth(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn less_or_equal(a: V, b: V) -> V {
        truth(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn neg(a: V) -> V {
        _mm512_xor_ps(a, _mm512_set1_ps(-0.0))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn abs(a: V) -> V {
        _mm512_abs_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn sqrt(a: V) -> V {
        _mm512_sqrt_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn floor(a: V) -> V {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn ceil(a: V) -> V {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn round(a: V) -> V {
        _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn not(a: V) -> V {
        _mm512_xor_ps(a, _mm512_castsi512_ps(_mm512_set1_epi32(1)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn mul_add(a: V, b: V, c: V) -> V {
        _mm512_fmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn select(condition: V, yes: V, no: V) -> V {
        let condition = _mm512_castps_si512(condition);
        _mm512_mask_blend_ps(_mm512_test_epi32_mask(condition, condition), no, yes)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn exp(z: &[V; 8]) -> [V; 8] {
        let constants = Exponential::new(0.0);
        z.map(|x| constants.at(x))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) fn erf(z: &[V; 8]) -> [V; 8] {
        let constants = ErrorFunction::new();
        z.map(|x| constants.at(x))
    }

    /// `a` where it is NaN, else `most`, of an instruction that takes the second operand where either is.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn first_nan(a: V, most: V) -> V {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), most, a)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    fn truth(mask: __mmask16) -> V {
        _mm512_castsi512_ps(_mm512_maskz_set1_epi32(mask, 1))
    }
}
