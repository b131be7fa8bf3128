//! Convolution by windows of one element in f32: `y[f, p] = b[f] + Σ_c w[f, c] · x[c, p]`, a product of constant weights.
//!
//! The weights lie in panels of neighbouring filters ([`PanelMatrix`]); the positions are the rows of the product. A group
//! of them is read off the input as the product reads rows, neighbouring positions side by side, and its sums are turned
//! when they are written, so that no vector is computed for positions that are none. The order of every sum is that of
//! the channels.

#![allow(
    clippy::inline_always,
    reason = "vector code has to be inlined into the shell of its instruction set, or it runs without it"
)]

use super::Kernel;
use super::RunContext;
use super::contraction::scratch_of;
use super::gemm::{Blocks, MatrixMut};
use super::panel_matrix::{self, PanelMatrix, WIDTH};
use super::panels::{GROUP, Group, SIDE, sweep_turned};
use super::row_epilogue::{Finish, RowEpilogue};
use super::simd::{Lane, Level, Simd, Work};
use super::tiles::{Lanes, for_each_tile};
use crate::Tensor;
use crate::error::OpError;
use crate::graph::fact::TensorFact;
use crate::ops::{PackSite, Packed};
use std::ops::Range;
use std::sync::Arc;

/// Blocks of output for each thread where there are several, and the filters of one at least: positions are read for each
/// block.
const BLOCKS: usize = 4;
const LEAST_FILTERS: usize = 2 * WIDTH;
/// Groups of positions of a block, and parts that many positions are cut into.
const GROUPS: usize = 4;
const PARTS: usize = 16;
/// Positions for which this is worth while: with fewer, weights are read for little; of more, there are few channels, and
/// turning what is written takes as long as some of them.
const WORTH_WHILE: Range<usize> = 8..513;

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct PointwiseConvolution {
    images: usize,
    channels: usize,
    filters: usize,
    positions: usize,
    /// Filters and positions of a block.
    block: (usize, usize),
}

/// Packs `weights`, `[filters, channels, 1, …]`, input 1 of a convolution of `x`; `None` where they are better read as they
/// lie.
pub(crate) fn pack(site: &PackSite<'_>, x: &TensorFact, weights: &Tensor) -> Result<Option<Packed>, OpError> {
    let positions =
        || x.shape.as_deref()?.iter().skip(2).try_fold(1usize, |n, dim| n.checked_mul(dim.known()?));
    let &[filters, channels, ..] = weights.shape() else { return Ok(None) };
    let worth_while = positions().is_some_and(|n| WORTH_WHILE.contains(&n));
    if !worth_while || !panel_matrix::suits(filters) {
        return Ok(None);
    }
    let form = (filters, channels, true);
    let packed = panel_matrix::pack(weights.view().bytes(), form, site.budget, site.release)?;
    Ok(Some(Packed { data: Arc::new(packed), consumed: vec![1] }))
}

impl PointwiseConvolution {
    /// `channels` input and `filters` output channels at `positions` positions, for `threads` threads. No sum depends on how
    /// many there are.
    pub(crate) fn new(
        images: usize,
        (channels, filters): (usize, usize),
        positions: usize,
        threads: usize,
    ) -> Self {
        let parts = (positions / (GROUPS * GROUP)).clamp(1, PARTS);
        let cols = positions.div_ceil(parts).next_multiple_of(GROUP);
        let blocks = |rows: usize| {
            images.saturating_mul(positions.div_ceil(cols)).saturating_mul(filters.div_ceil(rows))
        };
        let mut rows = filters.max(1).next_multiple_of(WIDTH);
        let wanted = if threads > 1 { BLOCKS.saturating_mul(threads) } else { 1 };
        while rows > LEAST_FILTERS && blocks(rows) < wanted {
            rows = (rows / 2).next_multiple_of(WIDTH);
        }
        Self { images, channels, filters, positions, block: (rows, cols) }
    }

    /// Elements of a group's positions of all channels.
    fn turned(&self) -> usize {
        GROUP.saturating_mul(self.channels).saturating_add(SIDE)
    }

    fn lane(&self) -> usize {
        self.turned().saturating_mul(size_of::<f32>())
    }

    /// Scratch bytes for `threads` threads.
    fn scratch(&self, threads: usize) -> usize {
        Lanes::bytes(self.lane(), threads)
    }

    /// The kernel of a convolution with inputs x, w and, where it is `biased`, a bias.
    pub(crate) fn kernel(
        self,
        weights: Arc<PanelMatrix>,
        biased: bool,
        epilogue: Option<Arc<RowEpilogue>>,
        threads: usize,
    ) -> Kernel {
        let scratch = self.scratch(threads);
        let kernel = Kernel::new(move |io| {
            let bias = if biased { Some(io.input::<f32>(2)?) } else { None };
            let operands = (io.input::<f32>(0)?, &*weights, bias);
            let finish = Finish::bind(epilogue.as_deref(), io)?;
            self.run(io.context, operands, io.output_and_scratch(0)?, &finish)
        });
        kernel.with_scratch(scratch)
    }

    /// `out = x ∗ w + bias`, passed through `finish`, whose rows are the channels of all images.
    fn run(
        &self,
        context: RunContext<'_>,
        (x, weights, bias): (&[f32], &PanelMatrix, Option<&[f32]>),
        (out, scratch): (&mut [f32], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let &Self { images, channels, filters, positions, block } = self;
        let image = channels * positions;
        if x.len() != images * image || out.len() != images * filters * positions {
            return Err(OpError::internal("a convolution's operands have other sizes than it was bound for"));
        }
        let (work, lanes) = (out.len().saturating_mul(channels), Lanes::new(scratch, self.lane()));
        let (blocks, level) = (Blocks::new(out, (images, filters, positions), block)?, Level::detect());
        for_each_tile(context, work, lanes, &blocks, &|_, mut block, scratch| {
            let turned = scratch_of::<f32>(scratch, self.turned())?;
            let x = &x[block.batch * image..][..image];
            let range = block.rows.start / WIDTH..block.rows.end.div_ceil(WIDTH);
            let (panels, depth) = weights.panels(range.clone());
            let bias = bias.map(|bias| &bias[block.rows.clone()]);
            for from in block.cols.clone().step_by(GROUP) {
                let to = block.cols.end.min(from + GROUP);
                self.gather(x, from..to, turned);
                let at = from - block.cols.start;
                let mut group = Positions { level, bias, at, out: &mut block.out };
                sweep_turned(level, (panels, depth, range.len()), (to - from, turned), &mut group);
            }
            let row = block.batch * filters + block.rows.start;
            finish.apply_block(row, block.cols.start, &mut block.out)
        })
    }

    /// Brings the elements of all channels at `positions` into `turned`: for each [`SIDE`] of them, for each channel.
    fn gather(&self, x: &[f32], positions: Range<usize>, turned: &mut [f32]) {
        let sides = turned.chunks_exact_mut((SIDE * self.channels).max(1));
        for (side, to) in positions.clone().step_by(SIDE).zip(sides) {
            let count = SIDE.min(positions.end - side);
            for (to, channel) in to.as_chunks_mut::<SIDE>().0.iter_mut().zip(x.chunks_exact(self.positions)) {
                let from = &channel[side..];
                match from.first_chunk::<SIDE>() {
                    // Positions behind the last one are not read.
                    Some(from) => *to = *from,
                    None => to[..count].copy_from_slice(&from[..count]),
                }
            }
        }
    }
}

/// The sums of a group of positions.
struct Positions<'s, 'o> {
    level: Level,
    /// From the block's first filter on.
    bias: Option<&'s [f32]>,
    /// The group's first position, counted from that of the block.
    at: usize,
    out: &'s mut MatrixMut<'o, f32>,
}

impl Group<f32, WIDTH> for Positions<'_, '_> {
    fn start(&self, index: usize, sums: &mut [[f32; WIDTH]]) {
        let mut line = [0.0; WIDTH];
        if let Some(bias) = self.bias {
            let bias = &bias[index * WIDTH..];
            let count = bias.len().min(WIDTH);
            line[..count].copy_from_slice(&bias[..count]);
        }
        sums.fill(line);
    }

    fn finish(&mut self, index: usize, sums: &mut [[f32; WIDTH]]) {
        let Self { level, at, ref mut out, .. } = *self;
        f32::run(level, Write { sums, first: index * WIDTH, at, out });
    }
}

/// Writes `sums`, a row for each position from `at` on, into the rows of `out` from `first` on.
struct Write<'s, 'o> {
    sums: &'s [[f32; WIDTH]],
    first: usize,
    at: usize,
    out: &'s mut MatrixMut<'o, f32>,
}

impl Work for Write<'_, '_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        let Self { sums, first, at, out } = self;
        let filters = WIDTH.min(out.rows() - first);
        let mut turned = [[0.0; SIDE]; SIDE];
        for (side, sums) in sums.chunks(SIDE).enumerate() {
            let at = at + side * SIDE;
            for from in (0..filters).step_by(S::LANES) {
                let mut rows = [simd.splat(0.0); SIDE];
                for (row, sums) in rows.iter_mut().zip(sums) {
                    *row = simd.load(&sums[from..]);
                }
                simd.columns(&rows, &mut turned);
                for (lane, values) in turned.iter().enumerate().take(S::LANES.min(filters - from)) {
                    let to = &mut out.row(first + from + lane)[at..];
                    match to.first_chunk_mut::<SIDE>() {
                        Some(to) if sums.len() == SIDE => *to = *values,
                        _ => to[..sums.len()].copy_from_slice(&values[..sums.len()]),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::panel_matrix::pack;
    use crate::exec::{Interrupt, Team};
    use crate::memory::Budget;
    use crate::testing::Gen;

    #[test]
    fn equals_the_sum_of_the_specification() {
        let (interrupt, budget) = (Interrupt::default(), Budget::unlimited());
        let team = Team::new(2, false);
        let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
        let mut g = Gen::new(23);
        for seed in 0..60 {
            let (images, channels, filters) = (g.size(1, 2), g.size(1, 280), g.size(1, 200));
            let positions = g.size(1, 170);
            let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| g.float(-1.0, 1.0) as f32).collect() };
            let (x, w) = (draw(images * channels * positions), draw(filters * channels));
            let bias = draw(filters);
            let bias = (seed % 3 > 0).then_some(&bias[..]);
            let packed = pack(bytemuck::cast_slice(&w), (filters, channels, true), &budget, &|_| ());
            let packed = packed.expect("room");
            let mut out = vec![f32::NAN; images * filters * positions];
            let convolution = PointwiseConvolution::new(images, (channels, filters), positions, g.size(1, 2));
            let mut scratch = vec![f64::NAN; convolution.scratch(2).div_ceil(8) + 8];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut scratch);
            let aligned = bytes.as_ptr().align_offset(64);
            let memory = (&mut out[..], &mut bytes[aligned..]);
            convolution.run(context, (&x, &packed, bias), memory, &Finish::nothing()).expect("runs");
            for (flat, got) in out.iter().enumerate() {
                let (image, rest) = (flat / (filters * positions), flat % (filters * positions));
                let (filter, position) = (rest / positions, rest % positions);
                let terms = || {
                    (0..channels).map(|c| {
                        let x = x[(image * channels + c) * positions + position];
                        f64::from(x) * f64::from(w[filter * channels + c])
                    })
                };
                let bias = bias.map_or(0.0, |bias| f64::from(bias[filter]));
                let (sum, size) =
                    (bias + terms().sum::<f64>(), bias.abs() + terms().map(f64::abs).sum::<f64>());
                let bound = (channels + 2) as f64 * f64::from(f32::EPSILON) * size;
                assert!((f64::from(*got) - sum).abs() <= bound, "seed {seed}, {flat}: {got} for {sum}");
            }
        }
    }
}
