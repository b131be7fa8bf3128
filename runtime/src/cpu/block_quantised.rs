//! Products with weights of 2, 4 or 8 bits, quantised in blocks along the inner axis:
//! `y[i, j] = Σ_l a[i, l] · (q[j, l] − zero[j, g(l)]) · scale[j, g(l)] + bias[j]`, where `g(l)` is the block of `l`
//! or what a table says.
//!
//! The output is cut into blocks; for each, panels of at most [`DEPTH`] terms are unpacked to f32, multiplied and
//! added in f32, so that packed weights are read once per block of rows and never unpacked as a whole. Rows of
//! weights are neighbours in a panel: few rows of `a` become dot products along it.

use super::RunContext;
use super::contraction::{Panel, add_product, convert_block, cut_blocks, scratch_of, tail};
use super::gemm::{Blocks, Matrix, MatrixMut};
use super::number::Real;
use super::tiles::{Lanes, for_each_tile};
use crate::error::OpError;

/// Terms of a panel; a multiple of what a byte holds.
const DEPTH: usize = 256;
/// Largest block of the output.
const ROWS: usize = 256;
const COLS: usize = 128;

/// The sizes of a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockQuantised {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Bits of a weight: 2, 4 or 8.
    pub(crate) bits: usize,
    /// Weights that share a scale and a zero point; a multiple of 16.
    pub(crate) block: usize,
}

/// Where the zero points come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ZeroPoints<'a, T> {
    /// Half the range everywhere.
    Middle,
    /// Packed like the weights, each row from a byte of its own on.
    Packed(&'a [u8]),
    /// One element for each block.
    Plain(&'a [T]),
}

/// The weights as the model has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantisedWeights<'a, T> {
    /// `[n, blocks, block · bits / 8]`.
    pub(crate) packed: &'a [u8],
    /// `[n, blocks]`.
    pub(crate) scales: &'a [T],
    pub(crate) zeros: ZeroPoints<'a, T>,
    /// The block of each term, `[k]`, where it is not the one that it lies in.
    pub(crate) groups: Option<&'a [i32]>,
}

impl BlockQuantised {
    /// Blocks of a row of weights.
    pub(crate) fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Bytes of a block.
    pub(crate) fn blob(&self) -> usize {
        self.block / (8 / self.bits)
    }

    /// Bytes of a row of packed zero points.
    pub(crate) fn zero_bytes(&self) -> usize {
        self.blocks().div_ceil(8 / self.bits)
    }

    fn cut(&self) -> (usize, usize) {
        cut_blocks(1, (self.m.min(ROWS), self.n.min(COLS)), (self.m, self.n, self.k))
    }

    /// Elements of a thread's scratch memory: panels of both sides, and the sums.
    fn parts(&self) -> [usize; 3] {
        let (rows, cols) = self.cut();
        let depth = self.k.min(DEPTH);
        [rows * depth, depth * cols, rows * cols]
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        Lanes::bytes(self.parts().iter().sum::<usize>() * size_of::<f32>(), threads)
    }

    /// Multiplies.
    pub(crate) fn run<T: Panel + Real<Compute = f32>>(
        &self,
        context: RunContext<'_>,
        a: &[T],
        weights: QuantisedWeights<'_, T>,
        bias: Option<&[T]>,
        (out, scratch): (&mut [T], &mut [u8]),
    ) -> Result<(), OpError> {
        let &Self { m, n, k, .. } = self;
        if out.is_empty() {
            return Ok(());
        }
        if let Some(group) =
            weights.groups.and_then(|g| g.iter().find(|&&g| !(0..self.blocks() as i64).contains(&g.into())))
        {
            return Err(OpError::value(format!(
                "g_idx holds {group} where there are {} blocks",
                self.blocks()
            )));
        }
        let parts = self.parts();
        let lanes = Lanes::new(scratch, parts.iter().sum::<usize>() * size_of::<f32>());
        let blocks = Blocks::new(out, (1, m, n), self.cut())?;
        for_each_tile(
            context,
            m.saturating_mul(n).saturating_mul(k),
            lanes,
            &blocks,
            &|_, mut block, scratch| {
                let a = Matrix::new(a, (m, k), (k, 1))?.block(block.rows.clone(), 0..k);
                let (rows, cols) = (block.out.rows(), block.out.cols());
                let (panel_a, rest) = scratch_of::<f32>(scratch, parts.iter().sum())?.split_at_mut(parts[0]);
                let (panel_b, sums) = rest.split_at_mut(parts[1]);
                let mut sums = MatrixMut::new(sums, rows, cols)?;
                (0..rows).for_each(|i| sums.row(i).fill(0.0));
                for from in (0..k).step_by(DEPTH) {
                    let many = (k - from).min(DEPTH);
                    for (j, line) in panel_b.chunks_exact_mut(many).take(cols).enumerate() {
                        self.unpack(&weights, block.cols.start + j, from, line);
                    }
                    let b = Matrix::new(&panel_b[..many * cols], (many, cols), (1, many))?;
                    let a = convert_block(a.block(0..rows, from..from + many), panel_a)?;
                    add_product(&mut sums, a, b, true)?;
                }
                for i in 0..rows {
                    let bias = bias.map(|bias| tail(bias, block.cols.start));
                    for (j, (y, &sum)) in block.out.row(i).iter_mut().zip(&*sums.row(i)).enumerate() {
                        let bias = bias.and_then(|bias| bias.get(j)).map_or(0.0, |b| b.load());
                        *y = T::store(sum + bias);
                    }
                }
                Ok(())
            },
        )
    }

    /// The weights of row `j` from term `from` on, a multiple of [`DEPTH`], as f32.
    fn unpack<T: Real<Compute = f32>>(
        &self,
        weights: &QuantisedWeights<'_, T>,
        j: usize,
        from: usize,
        to: &mut [f32],
    ) {
        let (blocks, blob) = (self.blocks(), self.blob());
        let row = tail(weights.packed, j * blocks * blob);
        // Blocks follow each other without gaps, so a row of weights is one run of bits.
        let bytes = tail(row, from * self.bits / 8);
        match self.bits {
            2 => unpack_bits::<2>(bytes, to),
            4 => unpack_bits::<4>(bytes, to),
            _ => unpack_bits::<8>(bytes, to),
        }
        let scale_and_zero = |group: usize| {
            let scale = weights.scales.get(j * blocks + group).map_or(0.0, |s| s.load());
            let zero = match weights.zeros {
                ZeroPoints::Middle => (1usize << (self.bits - 1)) as f32,
                ZeroPoints::Plain(zeros) => zeros.get(j * blocks + group).map_or(0.0, |z| z.load()),
                ZeroPoints::Packed(zeros) => {
                    let per_byte = 8 / self.bits;
                    let byte = zeros.get(j * self.zero_bytes() + group / per_byte).copied().unwrap_or(0);
                    let mask = (1u32 << self.bits) - 1;
                    ((u32::from(byte) >> (group % per_byte * self.bits)) & mask) as f32
                }
            };
            (scale, zero)
        };
        if let Some(groups) = weights.groups {
            for (w, &group) in to.iter_mut().zip(tail(groups, from)) {
                let (scale, zero) = scale_and_zero(usize::try_from(group).unwrap_or(0));
                *w = (*w - zero) * scale;
            }
            return;
        }
        let mut at = from;
        let mut rest = to;
        while !rest.is_empty() {
            let group = at / self.block;
            let many = ((group + 1) * self.block - at).min(rest.len());
            let (part, after) = rest.split_at_mut(many);
            let (scale, zero) = scale_and_zero(group);
            part.iter_mut().for_each(|w| *w = (*w - zero) * scale);
            (rest, at) = (after, at + many);
        }
    }
}

/// Numbers of `BITS` bits each, the first in the lowest bits of a byte.
fn unpack_bits<const BITS: usize>(bytes: &[u8], to: &mut [f32]) {
    let mask = ((1u32 << BITS) - 1) as u8;
    for (few, &byte) in to.chunks_mut(8 / BITS).zip(bytes) {
        for (i, w) in few.iter_mut().enumerate() {
            *w = f32::from((byte >> (i * BITS)) & mask);
        }
    }
}
