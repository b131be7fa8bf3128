//! Winograd's convolution in f32: windows of 3×3 at stride 1 with fewer products than they have taps.
//!
//! The output is cut into tiles of `m×m`, `m` 2 or 4, each of which depends on `a×a` inputs, `a = m + 2`:
//!
//! `y = Aᵀ · [ Σ_c (G · w_c · Gᵀ) ⊙ (Bᵀ · x_c · B) ] · A`
//!
//! so that `a²` products per channel give `m²` outputs, where the sum over the taps takes `9·m²`: 2.25 times fewer for
//! `m = 2`, 4 times fewer for `m = 4`. For each of the `a²` points the sum over the channels is a matrix product, filters
//! by tiles. The scheme: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), §4; for the points
//! of tiles of four see [`matrices`]. An input that is no number spreads over its tile.
//!
//! The weights' side is computed once, in f64 ([`PackedPoints`]). The transforms of the input are written in *chunks* of tiles
//! ([`input`]), then blocks of filters by lines of tiles are multiplied and transformed back
//! ([`product`]). Sums are rounded otherwise than those of the specification: the errors of `m = 4` are some twice as
//! large over many channels, relative to the largest sum of a tile.

mod estimate;
mod input;
mod matrices;
mod pack;
mod product;
mod tests;
mod tiling;

use super::RunContext;
use super::contraction::scratch_of;
use super::gemm::{Block, Blocks};
use super::row_epilogue::Finish;
use super::row_fill::Filler;
use super::simd::{Lane, Level};
use super::tiles::{Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::ops::window::Span;
pub(super) use estimate::{Costs, choose as choose_by};
use input::Transform;
pub(super) use matrices::{input, output, weights};
pub(crate) use pack::{PackedPoints, pack};
use product::{Product, filters_of, most_sums};
use std::ops::Range;
use tiling::Tiling;

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct Winograd {
    images: usize,
    channels: usize,
    filters: usize,
    spans: [Span; 2],
    tiling: Tiling,
    /// Filters of a block.
    block: usize,
    level: Level,
    /// Whether channels of the input are made ahead of their use.
    made: bool,
}

/// What a run reads.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, 'm> {
    pub(crate) x: &'a [f32],
    /// What makes the channels of all images, in the place of `x`.
    pub(crate) made: Option<&'a Filler<'m>>,
    pub(crate) weights: &'a PackedPoints,
    pub(crate) bias: Option<&'a [f32]>,
}

/// Whether windows over `spatial` are of 3×3 at stride 1.
pub(super) fn fits(spatial: &[Span]) -> bool {
    let plain = |s: &Span| s.kernel == 3 && s.stride == 1 && s.dilation == 1;
    spatial.len() == 2 && spatial.iter().all(plain)
}

/// What tiles take whose transforms are of channels one by one. Behind a line, the sum over the taps computes two positions.
const COSTS: Costs = Costs {
    least_channels: 16,
    reached: 0.8,
    read: 8.0,
    behind: 2,
    inwards: [700.0, 350.0],
    back: [450.0, 200.0],
    of_tiles: true,
};

/// The size of the tiles by which a convolution is computed here; see [`estimate`].
pub(crate) fn choose(level: Level, channels: usize, filters: usize, spatial: &[Span]) -> Option<usize> {
    estimate::choose(level, &COSTS, (channels, filters), spatial)
}

impl Winograd {
    /// `filters` filters of `channels` channels over `spatial`, as packed in `weights`; `None` where the extents are too
    /// large or not those of such windows.
    pub(crate) fn new(images: usize, spatial: &[Span], weights: &PackedPoints) -> Option<Self> {
        let &[height, width] = spatial else { return None };
        if !fits(spatial) {
            return None;
        }
        let form = (weights.channels(), weights.filters());
        height.input.checked_mul(width.input)?.checked_mul(form.0)?;
        let tiling = Tiling::new((height.output, width.output), weights.size(), form);
        tiling.chunk_elements(form.0).checked_mul(tiling.chunks())?;
        Some(Self {
            images,
            channels: form.0,
            filters: form.1,
            spans: [height, width],
            tiling,
            block: filters_of(weights.level()),
            level: weights.level(),
            made: false,
        })
    }

    /// The same where the channels of the input are made.
    pub(crate) fn of_made_planes(mut self) -> Self {
        self.made = true;
        self
    }

    /// Elements of a channel of the input.
    fn input(&self) -> usize {
        self.spans[0].input * self.spans[1].input
    }

    /// Elements that all threads share: the channels that are made, and the transforms of all chunks.
    fn shared(&self) -> [usize; 2] {
        let made = if self.made { self.channels.saturating_mul(self.input()) } else { 0 };
        let chunk = self.tiling.chunk_elements(self.channels);
        let points = if self.tiling.together { 0 } else { chunk.saturating_mul(self.tiling.chunks()) };
        [made.next_multiple_of(16), points]
    }

    /// Elements that each thread needs: the transforms of a block of all filters, and sums.
    fn own(&self) -> [usize; 2] {
        let chunk = self.tiling.chunk_elements(self.channels);
        let points = if self.tiling.together { chunk.saturating_mul(self.tiling.block_chunks()) } else { 0 };
        [points, most_sums(&self.tiling, self.block)]
    }

    fn own_bytes(&self) -> usize {
        self.own().into_iter().fold(0usize, usize::saturating_add).saturating_mul(size_of::<f32>())
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        let shared = self.shared().into_iter().fold(0usize, usize::saturating_add);
        shared.saturating_mul(size_of::<f32>()).saturating_add(Lanes::bytes(self.own_bytes(), threads))
    }

    /// `out = x ∗ w + bias`, passed through `finish`, whose rows are the filters of all images.
    pub(crate) fn run(
        &self,
        context: RunContext<'_>,
        operands: Operands<'_, '_>,
        (out, scratch): (&mut [f32], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let (image, positions) = (self.channels * self.input(), self.tiling.positions());
        let made = self.filters * positions;
        if made == 0 || self.images == 0 {
            return Ok(());
        }
        let given = self.made && operands.made.is_some() || operands.x.len() == self.images * image;
        if !given || out.len() != self.images * made {
            return Err(OpError::internal("a convolution's operands have other sizes than it was bound for"));
        }
        let [planes, points] = self.shared();
        let shared = (planes + points) * size_of::<f32>();
        if scratch.len() < shared {
            return Err(OpError::internal("a convolution has less scratch memory than it asked for"));
        }
        let (shared, own) = scratch.split_at_mut(shared);
        let (planes, points) = scratch_of::<f32>(shared, planes + points)?.split_at_mut(planes);
        for (index, out) in out.chunks_exact_mut(made).enumerate() {
            let x = match operands.made {
                Some(made) => {
                    let planes = &mut planes[..image];
                    let rows = Chunks::new(planes, self.input());
                    for_each_tile(context, image, Lanes::none(), &rows, &|channel, to, _| {
                        made.fill(index * self.channels + channel, to)
                    })?;
                    &*planes
                }
                None => &operands.x[index * image..][..image],
            };
            let image = Image { context, operands, x, index };
            if self.tiling.together {
                self.of_all_filters(image, (out, own), finish)?;
            } else {
                self.by_filters(image, (out, own), points, finish)?;
            }
        }
        Ok(())
    }

    /// Each thread makes the transforms of the lines that it works on.
    fn of_all_filters(
        &self,
        image: Image<'_, '_>,
        (out, own): (&mut [f32], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let positions = self.tiling.positions();
        let blocks =
            Blocks::new(out, (1, self.filters, positions), (self.filters, self.tiling.block_positions()))?;
        let work = self.filters.saturating_mul(positions).saturating_mul(self.channels);
        let lanes = Lanes::new(own, self.own_bytes());
        for_each_tile(image.context, work, lanes, &blocks, &|_, mut block, scratch| {
            let [points, sums] = self.own();
            let (points, sums) = scratch_of::<f32>(scratch, points + sums)?.split_at_mut(points);
            let chunks = self.tiling.chunks_of(&block.cols);
            let each = self.tiling.chunk_elements(self.channels);
            for (chunk, to) in chunks.clone().zip(points.chunks_exact_mut(each)) {
                self.transform(image, chunk, to);
            }
            for first in (0..self.filters).step_by(self.block) {
                let rows = first..self.filters.min(first + self.block);
                let place = (rows.clone(), first);
                self.product(image, (&*points, chunks.clone()), place, (&mut block, &mut *sums));
            }
            finish.apply_block(image.index * self.filters, block.cols.start, &mut block.out)
        })
    }

    /// The transforms of all tiles are made before blocks of filters read them.
    fn by_filters(
        &self,
        image: Image<'_, '_>,
        (out, own): (&mut [f32], &mut [u8]),
        points: &mut [f32],
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let (positions, each) = (self.tiling.positions(), self.tiling.chunk_elements(self.channels));
        let chunks = Chunks::new(points, each);
        let work = self.channels.saturating_mul(positions).saturating_mul(self.tiling.points());
        for_each_tile(image.context, work, Lanes::none(), &chunks, &|chunk, to, _| {
            self.transform(image, chunk, to);
            Ok(())
        })?;
        let blocks =
            Blocks::new(out, (1, self.filters, positions), (self.block, self.tiling.block_positions()))?;
        let work = work.saturating_mul(self.filters);
        let lanes = Lanes::new(own, self.own_bytes());
        for_each_tile(image.context, work, lanes, &blocks, &|_, mut block, scratch| {
            let sums = scratch_of::<f32>(scratch, self.own()[1])?;
            let chunks = self.tiling.chunks_of(&block.cols);
            let points = &points[chunks.start * each..chunks.end * each];
            let (first, rows) = (block.rows.start, 0..block.rows.len());
            self.product(image, (points, chunks), (rows, first), (&mut block, sums));
            finish.apply_block(image.index * self.filters + first, block.cols.start, &mut block.out)
        })
    }

    fn transform(&self, image: Image<'_, '_>, chunk: usize, to: &mut [f32]) {
        let (spans, tiling) = (&self.spans, &self.tiling);
        f32::run(self.level, Transform { x: image.x, channels: self.channels, spans, tiling, chunk, to });
    }

    /// Computes the rows `rows` of `block`, which are the filters from `first` on, at its `chunks`.
    fn product(
        &self,
        image: Image<'_, '_>,
        (points, chunks): (&[f32], Range<usize>),
        (rows, first): (Range<usize>, usize),
        (block, sums): (&mut Block<'_, f32>, &mut [f32]),
    ) {
        let product = Product {
            tiling: &self.tiling,
            channels: self.channels,
            weights: image.operands.weights.block(first / self.block),
            points,
            bias: image.operands.bias.map(|bias| &bias[first..]),
            chunks,
            rows,
            first: block.cols.start,
            out: &mut block.out,
            sums,
        };
        f32::run(self.level, product);
    }
}

/// One image of a run.
#[derive(Clone, Copy)]
struct Image<'a, 'm> {
    context: RunContext<'a>,
    operands: Operands<'a, 'm>,
    /// Its channels.
    x: &'a [f32],
    index: usize,
}
