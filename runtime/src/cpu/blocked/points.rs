//! Windows of 3×3 at stride 1 by Winograd's tiles; [`crate::cpu::winograd`] says how they are computed.
//!
//! A transform takes vectors of channels as they lie. What it gives is, for each point, an input of as many positions as
//! there are tiles, so that the sums over the channels are those of a [`sweep`](super::sweep).

use super::sweep::{Positions, Sweep, Terms, WIDEST, groups};
use super::{BLOCK, Image};
use crate::cpu::clamp::Clamp;
use crate::cpu::contraction::scratch_of;
use crate::cpu::gemm::{Blocks, MatrixMut};
use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::winograd::{Costs, choose_by, input, output};
use crate::error::OpError;
use crate::ops::window::Span;

/// Bytes of the transforms of a chunk of tiles, with sums: they stay in the second cache with some weights.
const CHUNK: usize = 768 << 10;
/// Chunks from which on a thread makes the transforms of the chunk that it works on.
const CHUNKS: usize = 4;

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(super) struct Points {
    channels: usize,
    filters: usize,
    spans: [Span; 2],
    /// Outputs of a tile along an axis.
    size: usize,
    /// Lines of tiles, and tiles of a line.
    rows: usize,
    line: usize,
    /// Lines of tiles of a chunk.
    deep: usize,
}

/// What tiles take whose transforms are of vectors of channels.
const COSTS: Costs = Costs {
    least_channels: 32,
    reached: 0.85,
    read: 12.0,
    behind: 0,
    inwards: [300.0, 110.0],
    back: [250.0, 80.0],
    of_tiles: false,
};

/// The size of the tiles by which a convolution is computed here; see [`crate::cpu::winograd`].
pub(super) fn choose(level: Level, channels: usize, filters: usize, spans: [Span; 2]) -> Option<usize> {
    choose_by(level, &COSTS, (channels, filters), &spans)
}

impl Points {
    /// Of `channels` input and `filters` output channels, by tiles of `size`.
    pub(super) fn new((channels, filters): (usize, usize), size: usize, spans: [Span; 2]) -> Option<Self> {
        let (rows, line) = (spans[0].output.div_ceil(size), spans[1].output.div_ceil(size));
        let mut points = Self { channels, filters, spans, size, rows, line, deep: 1 };
        let own = points.own();
        let bytes = own[0].checked_add(own[1])?.checked_mul(size_of::<f32>())?;
        points.chunk().checked_mul(rows)?;
        let deep = (CHUNK / bytes.max(1)).clamp(1, rows.max(1));
        // Chunks of equally many lines.
        points.deep = rows.div_ceil(rows.div_ceil(deep).max(1)).max(1);
        Some(points)
    }

    /// Blocks of channels of the output.
    pub(super) fn blocks(&self) -> usize {
        self.filters / BLOCK
    }

    fn points(&self) -> usize {
        (self.size + 2) * (self.size + 2)
    }

    /// Tiles of a chunk.
    fn tiles(&self) -> usize {
        self.deep * self.line
    }

    fn chunks(&self) -> usize {
        self.rows.div_ceil(self.deep)
    }

    /// Elements of the transforms of a chunk.
    fn chunk(&self) -> usize {
        self.points() * self.channels * self.tiles()
    }

    /// Whether each thread makes the transforms that it reads.
    fn is_together(&self) -> bool {
        self.chunks() >= CHUNKS
    }

    /// Elements of a thread: transforms of a chunk, and the sums of a group of filters.
    fn own(&self) -> [usize; 2] {
        [self.chunk(), self.points() * WIDEST * self.tiles()]
    }

    /// Elements that all threads share.
    fn shared(&self) -> usize {
        if self.is_together() { 0 } else { self.chunk() * self.chunks() }
    }

    fn lane(&self) -> usize {
        let [transforms, sums] = self.own();
        let transforms = if self.is_together() { transforms } else { 0 };
        (transforms + sums).saturating_mul(size_of::<f32>())
    }

    /// Scratch bytes for `threads` threads.
    pub(super) fn scratch(&self, threads: usize) -> usize {
        let shared = self.shared().saturating_mul(size_of::<f32>());
        shared.saturating_add(Lanes::bytes(self.lane(), threads))
    }

    /// Positions of a chunk: whole lines.
    fn positions(&self) -> usize {
        self.deep * self.size * self.spans[1].output
    }

    /// One image.
    pub(super) fn image(
        &self,
        image: Image<'_, '_>,
        out: &mut [f32],
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let Image { context, level, operands, first, finish, .. } = image;
        let [down, across] = &self.spans;
        let form = (1, self.blocks(), down.output * across.output * BLOCK);
        let cols = self.positions() * BLOCK;
        let work = self.filters.saturating_mul(down.output * across.output).saturating_mul(self.channels);
        let work = work.saturating_mul(self.points() / self.size);
        let points = self.points();
        if self.is_together() {
            let chunks = Blocks::new(out, form, (self.blocks(), cols))?;
            let lanes = Lanes::new(scratch, self.lane());
            return for_each_tile(context, work, lanes, &chunks, &|chunk, mut block, scratch| {
                let [transforms, sums] = self.own();
                let (to, sums) = scratch_of::<f32>(scratch, transforms + sums)?.split_at_mut(transforms);
                for (index, to) in to.chunks_exact_mut(points * self.tiles() * BLOCK).enumerate() {
                    self.transform(level, operands.x, (chunk, index), to);
                }
                for group in groups(0..self.filters) {
                    self.group(image, (chunk, group, 0), (&*to, &mut *sums), &mut block.out)?;
                }
                finish.apply_block(first, block.cols.start, &mut block.out)
            });
        }
        let (shared, own) = scratch.split_at_mut(self.shared() * size_of::<f32>());
        let shared = scratch_of::<f32>(shared, self.shared())?;
        let (each, blocks) = (points * self.tiles() * BLOCK, self.channels / BLOCK);
        let parts = Chunks::new(shared, each);
        for_each_tile(context, work, Lanes::none(), &parts, &|part, to, _| {
            self.transform(level, operands.x, (part / blocks, part % blocks), to);
            Ok(())
        })?;
        let chunks = Blocks::new(out, form, (WIDEST / BLOCK, cols))?;
        let lanes = Lanes::new(own, self.lane());
        for_each_tile(context, work, lanes, &chunks, &|_, mut block, scratch| {
            let chunk = block.cols.start / cols;
            let sums = scratch_of::<f32>(scratch, self.own()[1])?;
            let transforms = &shared[chunk * self.chunk()..][..self.chunk()];
            let filters = block.rows.start * BLOCK..block.rows.end * BLOCK;
            for group in groups(filters.clone()) {
                let place = (chunk, group, filters.start);
                self.group(image, place, (transforms, &mut *sums), &mut block.out)?;
            }
            finish.apply_block(first + block.rows.start, block.cols.start, &mut block.out)
        })
    }

    /// The transforms of the tiles of a chunk, of a block of channels: for each point, for each tile, its channels.
    fn transform(&self, level: Level, x: &[f32], (chunk, block): (usize, usize), to: &mut [f32]) {
        let plane = self.spans[0].input * self.spans[1].input * BLOCK;
        let x = &x[block * plane..][..plane];
        f32::run(level, Transform { points: self, x, chunk, to });
    }

    /// The output of a group of filters at the tiles of a chunk; `out` begins with filter `row`.
    fn group(
        &self,
        image: Image<'_, '_>,
        (chunk, (filter, width), row): (usize, (usize, usize), usize),
        (transforms, sums): (&[f32], &mut [f32]),
        out: &mut MatrixMut<'_, f32>,
    ) -> Result<(), OpError> {
        let (points, tiles, level) = (self.points(), self.tiles(), image.level);
        let weights = image.operands.weights.of(filter..filter + width);
        let each = self.channels * width;
        for (point, sums) in sums.chunks_exact_mut(width * tiles).enumerate().take(points) {
            let sweep = Sweep {
                terms: Terms {
                    blocks: self.channels / BLOCK,
                    plane: points * tiles * BLOCK,
                    taps: &[0],
                    lanes: BLOCK,
                },
                positions: Positions { line: tiles, pitch: 0, step: BLOCK, range: 0..tiles },
                x: &transforms[point * tiles * BLOCK..],
                weights: &weights[point * each..][..each],
                width,
                bias: None,
                clamp: None,
                row: 0,
            };
            sweep.run(level, &mut MatrixMut::new(sums, width / BLOCK, tiles * BLOCK)?);
        }
        let bias = image.operands.bias.map(|bias| &bias[filter..filter + width]);
        let row = (filter - row) / BLOCK;
        f32::run(level, Back { points: self, chunk, width, sums, bias, clamp: image.clamp, row, out });
        Ok(())
    }

    /// The tiles of a chunk that are there: line and column of each, in order.
    fn places(&self, chunk: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, line) = (chunk * self.deep..self.rows.min((chunk + 1) * self.deep), self.line);
        rows.flat_map(move |row| (0..line).map(move |column| (row, column)))
    }
}

/// `Bᵀ · x · B`.
struct Transform<'s> {
    points: &'s Points,
    /// A block of channels.
    x: &'s [f32],
    chunk: usize,
    to: &'s mut [f32],
}

impl Work for Transform<'_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        if self.points.size == 2 { self.tiles::<S, 4>(simd) } else { self.tiles::<S, 6>(simd) }
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn tiles<S: Simd<f32>, const A: usize>(self, simd: S) {
        let Self { points, x, chunk, to } = self;
        let ([down, across], each) = (&points.spans, points.tiles() * BLOCK);
        let nothing = [0.0; 6 * BLOCK];
        let mut edge = [[0.0; 6 * BLOCK]; A];
        for (tile, (row, column)) in points.places(chunk).enumerate() {
            let (y, left) = (row * points.size, column * points.size);
            // What of each line is inside the input.
            let skipped = across.begin.saturating_sub(left);
            let start = (left + skipped).saturating_sub(across.begin);
            let whole = skipped == 0 && start + A <= across.input;
            let mut lines: [&[f32]; A] = [&nothing; A];
            for (i, (line, edge)) in lines.iter_mut().zip(&mut edge).enumerate() {
                let Some(y) = (y + i).checked_sub(down.begin).filter(|&y| y < down.input) else { continue };
                let from = &x[y * across.input * BLOCK..][..across.input * BLOCK];
                if whole {
                    *line = &from[start * BLOCK..][..A * BLOCK];
                    continue;
                }
                let count = across.input.saturating_sub(start).min(A.saturating_sub(skipped));
                edge.fill(0.0);
                if count > 0 {
                    edge[skipped * BLOCK..][..count * BLOCK]
                        .copy_from_slice(&from[start * BLOCK..][..count * BLOCK]);
                }
                *line = edge;
            }
            for v in (0..BLOCK).step_by(S::LANES) {
                let mut half = [[simd.splat(0.0); A]; A];
                for column in 0..A {
                    let mut d = [simd.splat(0.0); A];
                    for (d, line) in d.iter_mut().zip(&lines) {
                        *d = simd.load(&line[column * BLOCK + v..]);
                    }
                    for (half, d) in half.iter_mut().zip(input(simd, d)) {
                        half[column] = d;
                    }
                }
                for (i, half) in half.into_iter().enumerate() {
                    for (j, value) in input(simd, half).into_iter().enumerate() {
                        simd.store(value, &mut to[(i * A + j) * each + tile * BLOCK + v..]);
                    }
                }
            }
        }
    }
}

/// `Aᵀ · s · A`, and the bias.
struct Back<'s, 'o, 'm> {
    points: &'s Points,
    chunk: usize,
    width: usize,
    sums: &'s [f32],
    bias: Option<&'s [f32]>,
    clamp: Option<Clamp>,
    row: usize,
    out: &'o mut MatrixMut<'m, f32>,
}

impl Work for Back<'_, '_, '_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        if self.points.size == 2 { self.tiles::<S, 4, 2>(simd) } else { self.tiles::<S, 6, 4>(simd) }
    }
}

impl Back<'_, '_, '_> {
    #[inline(always)]
    fn tiles<S: Simd<f32>, const A: usize, const M: usize>(self, simd: S) {
        let Self { points, chunk, width, sums, bias, clamp, row, out } = self;
        let bounds = clamp.unwrap_or(Clamp::NONE).on(simd);
        let [down, across] = &points.spans;
        let tiles = points.tiles();
        // Between the sums of two points.
        let each = width * tiles;
        for block in 0..width / BLOCK {
            let out = out.row(row + block);
            for (tile, (line, column)) in points.places(chunk).enumerate() {
                let (y, x) = (line * M, column * M);
                // The output begins with the chunk's first line.
                let first = y - chunk * points.deep * M;
                let (height, count) = (M.min(down.output - y), M.min(across.output - x));
                for v in (0..BLOCK).step_by(S::LANES) {
                    let from = &sums[(block * tiles + tile) * BLOCK + v..];
                    let bias = bias.map_or(simd.splat(0.0), |bias| simd.load(&bias[block * BLOCK + v..]));
                    let mut half = [[simd.splat(0.0); A]; M];
                    for j in 0..A {
                        let mut s = [simd.splat(0.0); A];
                        for (i, s) in s.iter_mut().enumerate() {
                            *s = simd.load(&from[(i * A + j) * each..]);
                        }
                        let made: [S::Vector; M] = output(simd, s);
                        for (half, made) in half.iter_mut().zip(made) {
                            half[j] = made;
                        }
                    }
                    for (i, half) in half.into_iter().enumerate().take(height) {
                        let made: [S::Vector; M] = output(simd, half);
                        let to = &mut out[((first + i) * across.output + x) * BLOCK + v..];
                        for (j, made) in made.into_iter().enumerate().take(count) {
                            simd.store(bounds.hold(simd.add(made, bias)), &mut to[j * BLOCK..]);
                        }
                    }
                }
            }
        }
    }
}
