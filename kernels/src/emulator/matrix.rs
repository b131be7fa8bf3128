//! The matrix products of a warp, from the fragments of its 32 lanes; see `device::mma` for their layout.
//!
//! Products are exact and sums are kept in f64 and rounded once. A GPU sums in its own order and width, so that results
//! differ in the last bits of f32.

use super::warp::{Product, Words};
use half::{bf16, f16};

/// Words of A, B and C in what a lane brings.
const A: usize = 0;
const B: usize = 4;
const C: usize = 6;

/// The 16-bit element `half` of `word`.
pub(super) fn element(product: Product, word: u32, half: usize) -> f64 {
    let bits = (word >> (16 * half)) as u16;
    match product {
        Product::F16 => f16::from_bits(bits).to_f64(),
        _ => bf16::from_bits(bits).to_f64(),
    }
}

/// The factor that tf32 keeps of a binary32: 10 bits of the fraction.
fn tf32(word: u32) -> f64 {
    f64::from(f32::from_bits(word & 0xffff_e000))
}

/// Row `row`, column `column` of A.
fn a(product: Product, words: &[Words; 32], row: usize, column: usize) -> f64 {
    let group = row % 8;
    if product == Product::TF32 {
        return tf32(words[group * 4 + column % 4][A + row / 8 + 2 * (column / 4)]);
    }
    let lane = group * 4 + column % 8 / 2;
    element(product, words[lane][A + row / 8 + 2 * (column / 8)], column % 2)
}

/// Row `row`, column `column` of B.
fn b(product: Product, words: &[Words; 32], row: usize, column: usize) -> f64 {
    if product == Product::TF32 {
        return tf32(words[column * 4 + row % 4][B + row / 4]);
    }
    element(product, words[column * 4 + row % 8 / 2][B + row / 8], row % 2)
}

/// What each lane gets of `A · B + C`.
pub(super) fn multiply(product: Product, words: &[Words; 32]) -> [[u32; 4]; 32] {
    let depth = if product == Product::TF32 { 8 } else { 16 };
    let mut left = [[0.0; 16]; 16];
    let mut right = [[0.0; 16]; 8];
    for k in 0..depth {
        (0..16).for_each(|row| left[row][k] = a(product, words, row, k));
        (0..8).for_each(|column| right[column][k] = b(product, words, k, column));
    }
    let mut results = [[0; 4]; 32];
    for (lane, result) in results.iter_mut().enumerate() {
        for (i, word) in result.iter_mut().enumerate() {
            let (row, column) = (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2);
            let start = f64::from(f32::from_bits(words[lane][C + i]));
            let terms = left[row].iter().zip(&right[column]).take(depth);
            let sum = terms.fold(start, |sum, (x, y)| sum + x * y);
            *word = (sum as f32).to_bits();
        }
    }
    results
}

/// What each lane gets of the 8 × 8 matrices whose rows the lanes bring.
pub(super) fn distribute(words: &[Words; 32], transposed: bool) -> [[u32; 4]; 32] {
    let mut results = [[0; 4]; 32];
    for (lane, result) in results.iter_mut().enumerate() {
        let (group, member) = (lane / 4, lane % 4);
        for (matrix, word) in result.iter_mut().enumerate() {
            *word = if transposed {
                let half = |row: usize| words[8 * matrix + row][group / 2] >> (16 * (group % 2)) & 0xffff;
                half(2 * member) | half(2 * member + 1) << 16
            } else {
                words[8 * matrix + group][member]
            };
        }
    }
    results
}
