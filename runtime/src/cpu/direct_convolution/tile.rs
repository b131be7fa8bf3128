//! The sweep over a block of output: tiles of filters by vectors of positions, accumulated in registers, a weight broadcast
//! to as many positions as a tile has.
//!
//! The channels are taken in chunks whose part of the planes stays in the first cache while the block's filters pass over
//! it; between chunks the sums of a tile are put aside. Where the block has no more than two tiles of positions, both are
//! computed with each block of weights, so that large weights are read once.

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
pub(super) const LONGEST: usize = 16;
/// Bytes of the planes that a tile reads of a chunk: half of a first cache.
const CHUNK: usize = 24 << 10;
/// Most filters of a block of output: what is put aside stays in the second cache.
pub(super) const MOST_FILTERS: usize = 128;
/// Tiles of positions that are computed together.
const TOGETHER: usize = 2;
/// Sums that are put aside.
pub(super) const ASIDE: usize = TOGETHER * MOST_FILTERS * VECTORS * LONGEST;
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
    /// At least one.
    pub(super) channels: usize,
    pub(super) planes: &'a Planes,
    /// Output positions of the block.
    pub(super) cols: Range<usize>,
    pub(super) out: &'a mut MatrixMut<'o, f32>,
    /// [`ASIDE`] elements, where there may be more than one chunk.
    pub(super) aside: &'a mut [f32],
}

/// The filters of a tile and the channels that are added.
struct Part<'w> {
    /// The first filter of the block.
    first: usize,
    channels: Range<usize>,
    /// The weights of these filters and channels.
    weights: &'w [f32],
    /// Whether channels follow.
    more: bool,
}

/// Where a tile lies.
#[derive(Clone, Copy)]
struct Place {
    /// Which of those that are computed together.
    index: usize,
    /// Vectors.
    many: usize,
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
        if self.rows == 1
            && !self.planes.in_place
            && self.is_whole_channel()
            && self.planes.is_by_line(S::LANES, 1)
        {
            self.lines(simd);
        } else if self.rows == 1 {
            self.blocks::<S, 1>(simd);
        } else if const { rows_for(S::REGISTERS) == MOST_ROWS } {
            self.blocks::<S, MOST_ROWS>(simd);
        } else {
            self.blocks::<S, { MOST_ROWS / 2 }>(simd);
        }
    }
}

impl Sweep<'_, '_> {
    /// Whether the block is all positions of filters of one channel.
    fn is_whole_channel(&self) -> bool {
        self.channels == 1 && self.cols == (0..self.planes.positions())
    }

    /// Filters of one channel, line by line.
    #[inline(always)]
    fn lines<S: Simd<f32>>(self, simd: S) {
        let taps = &self.planes.taps[..];
        let length = self.planes.line();
        for row in 0..self.out.rows() {
            let weights = &self.weights[row * taps.len()..][..taps.len()];
            let bias = self.bias.map_or(0.0, |bias| bias[row]);
            let out = self.out.row(row);
            self.planes.lines(|position, element| {
                let mut at = 0;
                while at < length {
                    let many = vectors::<1>((length - at).div_ceil(S::LANES), usize::MAX);
                    let (x, to) = (&self.x[element + at..], &mut out[position + at..]);
                    match many {
                        1 => strip::<S, 1>(simd, x, (taps, weights, bias), (to, length - at)),
                        2 => strip::<S, 2>(simd, x, (taps, weights, bias), (to, length - at)),
                        4 => strip::<S, 4>(simd, x, (taps, weights, bias), (to, length - at)),
                        _ => strip::<S, VECTORS_ALONE>(simd, x, (taps, weights, bias), (to, length - at)),
                    }
                    at += many * S::LANES;
                }
            });
        }
    }

    #[inline(always)]
    fn blocks<S: Simd<f32>, const R: usize>(mut self, simd: S) {
        let depth = self.channels * self.planes.taps.len();
        let span = self.planes.element(self.cols.end - 1) + 1 - self.planes.element(self.cols.start);
        let together = if span <= TOGETHER * VECTORS * S::LANES { TOGETHER } else { 1 };
        // Of one filter every element is read once.
        let chunk = if R == 1 { self.channels } else { self.planes.channels_of(CHUNK, VECTORS * S::LANES) };
        let mut position = self.cols.start;
        while position < self.cols.end {
            let mut places = [None; TOGETHER];
            for (index, place) in places.iter_mut().enumerate().take(together) {
                let (made, next) = self.place::<S, R>(index, position);
                (*place, position) = (Some(made), next);
                if position >= self.cols.end {
                    break;
                }
            }
            for from in (0..self.channels).step_by(chunk) {
                let channels = from..self.channels.min(from + chunk);
                let more = channels.end < self.channels;
                let weights_of = R * self.planes.taps.len();
                for first in (0..self.out.rows()).step_by(R) {
                    let weights = &self.weights[first * depth..][..R * depth];
                    let weights = &weights[channels.start * weights_of..channels.end * weights_of];
                    for place in places.iter().flatten() {
                        let part = Part { first, channels: channels.clone(), weights, more };
                        self.any_tile::<S, R>(simd, &part, *place);
                    }
                }
            }
        }
    }

    /// The tile from output position `position` on, and the position that follows it.
    #[inline(always)]
    fn place<S: Simd<f32>, const R: usize>(&self, index: usize, position: usize) -> (Place, usize) {
        let by_line = self.planes.is_by_line(S::LANES, R);
        // The input as it is has no room behind its end: its last tile begins earlier.
        let limit = if self.planes.in_place { self.planes.channel() } else { usize::MAX };
        let element = self.planes.element(position);
        let run = self.planes.position(element).1.min(self.cols.end - position);
        let left = if by_line { run } else { self.planes.element(self.cols.end - 1) + 1 - element };
        let many = vectors::<R>(left.div_ceil(S::LANES), limit / S::LANES);
        let start = element.min(limit - many * S::LANES);
        let reached = start + many * S::LANES;
        let next =
            if by_line { position + run.min(reached - element) } else { self.planes.position(reached).0 };
        (Place { index, many, start, position, element, run }, next)
    }

    #[inline(always)]
    fn any_tile<S: Simd<f32>, const R: usize>(&mut self, simd: S, part: &Part<'_>, place: Place) {
        match place.many {
            1 => self.tile::<S, R, 1>(simd, part, place),
            2 => self.tile::<S, R, 2>(simd, part, place),
            3 if R > 1 => self.tile::<S, R, 3>(simd, part, place),
            4 if R == 1 => self.tile::<S, R, 4>(simd, part, place),
            _ if R == 1 => self.tile::<S, R, VECTORS_ALONE>(simd, part, place),
            _ => {}
        }
    }

    /// Where the sums of a tile are put aside, from vector `at` on.
    #[inline(always)]
    fn aside_of<const R: usize, const V: usize>(
        &mut self,
        at: usize,
    ) -> Option<&mut [[[f32; LONGEST]; V]; R]> {
        self.aside.as_chunks_mut::<LONGEST>().0[at..].as_chunks_mut::<V>().0.first_chunk_mut::<R>()
    }

    /// `R` filters at `V` vectors of elements.
    #[inline(always)]
    fn tile<S: Simd<f32>, const R: usize, const V: usize>(&mut self, simd: S, part: &Part<'_>, place: Place) {
        let width = V * S::LANES;
        let aside = (place.index * MOST_FILTERS + part.first) * VECTORS;
        let mut sums = [[simd.splat(0.0); V]; R];
        if part.channels.start > 0 {
            let Some(aside) = self.aside_of::<R, V>(aside) else { return };
            for (sums, aside) in sums.iter_mut().zip(aside) {
                for (sum, aside) in sums.iter_mut().zip(aside) {
                    *sum = simd.load(aside);
                }
            }
        } else if let Some(bias) = self.bias {
            for (sums, bias) in sums.iter_mut().zip(&bias[part.first..]) {
                *sums = [simd.splat(*bias); V];
            }
        }
        let sums = self.accumulated(simd, sums, part, place.start);
        if part.more {
            let Some(aside) = self.aside_of::<R, V>(aside) else { return };
            for (sums, aside) in sums.iter().zip(aside) {
                for (sum, aside) in sums.iter().zip(aside) {
                    simd.store(*sum, aside);
                }
            }
            return;
        }
        let rows = R.min(self.out.rows() - part.first);
        let column = place.position - self.cols.start;
        // What lies between lines is written where the next line follows, which is computed later.
        let behind = place.run < width && self.planes.is_by_line(S::LANES, R);
        if place.start == place.element && (place.run >= width || behind) && column + width <= self.cols.len()
        {
            for (r, sums) in sums.iter().enumerate().take(rows) {
                let to = &mut self.out.row(part.first + r)[column..][..width];
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
        self.store(&lines[..rows], width, part.first, place);
    }

    /// `sums` with the terms of the part's channels at the elements from `start` on.
    #[inline(always)]
    fn accumulated<S: Simd<f32>, const R: usize, const V: usize>(
        &self,
        simd: S,
        mut sums: [[S::Vector; V]; R],
        part: &Part<'_>,
        start: usize,
    ) -> [[S::Vector; V]; R] {
        let (lines, _) = part.weights.as_chunks::<R>();
        let stride = self.planes.channel();
        for (channel, lines) in part.channels.clone().zip(lines.chunks_exact(self.planes.taps.len())) {
            let x = &self.x[channel * stride + start..];
            for (&tap, line) in self.planes.taps.iter().zip(lines) {
                let x = &x[tap..][..V * S::LANES];
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
        sums
    }

    /// Writes what of `lines`, `width` elements from the place's first on, are positions of the block.
    #[inline(always)]
    fn store(&mut self, lines: &[[f32; TAIL]], width: usize, first: usize, place: Place) {
        let Place { start, mut position, mut element, .. } = place;
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

/// One filter of one channel at `V` vectors of positions, of which at least the first `wanted` are stored; what is
/// stored behind them is computed later.
#[inline(always)]
fn strip<S: Simd<f32>, const V: usize>(
    simd: S,
    x: &[f32],
    (taps, weights, bias): (&[usize], &[f32], f32),
    (to, wanted): (&mut [f32], usize),
) {
    let width = V * S::LANES;
    let mut sums = [simd.splat(bias); V];
    for (&tap, &weight) in taps.iter().zip(weights) {
        let x = &x[tap..][..width];
        let weight = simd.splat(weight);
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = simd.mul_add(simd.load(&x[v * S::LANES..]), weight, *sum);
        }
    }
    if to.len() >= width {
        for (v, sum) in sums.iter().enumerate() {
            simd.store(*sum, &mut to[v * S::LANES..]);
        }
        return;
    }
    let mut line = [0.0; TAIL];
    for (v, sum) in sums.iter().enumerate() {
        simd.store(*sum, &mut line[v * S::LANES..]);
    }
    let count = wanted.min(width);
    to[..count].copy_from_slice(&line[..count]);
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
