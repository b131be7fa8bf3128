//! Floats as sums of three bf16: `x₀` is `x` rounded to the nearest, halves away from zero, `x₁` so what is left, `x₂` what
//! is left then, which has 8 significant bits at most.

use super::{DEPTH, Line, PARTS, SIDE, Unit};
use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmpge_epu32_mask, _mm512_load_si512, _mm512_loadu_ps, _mm512_max_epu32, _mm512_permutex2var_epi16,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi32, _mm512_store_si512, _mm512_sub_ps,
    _mm512_ternarylogic_epi32,
};

/// Bits of 2⁶⁰, without the sign's place: floats from here on are not taken apart.
const LIMIT: i32 = (127 + 60) << 24;
/// Half a unit of a bf16, as bits of the float that it is the upper half of.
const HALF: i32 = 0x8000;
/// The bits of the upper half.
const UPPER: i32 = 0xffff_0000_u32 as i32;

/// A vector in parts, each in the upper halves of its elements, the lower ones anything.
struct Split([__m512i; PARTS]);

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn split(x: __m512) -> Split {
    let upper = _mm512_set1_epi32(UPPER);
    let rounded = |x: __m512| _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(HALF));
    let left =
        |x: __m512, part: __m512i| _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(part, upper)));
    let first = rounded(x);
    let x = left(x, first);
    let second = rounded(x);
    Split([first, second, _mm512_castps_si512(left(x, second))])
}

/// The larger of the elements' sizes, as bits that are shifted by one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn larger(largest: __m512i, x: __m512) -> __m512i {
    let bits = _mm512_castps_si512(x);
    _mm512_max_epu32(largest, _mm512_add_epi32(bits, bits))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn all_ordinary(largest: __m512i) -> bool {
    _mm512_cmpge_epu32_mask(largest, _mm512_set1_epi32(LIMIT)) == 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(from: &[f32; SIDE]) -> __m512 {
    // SAFETY: the array is a whole vector.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(value: __m512i, to: &mut Line) {
    // SAFETY: a line is a whole vector, and aligned to one.
    unsafe { _mm512_store_si512(std::ptr::from_mut(to).cast(), value) }
}

/// Positions of the upper halves of two vectors' elements.
const UPPER_HALVES: Line = {
    let mut halves = [0; DEPTH];
    let mut i = 0;
    while i < DEPTH {
        halves[i] = 2 * i as u16 + 1;
        i += 1;
    }
    Line(halves)
};

#[allow(clippy::unused_self, reason = "holding a unit is the proof that the processor has the features")]
impl Unit {
    /// Takes 32 lines of `W` columns apart, those of `low` and `high`, of the `groups` groups of 16 columns from `first`
    /// on: for each part, the smallest first, for each group, the lines of a tile. Lines that are not there are zero. Tells whether parts
    /// stand for all of them.
    pub(crate) fn split_columns<const W: usize>(
        self,
        lines: [&[[f32; W]]; 2],
        (first, groups): (usize, usize),
        to: &mut [Line],
    ) -> bool {
        // SAFETY: the token exists only where the processor has the features.
        unsafe { split_columns(lines, (first, groups), to) }
    }

    /// Takes 32 terms apart, those of `low` and `high`, into a line for each part.
    #[inline]
    pub(crate) fn split_line(self, [low, high]: [&[f32; SIDE]; 2], to: [&mut Line; PARTS]) -> bool {
        // SAFETY: the token exists only where the processor has the features.
        unsafe { split_line([low, high], to) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn split_line([low, high]: [&[f32; SIDE]; 2], to: [&mut Line; PARTS]) -> bool {
    // SAFETY: a line is a whole vector, and aligned to one.
    let halves = unsafe { _mm512_load_si512(std::ptr::from_ref(&UPPER_HALVES).cast()) };
    let (low, high) = (load(low), load(high));
    let largest = larger(larger(_mm512_setzero_si512(), low), high);
    let (Split(low), Split(high)) = (split(low), split(high));
    for ((low, high), to) in low.into_iter().zip(high).zip(to) {
        store(_mm512_permutex2var_epi16(low, halves, high), to);
    }
    all_ordinary(largest)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn split_columns<const W: usize>(
    halves: [&[[f32; W]]; 2],
    (first, groups): (usize, usize),
    to: &mut [Line],
) -> bool {
    let mut largest = _mm512_setzero_si512();
    let upper = _mm512_set1_epi32(UPPER);
    let none = [0.0; W];
    for (half, lines) in halves.into_iter().enumerate() {
        for pair in 0..SIDE / 2 {
            let [even, odd] = [2 * pair, 2 * pair + 1].map(|at| &lines.get(at).unwrap_or(&none)[first..]);
            for (group, (even, odd)) in
                even.as_chunks().0.iter().zip(odd.as_chunks().0).take(groups).enumerate()
            {
                let (even, odd) = (load(even), load(odd));
                largest = larger(larger(largest, even), odd);
                let (Split(even), Split(odd)) = (split(even), split(odd));
                for (part, (even, odd)) in even.into_iter().zip(odd).enumerate() {
                    // The first term in the lower half: a | (b & c).
                    let made = _mm512_ternarylogic_epi32::<0xf8>(_mm512_srli_epi32::<16>(even), odd, upper);
                    store(
                        made,
                        &mut to[((PARTS - 1 - part) * groups + group) * SIDE + half * SIDE / 2 + pair],
                    );
                }
            }
        }
    }
    all_ordinary(largest)
}
