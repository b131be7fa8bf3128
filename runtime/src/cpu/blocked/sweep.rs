//! Products of rows of positions by a group of filters: `sums[p][f] += Σ_k x[k][p] · w[k][f]`, where `k` counts blocks of
//! channels, taps, and the channels of a block.
//!
//! A tile of positions by the filters of a group stays in registers over all terms of the sweep; an element of `x` is
//! multiplied with a vector of filters. Terms come in chunks whose weights stay in the first cache while all tiles pass
//! over them; sums wait in the output between chunks, and while one chunk is used the next one is
//! fetched. The order of a sum is that of its terms, chunk by chunk.

use super::BLOCK;
use crate::cpu::clamp::Clamp;
use crate::cpu::gemm::MatrixMut;
use crate::cpu::simd::{Lane, Level, Simd, Work, fetch};
use std::ops::Range;

/// Filters of the widest group.
pub(super) const WIDEST: usize = 64;
/// Bytes of the weights of a chunk: they stay in the first cache beside what is multiplied with them.
const CHUNK: usize = 32 << 10;
/// Positions of a tile: with four vectors of filters, their sums fill the registers.
const POSITIONS: usize = 6;

/// Elements between positions at stride 2.
const TWICE: usize = 2 * BLOCK;
/// Neighbours of a plane that a unit of terms may be, besides a block of channels and one.
pub(super) const RUNS: [usize; 2] = [3, 7];

/// Groups of `filters` filters, a multiple of a block: the first filter of each, and how many it has.
pub(super) fn groups(filters: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
    let mut at = filters.start;
    std::iter::from_fn(move || {
        let left = filters.end.checked_sub(at).filter(|&left| left >= BLOCK)?;
        let width = if left >= WIDEST { WIDEST } else { (left & (2 * BLOCK)).max(BLOCK) };
        at += width;
        Some((at - width, width))
    })
}

/// Where terms lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'s> {
    /// Blocks of channels.
    pub(super) blocks: usize,
    /// Elements between two of them.
    pub(super) plane: usize,
    /// Where the taps of a window, or runs of them, lie behind its first element.
    pub(super) taps: &'s [usize],
    /// Terms of a tap that are neighbours in the input: the channels of a block, a run of taps ([`RUNS`]), or one.
    pub(super) lanes: usize,
}

/// Where positions lie.
#[derive(Clone, Debug)]
pub(super) struct Positions {
    /// Positions of a line.
    pub(super) line: usize,
    /// Elements of the input between two lines, and between two positions of a line.
    pub(super) pitch: usize,
    pub(super) step: usize,
    /// Those that are computed, counted over all lines.
    pub(super) range: Range<usize>,
}

/// What is multiplied.
pub(super) struct Sweep<'s> {
    pub(super) terms: Terms<'s>,
    pub(super) positions: Positions,
    pub(super) x: &'s [f32],
    /// For each term, one weight of each filter of the group.
    pub(super) weights: &'s [f32],
    /// Filters of the group: 64, 32 or 16.
    pub(super) width: usize,
    /// What sums begin with.
    pub(super) bias: Option<&'s [f32]>,
    /// What sums are held between in the end, if anything.
    pub(super) clamp: Option<Clamp>,
    /// The row of the output that belongs to the group's first block.
    pub(super) row: usize,
}

impl Sweep<'_> {
    /// Writes the sums into rows of `out`, one for each block of filters, the channels of a block neighbours.
    pub(super) fn run(&self, level: Level, out: &mut MatrixMut<'_, f32>) {
        let of_block = self.terms.taps.len() * self.terms.lanes * self.width;
        let many = (CHUNK / size_of::<f32>() / of_block.max(1)).max(1);
        for from in (0..self.terms.blocks).step_by(many) {
            let to = self.terms.blocks.min(from + many);
            let after = self.terms.blocks.min(to + many);
            let pass = Pass {
                sweep: self,
                blocks: from..to,
                chunk: &self.weights[from * of_block..to * of_block],
                next: &self.weights[to * of_block..after * of_block],
                out: &mut *out,
            };
            f32::run(level, pass);
        }
    }
}

/// All tiles over one chunk of terms.
struct Pass<'s, 'o, 'm> {
    sweep: &'s Sweep<'s>,
    blocks: Range<usize>,
    chunk: &'s [f32],
    /// What is read after it.
    next: &'s [f32],
    out: &'o mut MatrixMut<'m, f32>,
}

/// Vectors of filters of a tile, of `all`: with few registers the others take their turn.
const fn vectors(registers: usize, all: usize) -> usize {
    let most = if registers >= 32 { 4 } else { 2 };
    if all < most { all } else { most }
}

impl Work for Pass<'_, '_, '_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        match self.sweep.width {
            WIDEST => self.tiles::<S, WIDEST>(simd),
            32 => self.tiles::<S, 32>(simd),
            _ => self.tiles::<S, BLOCK>(simd),
        }
    }
}

impl Pass<'_, '_, '_> {
    #[inline(always)]
    fn tiles<S: Simd<f32>, const W: usize>(self, simd: S) {
        let Self { sweep, blocks, chunk, next, out } = self;
        let Positions { line, pitch, step, range } = &sweep.positions;
        let line = (*line).max(1);
        let mut ahead = next.chunks(next.len().div_ceil(range.len().div_ceil(POSITIONS).max(1)).max(1));
        let mut at = range.start;
        while at < range.end {
            let (y, from) = (at / line, at % line);
            let left = line.min(from + range.end - at) - from;
            // Tiles of nearly equal length.
            let many = left.div_ceil(left.div_ceil(POSITIONS));
            let place = Place { x: y * pitch + from * step, out: (at - range.start) * BLOCK };
            let ahead = ahead.next().unwrap_or_default();
            let work = Tile { sweep, blocks: &blocks, chunk, ahead, place };
            match many {
                1 => work.group::<S, W, 1>(simd, out),
                2 => work.group::<S, W, 2>(simd, out),
                3 => work.group::<S, W, 3>(simd, out),
                4 => work.group::<S, W, 4>(simd, out),
                5 => work.group::<S, W, 5>(simd, out),
                _ => work.group::<S, W, POSITIONS>(simd, out),
            }
            at += many;
        }
    }
}

/// Where the first position of a tile lies in the input, and its sums in the rows of the output.
#[derive(Clone, Copy)]
struct Place {
    x: usize,
    out: usize,
}

/// A tile over one chunk.
struct Tile<'s> {
    sweep: &'s Sweep<'s>,
    blocks: &'s Range<usize>,
    chunk: &'s [f32],
    /// What is fetched meanwhile.
    ahead: &'s [f32],
    place: Place,
}

impl Tile<'_> {
    #[inline(always)]
    fn group<S: Simd<f32>, const W: usize, const P: usize>(&self, simd: S, out: &mut MatrixMut<'_, f32>) {
        match const { vectors(S::REGISTERS, W / S::LANES) } {
            4 => self.all::<S, W, P, 4>(simd, out),
            2 => self.all::<S, W, P, 2>(simd, out),
            _ => self.all::<S, W, P, 1>(simd, out),
        }
    }

    #[inline(always)]
    fn all<S: Simd<f32>, const W: usize, const P: usize, const N: usize>(
        &self,
        simd: S,
        out: &mut MatrixMut<'_, f32>,
    ) {
        for at in (0..W).step_by(N * S::LANES) {
            match (self.sweep.terms.lanes, self.sweep.positions.step) {
                (BLOCK, BLOCK) => self.sums::<S, W, P, N, BLOCK, BLOCK>(simd, at, out),
                (BLOCK, TWICE) if W == WIDEST => self.sums::<S, W, P, N, BLOCK, TWICE>(simd, at, out),
                (BLOCK, _) => self.sums::<S, W, P, N, BLOCK, 0>(simd, at, out),
                (3, 2) => self.sums::<S, W, P, N, 3, 2>(simd, at, out),
                (7, 2) if W == WIDEST => self.sums::<S, W, P, N, 7, 2>(simd, at, out),
                (3, _) => self.sums::<S, W, P, N, 3, 0>(simd, at, out),
                (7, _) => self.sums::<S, W, P, N, 7, 0>(simd, at, out),
                _ => self.sums::<S, W, P, N, 1, 0>(simd, at, out),
            }
        }
    }

    /// The sums of the filters from `at` on, as many as `N` vectors have, over `L` channels of each block, with `T` elements
    /// between two positions or, where `T` is 0, any number.
    #[inline(always)]
    fn sums<S: Simd<f32>, const W: usize, const P: usize, const N: usize, const L: usize, const T: usize>(
        &self,
        simd: S,
        at: usize,
        out: &mut MatrixMut<'_, f32>,
    ) {
        let Self { sweep, blocks, chunk, ahead, place } = self;
        let (terms, step) = (&sweep.terms, if T > 0 { T } else { sweep.positions.step });
        let mut start = [simd.splat(0.0); N];
        if let Some(bias) = sweep.bias.filter(|_| blocks.start == 0) {
            for (v, start) in start.iter_mut().enumerate() {
                *start = simd.load(&bias[at + v * S::LANES..]);
            }
        }
        let mut sums = [start; P];
        let lines = chunk.as_chunks::<W>().0.as_chunks::<L>().0;
        let mut ahead = ahead.chunks(ahead.len().div_ceil(lines.len().max(1)).max(1));
        let mut turn = 0;
        for block in blocks.start..blocks.end {
            for tap in terms.taps {
                let lines = &lines[turn];
                turn += 1;
                if at == 0 {
                    fetch(bytemuck::cast_slice(ahead.next().unwrap_or_default()));
                }
                let base = place.x + block * terms.plane + tap;
                let x = &sweep.x[base..][..(P - 1) * step + L];
                // Two terms at a time: half of the loop's own instructions.
                for first in (0..L).step_by(2) {
                    for k in first..L.min(first + 2) {
                        let line = &lines[k][at..at + N * S::LANES];
                        let mut weights = [simd.splat(0.0); N];
                        for (v, weight) in weights.iter_mut().enumerate() {
                            *weight = simd.load(&line[v * S::LANES..]);
                        }
                        for (p, sums) in sums.iter_mut().enumerate() {
                            let x = simd.splat(x[p * step + k]);
                            for (sum, weight) in sums.iter_mut().zip(&weights) {
                                *sum = simd.mul_add(x, *weight, *sum);
                            }
                        }
                    }
                }
            }
        }
        for v in 0..N {
            let filter = at + v * S::LANES;
            let row = &mut out.row(sweep.row + filter / BLOCK)[place.out..][..P * BLOCK];
            for (p, sums) in sums.iter().enumerate() {
                let to = &mut row[p * BLOCK..][..BLOCK][filter % BLOCK..];
                let before = if blocks.start > 0 { simd.load(to) } else { simd.splat(0.0) };
                simd.store(simd.add(sums[v], before), to);
            }
        }
        let Some(clamp) = sweep.clamp.filter(|_| blocks.end == terms.blocks) else { return };
        // Where the sums lie now: a longer loop above would not keep them in registers.
        let bounds = std::hint::black_box(clamp).on(simd);
        for v in 0..N {
            let filter = at + v * S::LANES;
            let row = &mut out.row(sweep.row + filter / BLOCK)[place.out..][..P * BLOCK];
            for to in row.chunks_exact_mut(BLOCK) {
                let to = &mut to[filter % BLOCK..];
                simd.store(bounds.hold(simd.load(to)), to);
            }
        }
    }
}
