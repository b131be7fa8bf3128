//! Products of 8-bit integers less their zero points, accumulated in 32 bits.
//!
//! Both sides are converted to f32 panels of at most [`PANEL_DEPTH`] terms and multiplied there: a difference is
//! at most 255 in size, so a sum of 256 products stays below 2²⁴ and every step is exact. The sums of panels are
//! added as i32, which wraps.

use super::RunContext;
use super::contraction::{BatchAxis, Contraction, cut_blocks, offsets, scratch_of, tail};
use super::gemm::{Blocks, Matrix, MatrixMut, multiply};
use super::number::{Number, dispatch};
use super::tiles::{Lanes, for_each_tile};
use crate::dtype::Element;
use crate::error::OpError;
use crate::tensor::TensorView;
use std::ops::Range;

/// Terms of an exact sum: 256 · 255² < 2²⁴.
pub(super) const PANEL_DEPTH: usize = 256;
/// Columns of a panel.
const PANEL_COLS: usize = 512;

/// An 8-bit integer.
pub(crate) trait Byte: Element + Number {
    /// As f32, exactly.
    fn wide(self) -> f32;
}

impl Byte for i8 {
    fn wide(self) -> f32 {
        self.into()
    }
}

impl Byte for u8 {
    fn wide(self) -> f32 {
        self.into()
    }
}

/// Per-row or per-column numbers of a batch of matrices: one for all, or a table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Along {
    /// Distance of the numbers of neighbouring rows (or columns); 0 where they share one.
    pub(crate) step: usize,
}

/// What becomes of each finished row: matrix, row, columns, sums, output.
pub(crate) type Store<'a, Y> = &'a (dyn Fn(usize, usize, Range<usize>, &[i32], &mut [Y]) + Sync);

/// A product of quantised matrices with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct IntegerProduct {
    pub(crate) product: Contraction,
    /// Where the zero points of a matrix of the batch lie, in both operands.
    pub(crate) zero_batch: Vec<BatchAxis>,
    pub(crate) rows: Along,
    pub(crate) cols: Along,
}

impl IntegerProduct {
    /// Positions of the zero points (and scales) of the first row and column of matrix `index`.
    pub(crate) fn zeros_at(&self, index: usize) -> (usize, usize) {
        offsets(&self.zero_batch, index)
    }

    fn block(&self) -> (usize, usize) {
        let Contraction { m, n, k, .. } = self.product;
        cut_blocks(self.product.matrices(), (m.min(PANEL_DEPTH), n.min(PANEL_COLS)), (m, n, k))
    }

    /// Elements of a thread's scratch memory: panels of both sides, their sums, and the sums in all.
    fn parts(&self) -> [usize; 4] {
        let (rows, cols) = self.block();
        let depth = self.product.k.min(PANEL_DEPTH);
        [rows * depth, depth * cols, rows * cols, rows * cols]
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        Lanes::bytes(self.parts().iter().sum::<usize>() * size_of::<f32>(), threads)
    }

    /// Multiplies; `zeros` are those of `a` and of `b`.
    pub(crate) fn run<A: Byte, B: Byte, Y: Element>(
        &self,
        context: RunContext<'_>,
        (a, b): (&[A], &[B]),
        zeros: (&[f32], &[f32]),
        (out, scratch): (&mut [Y], &mut [u8]),
        store: Store<'_, Y>,
    ) -> Result<(), OpError> {
        let Contraction { m, n, k, .. } = self.product;
        if out.is_empty() {
            return Ok(());
        }
        let work = out.len().saturating_mul(k);
        let parts = self.parts();
        let lanes = Lanes::new(scratch, parts.iter().sum::<usize>() * size_of::<f32>());
        let blocks = Blocks::new(out, (self.product.matrices(), m, n), self.block())?;
        for_each_tile(context, work, lanes, &blocks, &|_, mut block, scratch| {
            let (at_a, at_b) = offsets(&self.product.batch, block.batch);
            let (zero_a, zero_b) = self.zeros_at(block.batch);
            let a = Matrix::new(tail(a, at_a), (m, k), self.product.a)?.block(block.rows.clone(), 0..k);
            let b = Matrix::new(tail(b, at_b), (k, n), self.product.b)?.block(0..k, block.cols.clone());
            let zero = |i: usize| at(zeros.0, zero_a + (block.rows.start + i) * self.rows.step);
            let (rows, cols) = (block.out.rows(), block.out.cols());
            let scratch = scratch_of::<f32>(scratch, parts.iter().sum())?;
            let (panel_a, rest) = scratch.split_at_mut(parts[0]);
            let (panel_b, rest) = rest.split_at_mut(parts[1]);
            let (sums, totals) = rest.split_at_mut(parts[2]);
            let totals: &mut [i32] = &mut bytemuck::cast_slice_mut(totals)[..rows * cols];
            totals.fill(0);
            for from in (0..k).step_by(PANEL_DEPTH) {
                let many = (k - from).min(PANEL_DEPTH);
                let panel_a = &mut panel_a[..rows * many];
                for (i, line) in panel_a.chunks_exact_mut(many).enumerate() {
                    let zero = zero(i);
                    line.iter_mut().zip(a.row(i, from..from + many)).for_each(|(p, x)| *p = x.wide() - zero);
                }
                let panel_b = &mut panel_b[..many * cols];
                for (l, line) in panel_b.chunks_exact_mut(cols).enumerate() {
                    let row = b.row(from + l, 0..cols);
                    let first = zero_b + block.cols.start * self.cols.step;
                    if self.cols.step == 0 {
                        let zero = at(zeros.1, first);
                        line.iter_mut().zip(row).for_each(|(p, x)| *p = x.wide() - zero);
                    } else {
                        let zeros = tail(zeros.1, first);
                        line.iter_mut().zip(row).zip(zeros).for_each(|((p, x), zero)| *p = x.wide() - zero);
                    }
                }
                let (a, b) = (
                    Matrix::new(panel_a, (rows, many), (many, 1))?,
                    Matrix::new(panel_b, (many, cols), (cols, 1))?,
                );
                multiply(&mut MatrixMut::new(sums, rows, cols)?, a, b, false)?;
                add_exact(totals, sums);
            }
            for (i, totals) in totals.chunks_exact(cols).enumerate() {
                store(block.batch, block.rows.start + i, block.cols.clone(), totals, block.out.row(i));
            }
            Ok(())
        })
    }
}

/// Adds sums that are whole numbers.
pub(super) fn add_exact(totals: &mut [i32], sums: &[f32]) {
    totals.iter_mut().zip(sums).for_each(|(total, &sum)| *total = total.wrapping_add(sum as i32));
}

/// Zero point `index`; 0 where there is none.
pub(super) fn at(zeros: &[f32], index: usize) -> f32 {
    zeros.get(index).copied().unwrap_or(0.0)
}

/// The elements of an integer tensor as f32; nothing when it is absent.
pub(crate) fn load_zeros<'s>(from: Option<TensorView<'_>>, to: &'s mut [f32]) -> Result<&'s [f32], OpError> {
    let Some(from) = from else { return Ok(&[]) };
    let to = &mut to[..from.len()];
    dispatch!(from.dtype(), ints, T => {
        to.iter_mut().zip(from.elements::<T>()?).for_each(|(to, x)| *to = x.to_f64() as f32);
    Ok(to)
    })
}

/// `sum · factor` rounded to the nearest whole number, ties to even, plus `zero`, within [least, most].
pub(crate) fn requantise(sum: i64, factor: f64, zero: i64, (least, most): (i64, i64)) -> i64 {
    let scaled = (sum as f64 * factor).round_ties_even();
    (scaled as i64).saturating_add(zero).clamp(least, most)
}
