//! Blocks by one row, with AVX-512 and its permutation of bytes (VBMI): one permutation brings the three bytes of each
//! weight to the top of its lane and the byte of its code to the bottom, and two shifts and a selection make a float of them.
//!
//! Six operations for sixteen weights, and the multiply–add: 55 GB/s from the second cache, twice what a core takes from
//! memory. Loads cross lines, which the processor's own fetching ahead takes badly beyond some 50 MB (13 to 23 GB/s of 29);
//! lines are asked for some KiB ahead of their use.

use super::{ApartOf, BLOCK, CHAINS, LANES, SLACK};
use crate::cpu::caches::shared_among_neighbours;
use std::arch::x86_64::{
    __m512, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask3_fmadd_ps, _mm512_mul_ps,
    _mm512_permutexvar_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_sllv_epi32,
    _mm512_srai_epi32, _mm512_storeu_ps, _mm512_ternarylogic_epi32,
};

/// Where the exponent's codes belong.
const CODE: i32 = 0x0780_0000;
/// All bits of a float but the exponent's upper four.
const KEPT: i32 = 0x87ff_ffff_u32.cast_signed();

/// Proof that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoder {
    /// Bytes between what is read and what is asked for.
    ahead: usize,
}

/// For each lane the byte of its code, which is to be the lowest, and its three bytes.
const BYTES: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut lane = 0;
    while lane < LANES {
        bytes[4 * lane] = (3 * LANES + lane % 8) as u8;
        let mut byte = 0;
        while byte < 3 {
            bytes[4 * lane + 1 + byte] = (3 * lane + byte) as u8;
            byte += 1;
        }
        lane += 1;
    }
    bytes
};

/// For each lane how far its code is shifted.
const SHIFTS: [i32; LANES] = {
    let mut shifts = [23; LANES];
    let mut lane = 8;
    while lane < LANES {
        shifts[lane] = 19;
        lane += 1;
    }
    shifts
};

impl Decoder {
    /// Whether this processor has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        let found = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512vbmi");
        // Nearer ones come too late where a last cache of a few cores gives most of them: 5 to 14 %.
        let ahead = if shared_among_neighbours().is_some() { 8 << 10 } else { 4 << 10 };
        found.then_some(Self { ahead })
    }

    /// `sums += Σ_k operand[k] · (factor · blocks[k] + apart[k])`; the first lines of `next` are asked for behind the last
    /// ones of `blocks`.
    pub(super) fn add<const W: usize>(
        self,
        [blocks, next]: [&[u8]; 2],
        factor: f32,
        (operand, apart): (&[f32], ApartOf<'_>),
        sums: &mut [f32; W],
    ) {
        assert!(blocks.len() >= operand.len() * (W / LANES * BLOCK) + SLACK, "a panel of another depth");
        let sums = sums.as_chunks_mut().0;
        match W {
            // SAFETY: the token exists only where the instructions were found; the blocks are there as asserted.
            64 => unsafe { add::<64, 4>([blocks, next], self.ahead, factor, (operand, apart), sums) },
            // SAFETY: as above.
            48 => unsafe { add::<48, 3>([blocks, next], self.ahead, factor, (operand, apart), sums) },
            _ => unreachable!("panels of recurrences have 48 or 64 columns"),
        }
    }
}

/// # Safety
///
/// `blocks` has `N` blocks, which are `W` weights, for each of `operand`, and [`SLACK`] bytes behind them.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
unsafe fn add<const W: usize, const N: usize>(
    [blocks, next]: [&[u8]; 2],
    ahead: usize,
    factor: f32,
    (operand, apart): (&[f32], ApartOf<'_>),
    sums: &mut [[f32; LANES]],
) {
    let (factor, line) = (_mm512_set1_ps(factor), N * BLOCK);
    let mut acc = [[_mm512_setzero_ps(); N]; CHAINS];
    for (acc, sums) in acc[0].iter_mut().zip(&*sums) {
        // SAFETY: a vector is read from an array of as many elements.
        *acc = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
    }
    let (pairs, last) = operand.as_chunks::<CHAINS>();
    // Behind what can be asked for of these blocks come those of the next panel.
    let turn = (operand.len() * line).saturating_sub(ahead) / (CHAINS * line);
    let asked = [blocks.as_ptr().wrapping_add(ahead), next.as_ptr().wrapping_sub(turn * CHAINS * line)];
    let (mut done, mut taken) = (0, 0);
    while done < pairs.len() {
        let stop =
            apart.get::<W>(taken).map_or(pairs.len(), |(line, ..)| (line / CHAINS + 1).min(pairs.len()));
        for (range, asked) in [done..stop.min(turn), done.max(turn)..stop].into_iter().zip(asked) {
            for pair in range {
                for (chain, (acc, x)) in acc.iter_mut().zip(&pairs[pair]).enumerate() {
                    let at = (pair * CHAINS + chain) * line;
                    // SAFETY: the line is one of the operand's.
                    unsafe { add_line(&blocks[at..], asked.wrapping_add(at), (*x, factor), acc) }
                }
            }
        }
        done = stop;
        while let Some((line, column, weight)) =
            apart.get::<W>(taken).filter(|(line, ..)| *line < done * CHAINS)
        {
            add_one(&mut acc, (line % CHAINS, column), (operand[line], weight));
            taken += 1;
        }
    }
    for x in last {
        // SAFETY: the line is one of the operand's.
        unsafe { add_line(&blocks[pairs.len() * CHAINS * line..], next.as_ptr(), (*x, factor), &mut acc[0]) }
    }
    while let Some((line, column, weight)) = apart.get::<W>(taken) {
        add_one(&mut acc, (line % CHAINS, column), (operand[line], weight));
        taken += 1;
    }
    let [even, odd] = acc;
    for (sums, (even, odd)) in sums.iter_mut().zip(even.into_iter().zip(odd)) {
        // SAFETY: a vector is written to an array of as many elements.
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), _mm512_add_ps(even, odd)) }
    }
}

/// `acc[chain][column] += x · weight`, without looking for the vector that has the column.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
#[inline]
fn add_one<const N: usize>(
    acc: &mut [[__m512; N]; CHAINS],
    (chain, column): (usize, usize),
    (x, weight): (f32, f32),
) {
    let (x, weight) = (_mm512_set1_ps(x), _mm512_set1_ps(weight));
    for (index, acc) in acc.iter_mut().enumerate() {
        let lanes = u64::from(index == chain) << column;
        for (v, acc) in acc.iter_mut().enumerate() {
            *acc = _mm512_mask3_fmadd_ps(x, weight, *acc, (lanes >> (v * LANES)) as u16);
        }
    }
}

/// # Safety
///
/// `blocks` has `N` blocks and [`SLACK`] bytes behind them; `asked` is asked for.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
#[inline]
unsafe fn add_line<const N: usize>(
    blocks: &[u8],
    asked: *const u8,
    (x, factor): (f32, __m512),
    acc: &mut [__m512; N],
) {
    // SAFETY: a vector is read from arrays of as many bytes.
    let (bytes, shifts): (__m512i, __m512i) =
        unsafe { (_mm512_loadu_si512(BYTES.as_ptr().cast()), _mm512_loadu_si512(SHIFTS.as_ptr().cast())) };
    let x = _mm512_mul_ps(_mm512_set1_ps(x), factor);
    for (v, acc) in acc.iter_mut().enumerate() {
        _mm_prefetch::<_MM_HINT_T0>(asked.wrapping_add(v * BLOCK).cast());
        // SAFETY: 64 bytes are there from every block on, as the caller has it.
        let block = unsafe { _mm512_loadu_si512(blocks.as_ptr().wrapping_add(v * BLOCK).cast()) };
        let lanes = _mm512_permutexvar_epi8(bytes, block);
        // The sign fills the exponent, where the code is put and the rest made zero.
        let signed = _mm512_srai_epi32::<8>(lanes);
        let codes = _mm512_sllv_epi32(lanes, shifts);
        let weights = _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi32(CODE), codes, signed);
        let weights = _mm512_and_si512(weights, _mm512_set1_epi32(KEPT));
        *acc = _mm512_fmadd_ps(x, _mm512_castsi512_ps(weights), *acc);
    }
}
