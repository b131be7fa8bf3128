//! Matrix products of a warp: `D = A · B + C` with the fragments of PTX's `mma.sync`.
//!
//! Lane `l` has `group = l / 4` and `member = l % 4`. Packed 16-bit elements have the lower column (A) or row (B) in the
//! lower half. Fragments of `m16n8k16`:
//!
//! | fragment | element |
//! |---|---|
//! | `a[0]` | rows `group`, columns `2·member + {0, 1}` |
//! | `a[1]` | rows `group + 8`, the same columns |
//! | `a[2]`, `a[3]` | as `a[0]`, `a[1]`, columns + 8 |
//! | `b[0]`, `b[1]` | rows `2·member + {0, 1}` (+ 8 for `b[1]`), column `group` |
//! | `c[0]`, `c[1]` | row `group`, columns `2·member + {0, 1}` |
//! | `c[2]`, `c[3]` | row `group + 8`, the same columns |
//!
//! `m16n8k8` of tf32 has one 32-bit element each: `a[0]` row `group`, column `member`; `a[1]` row + 8; `a[2]`, `a[3]`
//! column + 4; `b[0]` row `member`, column `group`; `b[1]` row + 4.

use super::Shared;
use super::implementation as imp;

/// 16 × 8 × 16, f16 factors, f32 sums.
#[inline(always)]
#[track_caller]
pub fn m16n8k16_f16(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    imp::matrix::m16n8k16_f16(a, b, c)
}

/// 16 × 8 × 16, bf16 factors, f32 sums.
#[inline(always)]
#[track_caller]
pub fn m16n8k16_bf16(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    imp::matrix::m16n8k16_bf16(a, b, c)
}

/// 16 × 8 × 8, factors binary32 of which the upper 19 bits count, f32 sums.
#[inline(always)]
#[track_caller]
pub fn m16n8k8_tf32(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    imp::matrix::m16n8k8_tf32(a, b, c)
}

/// The tf32 nearest to a binary32, halves away from zero: 10 bits of the fraction, the other 13 are 0. What is beyond the
/// largest is infinite. Compute capability 8.0.
#[inline(always)]
pub fn to_tf32(value: u32) -> u32 {
    imp::matrix::to_tf32(value)
}

/// `ldmatrix`: `N` (1, 2 or 4) matrices of 8 × 8 16-bit elements. Lane `8·i + r` names row `r` of matrix `i`, 16 bytes
/// aligned to 16; word `i` of lane `l` has row `l / 4`, columns `2·(l % 4) + {0, 1}` of matrix `i`.
#[inline(always)]
#[track_caller]
pub fn load_matrices<const N: usize>(row: Shared<u16>) -> [u32; N] {
    imp::matrix::load_matrices::<N>(row.place(0), false)
}

/// The same of the transposed matrices.
#[inline(always)]
#[track_caller]
pub fn load_matrices_transposed<const N: usize>(row: Shared<u16>) -> [u32; N] {
    imp::matrix::load_matrices::<N>(row.place(0), true)
}
