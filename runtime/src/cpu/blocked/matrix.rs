//! Windows over all channels on the matrix unit ([`crate::cpu::amx`]): tiles of positions by 32 filters, whose sums stay in
//! the unit over all terms.
//!
//! The input is taken apart once for all filters ([`Lines`]): that of single elements by each piece for itself where it would
//! not stay in the second cache, all others ahead of the pieces. Weights are taken apart when they are packed. What is no
//! ordinary number the unit does not compute: what reads such a value is multiplied and added term by term, which takes
//! many times as long.

use super::lines::Lines;
use super::sweep::WIDEST;
use super::{BLOCK, Image, Operands};
use crate::cpu::amx::{
    self, DEPTH, Line, PARTS, Place, SIDE, STEPS, Session, Start, Unit, lines_of, tile_lines,
};
use crate::cpu::gemm::{Block, Blocks, MatrixMut};
use crate::cpu::simd::{Lane, Level, Simd, Work, fetch};
use crate::cpu::tiles::{Lanes, for_each_tile};
use crate::error::OpError;
use crate::ops::window::Span;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Positions of a piece at most: its output is still in the second cache when it is finished.
const MOST: usize = 512;
/// Positions of a piece at least, and pieces that keep some threads busy.
const LEAST: usize = 64;
const PIECES: usize = 8;
/// Rows of two tiles.
const TILES: usize = 2 * SIDE;
/// Bytes of the input's parts from which on they do not stay in the second cache, and pieces that each take their own.
const OWN_BYTES: usize = 1 << 20;
const OWN_PIECES: usize = 4;
/// Positions and channels from which on the unit is worth while: with fewer positions tiles are mostly empty, with fewer
/// channels taking the input apart takes longer than the products.
const LEAST_POSITIONS: usize = 32;
const LEAST_CHANNELS: usize = 64;
/// Channels from which on it takes less time than Winograd's tiles.
const LEAST_BESIDE_POINTS: usize = 128;

/// Whether windows over `spans` of so many channels are computed on the unit, rather than directly or by Winograd's tiles of
/// size `points`.
pub(super) fn suits(channels: usize, spans: [Span; 2], points: Option<usize>) -> bool {
    let positions = spans[0].output.saturating_mul(spans[1].output);
    let least = if points.is_some() { LEAST_BESIDE_POINTS } else { LEAST_CHANNELS };
    channels.is_multiple_of(BLOCK) && channels >= least && positions >= LEAST_POSITIONS
}

/// Whether pieces take their own input apart.
fn in_pieces(channels: usize, spans: [Span; 2]) -> bool {
    let single =
        |span: &Span| span.kernel == 1 && span.stride == 1 && span.input == span.output && span.begin == 0;
    let positions = spans[0].output.saturating_mul(spans[1].output);
    let bytes = positions.saturating_mul(channels).saturating_mul(PARTS * size_of::<u16>());
    spans.iter().all(single) && bytes >= OWN_BYTES && positions.div_ceil(MOST) >= OWN_PIECES
}

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    unit: Unit,
    lines: Lines,
    spans: [Span; 2],
    channels: usize,
    filters: usize,
    /// Positions of a piece of the output: whole lines, where the planes have more than the output has.
    piece: usize,
    /// Where the parts of a piece's own input lie, for each 32 channels; empty where all of them are taken apart ahead.
    own: Vec<usize>,
}

/// Parts of the input.
#[derive(Clone, Copy)]
struct Planes<'s> {
    lines: &'s [Line],
    starts: &'s [usize],
    plane: usize,
    /// The position that they begin with.
    first: usize,
}

impl Matrix {
    /// Of `channels` input and `filters` output channels.
    pub(super) fn new(unit: Unit, (channels, filters): (usize, usize), spans: [Span; 2]) -> Option<Self> {
        let lines = Lines::new(channels, spans)?;
        let positions = spans[0].output * spans[1].output;
        let mut piece = MOST.min(positions.max(1));
        let own = in_pieces(channels, spans);
        let pieces = |piece: usize| positions.div_ceil(piece) * filters.div_ceil(WIDEST);
        while !own && piece > LEAST && pieces(piece) < PIECES {
            piece = (piece / 2).max(LEAST);
        }
        // Pieces of nearly equal size.
        let equal = positions.div_ceil(positions.div_ceil(piece).max(1));
        let unit_of = if lines.is_one_line() { TILES } else { spans[1].output };
        let piece = equal.next_multiple_of(unit_of.max(1));
        let starts = (0..channels.div_ceil(DEPTH)).map(|group| group * PARTS * (piece | 1));
        let own = if own { starts.collect() } else { Vec::new() };
        Some(Self { unit, lines, spans, channels, filters, piece, own })
    }

    /// Blocks of channels of the output.
    pub(super) fn blocks(&self) -> usize {
        self.filters / BLOCK
    }

    /// Scratch bytes for `threads` threads.
    pub(super) fn scratch(&self, threads: usize) -> usize {
        amx::bytes_of(self.shared_lines()).saturating_add(Lanes::bytes(self.lane(), threads))
    }

    /// Lines of the planes that are taken apart ahead, and what tiles read beyond the last position, whose sums nobody
    /// reads.
    fn shared_lines(&self) -> usize {
        if self.own.is_empty() { self.lines.count() + TILES } else { 0 }
    }

    /// Bytes of the same for a piece's own planes.
    fn lane(&self) -> usize {
        let lines = if self.own.is_empty() { 0 } else { self.own.len() * PARTS * (self.piece | 1) + TILES };
        lines * size_of::<Line>()
    }

    /// One image.
    pub(super) fn image(
        &self,
        image: Image<'_, '_>,
        out: &mut [f32],
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let Image { context, level, operands, first, finish, .. } = image;
        let short = || OpError::internal("scratch memory is too small");
        let may = level == Level::detect();
        let (shared, lanes) =
            lines_of(scratch).split_at_mut_checked(self.shared_lines()).ok_or_else(short)?;
        let ordinary = AtomicBool::new(may);
        if self.own.is_empty() {
            let pieces = self.lines.pieces(&mut shared[..self.lines.count()])?;
            let work = self.lines.count() * BLOCK;
            for_each_tile(context, work, Lanes::none(), &pieces, &|_, mut piece, _| {
                let place = (piece.rows.start / PARTS, piece.cols.clone());
                if !self.lines.fill(self.unit, operands.x, place, piece.out.rows_from(0)) {
                    ordinary.store(false, Ordering::Relaxed);
                }
                Ok(())
            })?;
        }
        let (shared, ordinary) = (&*shared, ordinary.into_inner());
        let form = (1, self.blocks(), self.positions() * BLOCK);
        let rows = if self.own.is_empty() { WIDEST / BLOCK } else { self.blocks() };
        let pieces = Blocks::new(out, form, (rows, self.piece * BLOCK))?;
        let work =
            self.filters.saturating_mul(self.positions()).saturating_mul(self.lines.starts.len() * DEPTH);
        let lanes = Lanes::new(bytemuck::cast_slice_mut(lanes), self.lane());
        for_each_tile(context, work, lanes, &pieces, &|_, mut piece, lane| {
            let mut ordinary = ordinary;
            let planes = if self.own.is_empty() {
                let (starts, plane) = (&self.lines.starts[..], self.lines.plane());
                Planes { lines: shared, starts, plane, first: 0 }
            } else {
                let range = piece.cols.start / BLOCK..piece.cols.end / BLOCK;
                let lines = lines_of(lane);
                ordinary &= self.take(operands.x, range.clone(), lines);
                Planes { lines, starts: &self.own, plane: self.piece | 1, first: range.start }
            };
            if ordinary {
                self.tiles(image, planes, &mut piece);
            } else {
                f32::run(level, ByTerms { matrix: self, image, piece: &mut piece });
            }
            finish.apply_block(first + piece.rows.start, piece.cols.start, &mut piece.out)
        })
    }

    fn positions(&self) -> usize {
        self.spans[0].output * self.spans[1].output
    }

    /// Takes a piece's own input apart.
    fn take(&self, x: &[f32], range: Range<usize>, to: &mut [Line]) -> bool {
        let plane = self.piece | 1;
        let mut ordinary = true;
        for (group, to) in to.chunks_exact_mut(PARTS * plane).take(self.own.len()).enumerate() {
            let (first, rest) = to.split_at_mut(plane);
            let (second, third) = rest.split_at_mut(plane);
            ordinary &= self.lines.fill(self.unit, x, (group, range.clone()), [first, second, third]);
        }
        ordinary
    }

    /// One piece of the output, two blocks of filters at a time. Where weights come from memory, for the first positions,
    /// those of the next two blocks are asked for meanwhile.
    fn tiles(&self, image: Image<'_, '_>, planes: Planes<'_>, piece: &mut Block<'_, f32>) {
        let mut session = self.unit.session();
        let width = self.spans[1].output;
        let range = piece.cols.start / BLOCK..piece.cols.end / BLOCK;
        let Planes { lines, starts, plane, first } = planes;
        let run = if self.lines.is_one_line() {
            range.start - first..range.end - first
        } else {
            self.lines.run(&(range.start / width..range.end / width))
        };
        for (row, block) in piece.rows.clone().enumerate().step_by(2) {
            let filters = block..piece.rows.end.min(block + 2);
            let behind =
                if range.start == 0 { filters.end..self.blocks().min(filters.end + 2) } else { 0..0 };
            let behind = image.operands.weights.lines(behind.start * BLOCK..behind.end * BLOCK);
            let steps = run.len().div_ceil(TILES) * starts.len() * STEPS;
            let mut parts = behind.chunks(behind.len().div_ceil(steps).max(1));
            for at in run.clone().step_by(TILES) {
                let place = Place { lines, first: at, starts, plane };
                let mut tile = Tile::new(&mut session, place, image.operands, filters.clone());
                let place = (first + at..first + run.end.min(at + TILES), (row, &range));
                if behind.is_empty() {
                    tile.write(self, place, &mut piece.out, || ());
                } else {
                    let ask = |lines| fetch(bytemuck::cast_slice::<Line, u8>(lines));
                    tile.write(self, place, &mut piece.out, || parts.next().into_iter().for_each(ask));
                }
            }
        }
    }
}

/// Some positions by one block of filters or two.
struct Tile<'s, 'p> {
    session: &'s mut Session,
    place: Place<'p>,
    right: &'p [Line],
    bias: &'p [[f32; SIDE]],
    blocks: usize,
}

impl<'s, 'p> Tile<'s, 'p> {
    /// The positions at `place` by the blocks `filters`.
    fn new(
        session: &'s mut Session,
        place: Place<'p>,
        operands: Operands<'p>,
        filters: Range<usize>,
    ) -> Self {
        let right = operands.weights.lines(filters.start * BLOCK..filters.end * BLOCK);
        let bias = operands.bias.map(|bias| &bias.as_chunks::<SIDE>().0[filters.start..]);
        Self { session, place, right, bias: bias.unwrap_or(&[[0.0; SIDE]; 2]), blocks: filters.len() }
    }

    /// Writes the positions `run` of the planes to rows of `out` from `row` on, whose first position is that of `range`.
    /// `meanwhile` is computed beside the products.
    fn write(
        &mut self,
        matrix: &Matrix,
        place: (Range<usize>, (usize, &Range<usize>)),
        out: &mut MatrixMut<'_, f32>,
        meanwhile: impl FnMut(),
    ) {
        match (place.0.len() > SIDE, self.blocks) {
            (true, 2) => self.write_as::<2, 2>(matrix, place, out, meanwhile),
            (true, _) => self.write_as::<2, 1>(matrix, place, out, meanwhile),
            (false, 2) => self.write_as::<1, 2>(matrix, place, out, meanwhile),
            (false, _) => self.write_as::<1, 1>(matrix, place, out, meanwhile),
        }
    }

    fn write_as<const R: usize, const N: usize>(
        &mut self,
        matrix: &Matrix,
        (run, (row, range)): (Range<usize>, (usize, &Range<usize>)),
        out: &mut MatrixMut<'_, f32>,
        meanwhile: impl FnMut(),
    ) {
        let (place, right, start) = (self.place, self.right, Start::Same(self.bias));
        let mut to = out.rows_from::<N>(row);
        if matrix.lines.is_one_line() && run.len() == R * SIDE {
            let to = to.map(|to| &mut to[(run.start - range.start) * BLOCK..]);
            return self.session.product::<R, N>(place, right, start, (to, SIDE), meanwhile);
        }
        let mut sums = [[0.0; TILES * SIDE]; N];
        let all = sums.each_mut().map(|sums| &mut sums[..]);
        self.session.product::<R, N>(place, right, start, (all, SIDE), meanwhile);
        let (pitch, width) = (matrix.lines.width, matrix.spans[1].output);
        let mut at = run.start;
        while at < run.end {
            let (line, column) = (at / pitch, at % pitch);
            let next = run.end.min((line + 1) * pitch);
            let count = next.min(line * pitch + width).saturating_sub(at);
            let position = line * width + column;
            for (to, sums) in to.iter_mut().zip(&sums) {
                if count > 0 {
                    to[(position - range.start) * BLOCK..][..count * BLOCK]
                        .copy_from_slice(&sums[(at - run.start) * BLOCK..][..count * BLOCK]);
                }
            }
            at = next;
        }
    }
}

/// A piece of the output by multiply–adds, of weights that are put together again.
struct ByTerms<'s, 'a, 'f, 'o> {
    matrix: &'s Matrix,
    image: Image<'a, 'f>,
    piece: &'s mut Block<'o, f32>,
}

impl Work for ByTerms<'_, '_, '_, '_> {
    type Element = f32;
    type Output = ();

    #[allow(
        clippy::inline_always,
        reason = "vector code has to be inlined into the shell of its instruction set"
    )]
    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        let Self { matrix, image, piece } = self;
        let [down, across] = &matrix.spans;
        let taps = down.kernel * across.kernel;
        let (positions, _) = image.operands.x.as_chunks::<BLOCK>();
        let first = piece.cols.start / BLOCK;
        for row in 0..piece.rows.len() {
            let block = piece.rows.start + row;
            let pair = block / 2 * 2;
            let groups = (matrix.blocks() - pair).min(2);
            let lines = image.operands.weights.lines(pair * BLOCK..(pair + groups) * BLOCK);
            let (out, _) = piece.out.row(row).as_chunks_mut::<BLOCK>();
            out.fill(image.operands.bias.map_or([0.0; BLOCK], |bias| bias.as_chunks().0[block]));
            for (term, tile) in lines.chunks_exact(tile_lines(groups)).enumerate() {
                let (channels, tap) = (term / taps * 2, term % taps);
                let weights = amx::joined(tile, (block - pair, groups));
                for (at, sums) in out.iter_mut().enumerate() {
                    let (y, x) = ((first + at) / across.output, (first + at) % across.output);
                    let inside = |span: &Span, at: usize, tap: usize| {
                        let at = (at * span.stride + tap * span.dilation).checked_sub(span.begin);
                        at.filter(|&at| at < span.input)
                    };
                    let place =
                        (inside(down, y, tap / across.kernel), inside(across, x, tap % across.kernel));
                    let (Some(y), Some(x)) = place else { continue };
                    for half in 0..2.min(matrix.channels / BLOCK - channels) {
                        let plane = (channels + half) * down.input * across.input;
                        let values = &positions[plane + y * across.input + x];
                        for v in (0..BLOCK).step_by(S::LANES) {
                            let mut sum = simd.load(&sums[v..]);
                            for (value, weights) in values.iter().zip(&weights[half * BLOCK..]) {
                                sum = simd.mul_add(simd.splat(*value), simd.load(&weights[v..]), sum);
                            }
                            simd.store(sum, &mut sums[v..]);
                        }
                    }
                }
            }
        }
    }
}
