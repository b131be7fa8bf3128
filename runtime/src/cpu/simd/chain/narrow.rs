//! Chains in AVX2: eight vectors of eight elements, half of the registers.

macro_rules! featured {
    ($($item:tt)*) => { #[target_feature(enable = "avx2,fma")] $($item)* };
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
    use crate::cpu::simd::Avx2;
    use crate::cpu::vector_math::Math;
    use std::arch::x86_64::{
        __m256, _CMP_EQ_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _CMP_UNORD_Q, _MM_FROUND_NO_EXC,
        _MM_FROUND_TO_NEAREST_INT, _MM_FROUND_TO_NEG_INF, _MM_FROUND_TO_POS_INF, _mm256_add_ps,
        _mm256_and_ps, _mm256_andnot_ps, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps,
        _mm256_cmp_ps, _mm256_cmpeq_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_mul_ps, _mm256_or_ps, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps,
        _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sqrt_ps, _mm256_storeu_ps, _mm256_stream_ps,
        _mm256_sub_ps, _mm256_xor_ps,
    };

    pub(super) type V = __m256;
    pub(super) type Token = Avx2;
    pub(super) const LANES: usize = 8;
    /// Bytes of a block.
    pub(super) const BLOCK: usize = 8 * 4 * LANES;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn zero() -> V {
        _mm256_setzero_ps()
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn load(from: *const f32) -> V {
        // SAFETY: as the caller promises.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn store(to: *mut f32, value: V) {
        // SAFETY: as the caller promises.
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn stream(to: *mut f32, value: V) {
        // SAFETY: as the caller promises.
        unsafe { _mm256_stream_ps(to, value) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn add(a: V, b: V) -> V {
        _mm256_add_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn sub(a: V, b: V) -> V {
        _mm256_sub_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn mul(a: V, b: V) -> V {
        _mm256_mul_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn div(a: V, b: V) -> V {
        _mm256_div_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn and(a: V, b: V) -> V {
        _mm256_and_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn or(a: V, b: V) -> V {
        _mm256_or_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn xor(a: V, b: V) -> V {
        _mm256_xor_ps(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn min(a: V, b: V) -> V {
        first_nan(a, _mm256_min_ps(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn max(a: V, b: V) -> V {
        first_nan(a, _mm256_max_ps(a, b))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn equal(a: V, b: V) -> V {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b), one())
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn less(a: V, b: V) -> V {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b), one())
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn less_or_equal(a: V, b: V) -> V {
        _mm256_and_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(a, b), one())
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn neg(a: V) -> V {
        _mm256_xor_ps(a, _mm256_set1_ps(-0.0))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn abs(a: V) -> V {
        _mm256_andnot_ps(_mm256_set1_ps(-0.0), a)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn sqrt(a: V) -> V {
        _mm256_sqrt_ps(a)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn floor(a: V) -> V {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn ceil(a: V) -> V {
        _mm256_round_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(a)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn round(a: V) -> V {
        _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn not(a: V) -> V {
        _mm256_xor_ps(a, one())
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn mul_add(a: V, b: V, c: V) -> V {
        _mm256_fmadd_ps(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn select(condition: V, yes: V, no: V) -> V {
        let none = _mm256_cmpeq_epi32(_mm256_castps_si256(condition), _mm256_setzero_si256());
        _mm256_blendv_ps(yes, no, _mm256_castsi256_ps(none))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn exp(z: &[V; 8]) -> [V; 8] {
        each(z, |x| Math::exp(x, Avx2(())))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn erf(z: &[V; 8]) -> [V; 8] {
        each(z, |x| Math::erf(x, Avx2(())))
    }

    /// A function of all elements, an element at a time for the compiler to make vectors of.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn each(z: &[V; 8], f: impl Fn(f32) -> f32) -> [V; 8] {
        let mut all: [f32; 8 * LANES] = bytemuck::must_cast(*z);
        all.iter_mut().for_each(|x| *x = f(*x));
        bytemuck::must_cast(all)
    }

    /// `a` where it is NaN, else `most`, of an instruction that takes the second operand where either is.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn first_nan(a: V, most: V) -> V {
        _mm256_blendv_ps(most, a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn one() -> V {
        _mm256_castsi256_ps(_mm256_set1_epi32(1))
    }
}
