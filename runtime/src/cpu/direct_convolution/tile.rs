//! The sweep over a block of output: tiles of filters by vectors of positions, accumulated in registers over all channels
//! and taps, a weight broadcast to as many positions as a tile has.

use super::planes::Planes;
use crate::cpu::gemm::MatrixMut;
use crate::cpu::simd::{Lane, Level, Simd, Work};
use std::ops::Range;

/// Most filters of a tile.
pub(super) const MOST_ROWS: usize = 8;
/// Most vectors of positions of a tile of several filters, and of one.
const VECTORS: usize = 3;
const VECTORS_ALONE: usize = 8;
/// Elements of the longest vector.
const LONGEST: usize = 16;
/// Elements that a tile reads behind the last position.
pub(super) const TAIL: usize = VECTORS_ALONE * LONGEST;
/// Positions from which the input can be read as it is: a vector has room in it.
pub(super) const LEAST_IN_PLACE: usize = LONGEST;

/// Filters of a block on this processor: with three vectors of positions three quarters of its registers.
const fn rows_for(registers: usize) -> usize {
    if registers >= 32 { MOST_ROWS } else { MOST_ROWS / 2 }
}

struct Rows;

impl Work for Rows {
    type Element = f32;
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) -> usize {
        rows_for(S::REGISTERS)
    }
}

/// Filters of a block on `level`.
pub(super) fn block_rows(level: Level) -> usize {
    f32::run(level, Rows)
}

/// One block of output of one group.
pub(super) struct Sweep<'a, 'o> {
    /// Filters that `weights` interleaves.
    pub(super) rows: usize,
    /// From the block's first filter on.
    pub(super) weights: &'a [f32],
    /// The group's planes.
    pub(super) x: &'a [f32],
    /// From the block's first filter on.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) channels: usize,
    pub(super) planes: &'a Planes,
    /// Output positions of the block.
    pub(super) cols: Range<usize>,
    pub(super) out: &'a mut MatrixMut<'o, f32>,
}

/// Where a tile lies.
#[derive(Clone, Copy)]
struct Place {
    /// The first filter of the block.
    first: usize,
    /// The first element that is computed.
    start: usize,
    /// The first output position that is stored, and its element.
    position: usize,
    element: usize,
    /// Output positions from there to the end of the line.
    run: usize,
}

impl Work for Sweep<'_, '_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        if self.rows == 1 {
            self.blocks::<S, 1>(simd);
        } else if const { rows_for(S::REGISTERS) == MOST_ROWS } {
            self.blocks::<S, MOST_ROWS>(simd);
        } else {
            self.blocks::<S, { MOST_ROWS / 2 }>(simd);
        }
    }
}

impl Sweep<'_, '_> {
    #[inline(always)]
    fn blocks<S: Simd<f32>, const R: usize>(mut self, simd: S) {
        let depth = self.channels * self.planes.taps.len();
        let by_line = self.planes.is_by_line(S::LANES, R);
        // The input as it is has no room behind its end: its last tile begins earlier.
        let limit = if self.planes.in_place { self.planes.channel() } else { usize::MAX };
        let end = self.planes.element(self.cols.end - 1) + 1;
        for first in (0..self.out.rows()).step_by(R) {
            let weights = &self.weights[first * depth..][..R * depth];
            let mut bias = [0.0; R];
            if let Some(given) = self.bias {
                bias.iter_mut().zip(&given[first..]).for_each(|(to, from)| *to = *from);
            }
            let mut position = self.cols.start;
            while position < self.cols.end {
                let element = self.planes.element(position);
                let run = self.planes.position(element).1.min(self.cols.end - position);
                let left = if by_line { run } else { end - element };
                let many = vectors::<R>(left.div_ceil(S::LANES), limit / S::LANES);
                let start = element.min(limit - many * S::LANES);
                let place = Place { first, start, position, element, run };
                match many {
                    1 => self.tile::<S, R, 1>(simd, weights, bias, place),
                    2 => self.tile::<S, R, 2>(simd, weights, bias, place),
                    3 if R > 1 => self.tile::<S, R, 3>(simd, weights, bias, place),
                    4 if R == 1 => self.tile::<S, R, 4>(simd, weights, bias, place),
                    _ if R == 1 => self.tile::<S, R, VECTORS_ALONE>(simd, weights, bias, place),
                    _ => return,
                }
                let reached = start + many * S::LANES;
                position = if by_line {
                    position + run.min(reached - element)
                } else {
                    self.planes.position(reached).0
                };
            }
        }
    }

    /// `R` filters at `V` vectors of elements.
    #[inline(always)]
    fn tile<S: Simd<f32>, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        weights: &[f32],
        bias: [f32; R],
        place: Place,
    ) {
        let width = V * S::LANES;
        let mut sums = [[simd.splat(0.0); V]; R];
        for (sums, bias) in sums.iter_mut().zip(bias) {
            *sums = [simd.splat(bias); V];
        }
        let (lines, _) = weights.as_chunks::<R>();
        let stride = self.planes.channel();
        for (channel, lines) in lines.chunks_exact(self.planes.taps.len()).enumerate() {
            let x = &self.x[channel * stride + place.start..];
            for (&tap, line) in self.planes.taps.iter().zip(lines) {
                let x = &x[tap..][..width];
                let mut values = [simd.splat(0.0); V];
                for (v, value) in values.iter_mut().enumerate() {
                    *value = simd.load(&x[v * S::LANES..]);
                }
                for (sums, &weight) in sums.iter_mut().zip(line) {
                    let weight = simd.splat(weight);
                    for (sum, value) in sums.iter_mut().zip(&values) {
                        *sum = simd.mul_add(*value, weight, *sum);
                    }
                }
            }
        }
        let rows = R.min(self.out.rows() - place.first);
        let column = place.position - self.cols.start;
        // What lies between lines is written where the next line follows, which is computed later.
        let behind = place.run < width && self.planes.is_by_line(S::LANES, R);
        if place.start == place.element && (place.run >= width || behind) && column + width <= self.cols.len()
        {
            for (r, sums) in sums.iter().enumerate().take(rows) {
                let to = &mut self.out.row(place.first + r)[column..][..width];
                for (v, sum) in sums.iter().enumerate() {
                    simd.store(*sum, &mut to[v * S::LANES..]);
                }
            }
            return;
        }
        let mut lines = [[0.0; TAIL]; R];
        for (line, sums) in lines.iter_mut().zip(&sums) {
            for (v, sum) in sums.iter().enumerate() {
                simd.store(*sum, &mut line[v * S::LANES..]);
            }
        }
        self.store(&lines[..rows], width, place);
    }

    /// Writes what of `lines`, `width` elements from the place's first on, are positions of the block.
    #[inline(always)]
    fn store(&mut self, lines: &[[f32; TAIL]], width: usize, place: Place) {
        let Place { first, start, mut position, mut element, .. } = place;
        while element < start + width && position < self.cols.end {
            let run = self.planes.position(element).1;
            let count = run.min(start + width - element).min(self.cols.end - position);
            for (r, line) in lines.iter().enumerate() {
                self.out.row(first + r)[position - self.cols.start..][..count]
                    .copy_from_slice(&line[element - start..][..count]);
            }
            position += count;
            element = self.planes.element(position);
        }
    }
}

/// Vectors of a tile of `R` filters where `left` of them are left to do, and no more than `room` can be.
#[inline(always)]
fn vectors<const R: usize>(left: usize, room: usize) -> usize {
    let most = left.min(room);
    if R == 1 {
        // The next power of two, as far as there is room for it.
        let wanted = left.next_power_of_two().min(VECTORS_ALONE);
        return if wanted <= room { wanted } else { most.min(2) };
    }
    // Four vectors are two and two.
    if left == VECTORS + 1 { most.min(2) } else { most.min(VECTORS) }
}
