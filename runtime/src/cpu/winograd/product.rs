//! Blocks of filters by some lines of tiles: for each point the sum over the channels, then `Aᵀ · s · A`. A vector holds
//! neighbouring filters; the input's side is broadcast to them, so that each weight is read once for all tiles of a chunk.

use super::matrices::output;
use super::tiling::{MOST, Run, Tiling};
use crate::cpu::gemm::MatrixMut;
use crate::cpu::simd::{Lane, Level, Simd, Work, fetch};
use std::ops::Range;

/// Most outputs of a tile.
const OUTPUTS: usize = 16;
/// Lanes of the longest vector.
const LANES: usize = 16;
/// Most filters of a block.
const FILTERS: usize = 32;
/// Channels whose weights are fetched ahead of their use.
const AHEAD: usize = 32;

/// Vectors of filters of a block: with [`MOST`] tiles, what the registers hold.
const fn vectors_for(registers: usize) -> usize {
    if registers >= 32 { 2 } else { 1 }
}

struct Filters;

impl Work for Filters {
    type Element = f32;
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) -> usize {
        S::LANES * vectors_for(S::REGISTERS)
    }
}

/// Filters of a block on `level`.
pub(super) fn filters_of(level: Level) -> usize {
    f32::run(level, Filters)
}

/// Sums of a block of `filters` filters at most.
pub(super) fn most_sums(tiling: &Tiling, filters: usize) -> usize {
    tiling.block_chunks() * tiling.points() * tiling.slots() * filters
}

/// One block of output.
pub(super) struct Product<'a, 'o> {
    pub(super) tiling: &'a Tiling,
    pub(super) channels: usize,
    /// Of the block's filters: for each point, for each channel.
    pub(super) weights: &'a [f32],
    /// The transforms of the block's chunks.
    pub(super) points: &'a [f32],
    /// From the block's first filter on.
    pub(super) bias: Option<&'a [f32]>,
    /// The chunks of the block.
    pub(super) chunks: Range<usize>,
    /// The rows of `out` that are the block's filters.
    pub(super) rows: Range<usize>,
    /// The block's first position.
    pub(super) first: usize,
    pub(super) out: &'a mut MatrixMut<'o, f32>,
    /// [`most_sums`] elements: for each chunk, for each point, for each slot, those of the filters.
    pub(super) sums: &'a mut [f32],
}

impl Work for Product<'_, '_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        if const { vectors_for(S::REGISTERS) == 2 } {
            self.block::<S, 2>(simd);
        } else {
            self.block::<S, 1>(simd);
        }
    }
}

impl Product<'_, '_> {
    #[inline(always)]
    fn block<S: Simd<f32>, const R: usize>(mut self, simd: S) {
        let (filters, slots) = (R * S::LANES, self.tiling.slots());
        let (each, chunk_each) =
            (self.tiling.point_elements(self.channels), self.tiling.chunk_elements(self.channels));
        let points = self.tiling.points();
        for point in 0..points {
            let weights = &self.weights[point * self.channels * filters..];
            for index in 0..self.chunks.len() {
                let x = &self.points[index * chunk_each + point * each..][..self.channels * slots];
                let to = &mut self.sums[(index * points + point) * slots * filters..][..slots * filters];
                match slots {
                    2 => sum::<S, R, 2>(simd, weights, x, to),
                    4 => sum::<S, R, 4>(simd, weights, x, to),
                    6 => sum::<S, R, 6>(simd, weights, x, to),
                    8 => sum::<S, R, 8>(simd, weights, x, to),
                    10 => sum::<S, R, 10>(simd, weights, x, to),
                    12 => sum::<S, R, 12>(simd, weights, x, to),
                    _ => sum::<S, R, MOST>(simd, weights, x, to),
                }
            }
        }
        let mut bias = [0.0; FILTERS];
        if let Some(given) = self.bias {
            let count = self.rows.len().min(FILTERS);
            bias[..count].copy_from_slice(&given[..count]);
        }
        for (index, chunk) in self.chunks.clone().enumerate() {
            for run in (0..self.tiling.runs()).map(|run| self.tiling.run(chunk, run)) {
                for tile in 0..run.count {
                    for vector in 0..R {
                        let at = (index * points * slots + run.slot + tile) * filters + vector * S::LANES;
                        if self.tiling.size == 2 {
                            self.tile::<S, 4, 2>(
                                simd,
                                (at, slots * filters),
                                (vector * S::LANES, &bias),
                                (run, tile),
                            );
                        } else {
                            self.tile::<S, 6, 4>(
                                simd,
                                (at, slots * filters),
                                (vector * S::LANES, &bias),
                                (run, tile),
                            );
                        }
                    }
                }
            }
        }
    }

    /// Tile `tile` of `run` for the vector of filters from `filter` on, whose points are at `at` and every `step` from
    /// there.
    #[inline(always)]
    fn tile<S: Simd<f32>, const A: usize, const M: usize>(
        &mut self,
        simd: S,
        (at, step): (usize, usize),
        (filter, bias): (usize, &[f32; FILTERS]),
        (run, tile): (Run, usize),
    ) {
        let Tiling { height, width, .. } = *self.tiling;
        let (line, column) = (run.row * M, (run.first + tile) * M);
        let filters = S::LANES.min(self.rows.len().saturating_sub(filter));
        if line >= height || filters == 0 {
            return;
        }
        let mut half = [[simd.splat(0.0); A]; M];
        for column in 0..A {
            let mut s = [simd.splat(0.0); A];
            for (line, s) in s.iter_mut().enumerate() {
                *s = simd.load(&self.sums[at + (line * A + column) * step..]);
            }
            for (half, s) in half.iter_mut().zip(output::<S, A, M>(simd, s)) {
                half[column] = s;
            }
        }
        let bias = simd.load(&bias[filter..]);
        let mut values = [simd.splat(0.0); OUTPUTS];
        for (values, half) in values.chunks_exact_mut(M).zip(half) {
            for (to, value) in values.iter_mut().zip(output::<S, A, M>(simd, half)) {
                *to = simd.add(value, bias);
            }
        }
        let mut tiles = [[0.0; OUTPUTS]; LANES];
        simd.columns(&values, &mut tiles);
        let (lines, columns) = (M.min(height - line), M.min(width - column));
        let from = line * width + column - self.first;
        for (lane, tile) in tiles.iter().enumerate().take(filters) {
            let row = &mut self.out.row(self.rows.start + filter + lane)[from..];
            for (y, values) in tile.as_chunks::<M>().0.iter().enumerate().take(lines) {
                let to = &mut row[y * width..];
                match to.first_chunk_mut::<M>() {
                    Some(to) if columns == M => *to = *values,
                    _ => to[..columns].copy_from_slice(&values[..columns]),
                }
            }
        }
    }
}

/// `to = wᵀ · x` of `R` vectors of filters and `N` tiles.
#[inline(always)]
fn sum<S: Simd<f32>, const R: usize, const N: usize>(simd: S, w: &[f32], x: &[f32], to: &mut [f32]) {
    let mut sums = [[simd.splat(0.0); R]; N];
    let filters = R * S::LANES;
    for (at, (line, x)) in w.chunks_exact(filters).zip(x.as_chunks::<N>().0).enumerate() {
        if let Some(ahead) = w.get((at + AHEAD) * filters..(at + AHEAD + 1) * filters) {
            fetch(bytemuck::cast_slice(ahead));
        }
        let mut weights = [simd.splat(0.0); R];
        for (r, weight) in weights.iter_mut().enumerate() {
            *weight = simd.load(&line[r * S::LANES..]);
        }
        for (sums, &x) in sums.iter_mut().zip(x) {
            let x = simd.splat(x);
            for (sum, weight) in sums.iter_mut().zip(&weights) {
                *sum = simd.mul_add(*weight, x, *sum);
            }
        }
    }
    for (sums, to) in sums.iter().zip(to.chunks_exact_mut(filters)) {
        for (r, sum) in sums.iter().enumerate() {
            simd.store(*sum, &mut to[r * S::LANES..]);
        }
    }
}
