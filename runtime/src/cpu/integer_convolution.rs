//! Convolution of 8-bit integers less their zero points, accumulated in 32 bits: tiles of windows are gathered as
//! f32 panels, as in [`super::integer_product`], whose exactness argument holds here too. Padding counts as the
//! zero point, so it adds nothing.

use super::RunContext;
use super::contraction::scratch_of;
use super::convolution::Convolution;
use super::gemm::{Blocks, Matrix, MatrixMut, multiply};
use super::integer_product::{Byte, PANEL_DEPTH, Store, add_exact, at};
use super::tiles::{Lanes, for_each_tile};
use crate::dtype::Element;
use crate::error::OpError;

impl Convolution {
    /// Elements of a thread's scratch memory: weights, windows, their sums, and the sums in all.
    fn integer_parts(&self) -> [usize; 4] {
        let depth = self.depth().min(PANEL_DEPTH);
        let (rows, cols) = (self.block.0.min(self.filters), self.block.1.min(self.positions()));
        [rows * depth, depth * cols, rows * cols, rows * cols]
    }

    /// Scratch bytes of [`Convolution::run_integers`] for `threads` threads.
    pub(crate) fn integer_scratch(&self, threads: usize) -> usize {
        Lanes::bytes(self.integer_parts().iter().sum::<usize>() * size_of::<f32>(), threads)
    }

    /// Convolves `x − zero` with `w − w_zeros`, which holds one zero point, one per filter, or none; `store` gets
    /// filters as rows and positions as columns.
    pub(crate) fn run_integers<X: Byte, W: Byte, Y: Element>(
        &self,
        context: RunContext<'_>,
        (x, w): (&[X], &[W]),
        (zero, w_zeros): (f32, &[f32]),
        (out, scratch): (&mut [Y], &mut [u8]),
        store: Store<'_, Y>,
    ) -> Result<(), OpError> {
        if out.is_empty() {
            return Ok(());
        }
        let (depth, parts) = (self.depth(), self.integer_parts());
        let work = out.len().saturating_mul(depth);
        let lanes = Lanes::new(scratch, parts.iter().sum::<usize>() * size_of::<f32>());
        let image = self.channels * self.product(|s| s.input);
        let blocks =
            Blocks::new(out, (self.images * self.groups, self.filters, self.positions()), self.block)?;
        let w_zero = |filter: usize| at(w_zeros, if w_zeros.len() == 1 { 0 } else { filter });
        for_each_tile(context, work, lanes, &blocks, &|_, mut block, scratch| {
            let first = block.batch % self.groups * self.filters + block.rows.start;
            let x = &x[block.batch * image..][..image];
            let (rows, cols) = (block.out.rows(), block.out.cols());
            let scratch = scratch_of::<f32>(scratch, parts.iter().sum())?;
            let (weights, rest) = scratch.split_at_mut(parts[0]);
            let (windows, rest) = rest.split_at_mut(parts[1]);
            let (sums, totals) = rest.split_at_mut(parts[2]);
            let totals: &mut [i32] = &mut bytemuck::cast_slice_mut(totals)[..rows * cols];
            totals.fill(0);
            for from in (0..depth).step_by(PANEL_DEPTH) {
                let many = (depth - from).min(PANEL_DEPTH);
                let weights = &mut weights[..rows * many];
                for (i, line) in weights.chunks_exact_mut(many).enumerate() {
                    let zero = w_zero(first + i);
                    let w = &w[(first + i) * depth + from..][..many];
                    line.iter_mut().zip(w).for_each(|(p, w)| *p = w.wide() - zero);
                }
                let windows = &mut windows[..many * cols];
                for (k, line) in windows.chunks_exact_mut(cols).enumerate() {
                    let widen = |x: &[X], to: &mut [f32]| {
                        to.iter_mut().zip(x).for_each(|(to, x)| *to = x.wide() - zero);
                    };
                    self.gather(x, from + k, &block.cols, line, (widen, |x: X| x.wide() - zero));
                }
                let (w, x) = (
                    Matrix::new(weights, (rows, many), (many, 1))?,
                    Matrix::new(windows, (many, cols), (cols, 1))?,
                );
                multiply(&mut MatrixMut::new(sums, rows, cols)?, w, x, false)?;
                add_exact(totals, sums);
            }
            for (i, totals) in totals.chunks_exact(cols).enumerate() {
                store(block.batch, first + i, block.cols.clone(), totals, block.out.row(i));
            }
            Ok(())
        })
    }
}
