//! Floats as sums of three bf16: `x₀` is `x` rounded to the nearest, halves away from zero, `x₁` the first 8 significant bits
//! of what is left, `x₂` the rest, which has 8 at most.

use super::{Line, PARTS, SIDE, Unit};
use std::arch::asm;
use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmpge_epu32_mask, _mm512_loadu_ps, _mm512_max_epu32, _mm512_set1_epi32, _mm512_set4_epi32,
    _mm512_setzero_si512, _mm512_store_si512, _mm512_sub_ps,
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
    let left =
        |x: __m512, part: __m512i| _mm512_sub_ps(x, _mm512_castsi512_ps(_mm512_and_si512(part, upper)));
    let first = _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(HALF));
    let second = left(x, first);
    let third = left(second, _mm512_castps_si512(second));
    Split([first, _mm512_castps_si512(second), _mm512_castps_si512(third)])
}

/// The upper halves of the elements: of each place that of `low`, then that of `high`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pairs(low: __m512i, high: __m512i) -> __m512i {
    const LOWER: u64 = 0x3333_3333_3333_3333;
    let down = _mm512_set4_epi32(0x0f0e_0f0e, 0x0b0a_0b0a, 0x0706_0706, 0x0302_0302);
    let mut both = high;
    // SAFETY: no memory is touched, and the processor has the instruction. The compiler would make a permutation of two
    // vectors of it, which takes three times as long.
    unsafe {
        asm!("vpshufb {both}{{{lower}}}, {low}, {down}", both = inout(zmm_reg) both, lower = in(kreg) LOWER,
            low = in(zmm_reg) low, down = in(zmm_reg) down, options(pure, nomem, nostack, preserves_flags));
    }
    both
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

#[allow(clippy::unused_self, reason = "holding a unit is the proof that the processor has the features")]
impl Unit {
    /// Takes 32 lines of `W` columns apart, those of `low` and `high`, of the `groups` groups of 16 columns from `first`
    /// on: for each part, the smallest first, for each group, the lines of a tile. Lines that are not there are zero.
    pub(crate) fn split_columns<const W: usize>(
        self,
        lines: [&[[f32; W]]; 2],
        (first, groups): (usize, usize),
        to: &mut [Line],
    ) {
        match groups {
            // SAFETY: the token exists only where the processor has the features.
            1 => unsafe { split_columns::<W, 1>(lines, first, to) },
            // SAFETY: as above.
            2 => unsafe { split_columns::<W, 2>(lines, first, to) },
            _ => unreachable!("tiles are of one group of columns or two"),
        }
    }

    /// Takes 32 terms apart, those of `low` and `high`, into a line for each part. Tells whether parts stand for all of them.
    #[inline]
    pub(crate) fn split_line(self, [low, high]: [&[f32; SIDE]; 2], to: [&mut Line; PARTS]) -> bool {
        // SAFETY: the token exists only where the processor has the features.
        unsafe { split_line([low, high], to) }
    }

    /// Whether parts stand for all of `values`.
    pub(crate) fn stand_for(self, values: &[f32]) -> bool {
        // SAFETY: the token exists only where the processor has the features.
        unsafe { stand_for(values) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn stand_for(values: &[f32]) -> bool {
    let (vectors, rest) = values.as_chunks::<SIDE>();
    let largest = vectors.iter().fold(_mm512_setzero_si512(), |largest, x| larger(largest, load(x)));
    all_ordinary(largest) && rest.iter().all(|x| x.to_bits() << 1 < LIMIT as u32)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn split_line([low, high]: [&[f32; SIDE]; 2], to: [&mut Line; PARTS]) -> bool {
    let (low, high) = (load(low), load(high));
    let largest = larger(larger(_mm512_setzero_si512(), low), high);
    let (Split(low), Split(high)) = (split(low), split(high));
    for ((low, high), to) in low.into_iter().zip(high).zip(to) {
        store(pairs(low, high), to);
    }
    all_ordinary(largest)
}

/// The tiles of 32 lines and `G` groups of 16 columns from `first` on. Lines that are not there are zero.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn split_columns<const W: usize, const G: usize>(
    [low, high]: [&[[f32; W]]; 2],
    first: usize,
    to: &mut [Line],
) {
    let none = [0.0; W];
    for at in 0..SIDE {
        split_lines::<W, G>([low.get(at).unwrap_or(&none), high.get(at).unwrap_or(&none)], first, at, to);
    }
}

/// Line `at` of each tile, of two terms.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn split_lines<const W: usize, const G: usize>(
    [low, high]: [&[f32; W]; 2],
    first: usize,
    at: usize,
    to: &mut [Line],
) {
    let (low, high) = (low[first..].as_chunks().0, high[first..].as_chunks().0);
    let tiles = to.as_chunks_mut::<SIDE>().0;
    assert!(tiles.len() == PARTS * G && low.len() >= G && at < SIDE, "a tile of other columns");
    for group in 0..G {
        let (Split(low), Split(high)) = (split(load(&low[group])), split(load(&high[group])));
        for part in 0..PARTS {
            store(pairs(low[part], high[part]), &mut tiles[(PARTS - 1 - part) * G + group][at]);
        }
    }
}
