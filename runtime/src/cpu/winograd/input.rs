//! The input's side of the products, `Bᵀ · x · B`, for the tiles of a chunk: a vector holds neighbouring tiles of a line.
//!
//! The lines of a run are taken apart by the remainder of the position over the size of a tile, so that neighbouring tiles
//! read neighbouring elements; that and the transform stay in the first cache.

use super::matrices::input;
use super::tiling::{Run, Tiling};
use crate::cpu::simd::{Simd, Work};
use crate::ops::window::Span;

/// Elements of a part of a line: those of [`super::tiling::MOST`] tiles, and of the one behind them.
const PART: usize = 16;
/// The same with those that the last vector reads.
const ROOM: usize = 2 * PART;
/// Elements of a line of a run.
const LINE: usize = 4 * PART;

/// One chunk of tiles.
pub(super) struct Transform<'a> {
    /// All channels of an image.
    pub(super) x: &'a [f32],
    pub(super) channels: usize,
    pub(super) spans: &'a [Span; 2],
    pub(super) tiling: &'a Tiling,
    pub(super) chunk: usize,
    /// [`Tiling::chunk_elements`].
    pub(super) to: &'a mut [f32],
}

impl Work for Transform<'_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        if self.tiling.size == 2 { self.transform::<S, 4, 2>(simd) } else { self.transform::<S, 6, 4>(simd) }
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn transform<S: Simd<f32>, const A: usize, const M: usize>(self, simd: S) {
        let Self { x, channels, spans, tiling, chunk, to } = self;
        let (slots, each) = (tiling.slots(), tiling.point_elements(channels));
        let plane = spans[0].input * spans[1].input;
        // For each line, and for each line and remainder.
        let mut lines = [[0.0f32; 2 * LINE]; A];
        let mut parts = [[[0.0f32; ROOM]; M]; A];
        for channel in 0..channels {
            let x = &x[channel * plane..];
            for run in (0..tiling.runs()).map(|index| tiling.run(chunk, index)) {
                for (index, line) in lines.iter_mut().enumerate() {
                    pad::<M>(x, spans, (run, index), line);
                }
                // Apart from the copies, which have reached the cache by then.
                for (parts, line) in parts.iter_mut().zip(&lines) {
                    take_apart::<M>(line, parts);
                }
                for at in (0..run.count).step_by(S::LANES) {
                    let mut half = [[simd.splat(0.0); A]; A];
                    for column in 0..A {
                        let mut d = [simd.splat(0.0); A];
                        for (d, parts) in d.iter_mut().zip(&parts) {
                            *d = simd.load(&parts[column % M][at + column / M..]);
                        }
                        let d = input(simd, d);
                        for (half, d) in half.iter_mut().zip(d) {
                            half[column] = d;
                        }
                    }
                    // A vector ends in the slots behind the run's, which are written later.
                    let place = channel * slots + run.slot + at;
                    for (line, half) in half.into_iter().enumerate() {
                        for (column, value) in input(simd, half).into_iter().enumerate() {
                            simd.store(value, &mut to[(line * A + column) * each + place..]);
                        }
                    }
                }
            }
        }
    }
}

/// Line `index` of the inputs of `run`, of the channel that `x` begins with: zero outside the input.
#[inline(always)]
fn pad<const M: usize>(
    x: &[f32],
    [height, width]: &[Span; 2],
    (run, index): (Run, usize),
    line: &mut [f32; 2 * LINE],
) {
    let wanted = (run.count + 1) * M;
    let y = (run.row * M + index).checked_sub(height.begin).filter(|&y| y < height.input);
    // The first element, and where it lies.
    let first = (run.first * M).saturating_sub(width.begin);
    let skipped = width.begin.saturating_sub(run.first * M);
    let count = width.input.saturating_sub(first).min(wanted.saturating_sub(skipped));
    let Some(y) = y.filter(|_| count > 0) else { return line[..wanted].fill(0.0) };
    let from = &x[y * width.input + first..];
    // A copy of fixed length is a few instructions.
    match from.first_chunk::<LINE>() {
        Some(from) => line[skipped..skipped + LINE].copy_from_slice(from),
        None => line[skipped..skipped + count].copy_from_slice(&from[..count]),
    }
    for value in &mut line[..skipped] {
        *value = 0.0;
    }
    for value in &mut line[skipped + count..wanted] {
        *value = 0.0;
    }
}

/// `parts[p][i] = line[i · M + p]`.
#[inline(always)]
fn take_apart<const M: usize>(line: &[f32; 2 * LINE], parts: &mut [[f32; ROOM]; M]) {
    for (p, part) in parts.iter_mut().enumerate() {
        for (i, value) in part.iter_mut().enumerate().take(PART) {
            *value = line[i * M + p];
        }
    }
}
