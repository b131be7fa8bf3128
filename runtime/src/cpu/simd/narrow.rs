//! Loads of weights that are stored in fewer bits than they are computed with: methods of [`super::Simd`] for vectors of
//! `f32`. Half floats are widened by F16C, or AVX-512's form of it, those of the range of `f32` by a shift, integers by a
//! conversion.

/// Loads of narrow weights: `$half` and `$byte` load a vector's worth of 16-bit and 8-bit elements.
macro_rules! narrow {
    ($lanes:literal, $half:ident, $byte:ident, $widen_half:ident, $widen_bits:ident, $shift:ident, $as_floats:ident,
     $widen_byte:ident, $to_floats:ident) => {
        #[inline(always)]
        fn load_f16(self, from: &[f16]) -> Self::Vector {
            // SAFETY: the token exists only where `Level` found the features; the slice holds a whole vector.
            unsafe {
                use std::arch::x86_64::*;
                $widen_half($half(from[..$lanes].as_ptr().cast()))
            }
        }
        #[inline(always)]
        fn load_bf16(self, from: &[bf16]) -> Self::Vector {
            // SAFETY: as above.
            unsafe {
                use std::arch::x86_64::*;
                $as_floats($shift::<16>($widen_bits($half(from[..$lanes].as_ptr().cast()))))
            }
        }
        #[inline(always)]
        fn load_i8(self, from: &[i8]) -> Self::Vector {
            // SAFETY: as above.
            unsafe {
                use std::arch::x86_64::*;
                $to_floats($widen_byte($byte(from[..$lanes].as_ptr().cast())))
            }
        }
    };
}

macro_rules! narrow_avx2 {
    ($lanes:literal) => {
        narrow!(
            $lanes,
            _mm_loadu_si128,
            _mm_loadl_epi64,
            _mm256_cvtph_ps,
            _mm256_cvtepu16_epi32,
            _mm256_slli_epi32,
            _mm256_castsi256_ps,
            _mm256_cvtepi8_epi32,
            _mm256_cvtepi32_ps
        );
    };
}

macro_rules! narrow_avx512 {
    ($lanes:literal) => {
        narrow!(
            $lanes,
            _mm256_loadu_si256,
            _mm_loadu_si128,
            _mm512_cvtph_ps,
            _mm512_cvtepu16_epi32,
            _mm512_slli_epi32,
            _mm512_castsi512_ps,
            _mm512_cvtepi8_epi32,
            _mm512_cvtepi32_ps
        );
    };
}
