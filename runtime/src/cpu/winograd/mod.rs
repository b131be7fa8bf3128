//! Winograd's convolution in f32: windows of 3×3 at stride 1 with fewer products than they have taps.
//!
//! The output is cut into tiles of `m×m`, `m` 2 or 4, each of which depends on `a×a` inputs, `a = m + 2`:
//!
//! `y = Aᵀ · [ Σ_c (G · w_c · Gᵀ) ⊙ (Bᵀ · x_c · B) ] · A`
//!
//! so that `a²` products per channel give `m²` outputs, where the sum over the taps takes `9·m²`: 2.25 times fewer for
//! `m = 2`, 4 times fewer for `m = 4`. For each of the `a²` points the sum over the channels is a matrix product, filters
//! by tiles. Matrices: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), §4.
//!
//! The weights' side is computed once, in f64 ([`PackedPoints`]). A run has three stages: the input is brought into planes, taken
//! apart by the remainder over `m`, so that neighbouring tiles read neighbouring elements; their transforms are written
//! in *chunks* of tiles ([`input`]); blocks of filters by lines of tiles are multiplied and transformed back
//! ([`product`]). Sums are rounded otherwise than those of the specification: the errors of `m = 4` are some twice as
//! large over many channels, relative to the largest sum of a tile.

mod input;
mod matrices;
mod pack;
mod product;
mod tests;
mod tiling;

use super::RunContext;
use super::contraction::scratch_of;
use super::direct_convolution::made_channel;
use super::gemm::Blocks;
use super::planes::Planes;
use super::row_epilogue::Finish;
use super::row_fill::Filler;
use super::simd::{Lane, Level, Simd, Work};
use super::tiles::{Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::ops::window::Span;
use input::Transform;
pub(crate) use pack::{PackedPoints, pack};
use product::{Product, filters_of, most_sums};
use tiling::Tiling;

/// Elements that are read behind the last channel's planes.
const TAIL: usize = 128;

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct Winograd {
    images: usize,
    channels: usize,
    filters: usize,
    planes: Planes,
    tiling: Tiling,
    /// Filters of a block.
    block: usize,
    level: Level,
    /// Whether channels of the input are made as planes are filled.
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
fn fits(spatial: &[Span]) -> bool {
    let plain = |s: &Span| s.kernel == 3 && s.stride == 1 && s.dilation == 1;
    spatial.len() == 2 && spatial.iter().all(plain)
}

/// The span over tiles of `size` outputs of `span`: windows of `size + 2` at stride `size`.
fn over_tiles(span: &Span, size: usize) -> Span {
    Span { output: span.output.div_ceil(size), kernel: size + 2, stride: size, ..*span }
}

/// The size of the tiles by which `filters` filters of `channels` channels over `spatial` are computed here; `None` where
/// the sum over the taps takes less time, as estimated for one thread.
pub(crate) fn choose(level: Level, channels: usize, filters: usize, spatial: &[Span]) -> Option<usize> {
    if !fits(spatial) || channels < LEAST_CHANNELS || filters < LEAST_CHANNELS {
        return None;
    }
    let estimate = |size| f32::run(level, Estimate { size, channels, filters, spatial });
    let best = [4, 2].into_iter().min_by(|&a, &b| estimate(a).total_cmp(&estimate(b)))?;
    (estimate(best) < estimate(1)).then_some(best)
}

/// Channels and filters from which tiles are considered: with fewer, transforms are all the work.
const LEAST_CHANNELS: usize = 16;

/// Cycles of one image by tiles of a size, or by the sum over the taps for size 1.
///
/// Measured on a processor with two vector multiplications a cycle: both sums reach some 0.8 of them; a transform of the
/// input takes 130 cycles a vector of tiles (`m = 4`; 60 for 2), of the sums 160 (70) a tile and vector of filters, and writing
/// the output 1.2 an element. Weights that no second cache holds come at 8 bytes a cycle.
struct Estimate<'a> {
    size: usize,
    channels: usize,
    filters: usize,
    spatial: &'a [Span],
}

impl Work for Estimate<'_> {
    type Element = f32;
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) -> f64 {
        const CACHE: f64 = 1.5e6;
        let Self { size, channels, filters, spatial } = self;
        let (lanes, products) = (S::LANES as f64, (channels as f64) * (filters as f64));
        let sums = |points: f64, places: f64| {
            let bytes = points * products * 4.0;
            let read = if bytes > CACHE { bytes / 8.0 } else { 0.0 };
            (points * places * products / (2.0 * lanes * 0.8)).max(read)
        };
        let (height, width) = (spatial[0].output, spatial[1].output);
        if size == 1 {
            return sums(9.0, (height * (width + 2)) as f64);
        }
        let (rows, line) = (height.div_ceil(size), width.div_ceil(size));
        let points = ((size + 2) * (size + 2)) as f64;
        let (inwards, back) = if size == 4 { (130.0, 160.0) } else { (60.0, 70.0) };
        let transforms = channels as f64 * (rows * line.div_ceil(S::LANES)) as f64 * inwards
            + filters as f64 / lanes * (rows * line) as f64 * back
            + filters as f64 * (height * width) as f64 * 1.2;
        sums(points, (rows * line) as f64) + transforms
    }
}

impl Winograd {
    /// `filters` filters of `channels` channels over `spatial`, as packed in `weights`; `None` where the extents are too
    /// large or not those of such windows.
    pub(crate) fn new(images: usize, spatial: &[Span], weights: &PackedPoints) -> Option<Self> {
        let &[height, width] = spatial else { return None };
        let size = weights.size();
        if !fits(spatial) {
            return None;
        }
        let planes = Planes::new(&[over_tiles(&height, size), over_tiles(&width, size)])?;
        planes.channel().checked_mul(weights.channels())?.checked_add(TAIL)?;
        let tiling = Tiling::new((height.output, width.output), size, planes.extent());
        Some(Self {
            images,
            channels: weights.channels(),
            filters: weights.filters(),
            planes,
            tiling,
            block: filters_of(weights.level()),
            level: weights.level(),
            made: false,
        })
    }

    /// The same where each channel of the input is made by the thread that brings it into planes.
    pub(crate) fn of_made_planes(mut self) -> Self {
        self.made = true;
        self
    }

    /// Elements of the planes of all channels, and of the transforms of a chunk and of all.
    fn sizes(&self) -> [usize; 3] {
        let planes = self.planes.channel().saturating_mul(self.channels).saturating_add(TAIL);
        let chunk = self.tiling.chunk_elements(self.channels);
        [planes.next_multiple_of(16), chunk, chunk.saturating_mul(self.tiling.chunks())]
    }

    /// Bytes that each thread needs.
    fn lane(&self) -> usize {
        let sums = most_sums(&self.tiling, self.block).saturating_mul(size_of::<f32>());
        let made = if self.made { self.planes.input().saturating_mul(size_of::<f32>()) } else { 0 };
        sums.max(made)
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        let [planes, _, transforms] = self.sizes();
        let shared = planes.saturating_add(transforms).saturating_mul(size_of::<f32>());
        shared.saturating_add(Lanes::bytes(self.lane(), threads))
    }

    /// `out = x ∗ w + bias`, passed through `finish`, whose rows are the filters of all images.
    pub(crate) fn run(
        &self,
        context: RunContext<'_>,
        operands: Operands<'_, '_>,
        (out, scratch): (&mut [f32], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let (image, positions) = (self.channels * self.planes.input(), self.tiling.positions());
        let made = self.filters * positions;
        if made == 0 || self.images == 0 {
            return Ok(());
        }
        let given = self.made && operands.made.is_some() || operands.x.len() == self.images * image;
        if !given || out.len() != self.images * made {
            return Err(OpError::internal("a convolution's operands have other sizes than it was bound for"));
        }
        let [planes, chunk, transforms] = self.sizes();
        let shared = (planes + transforms) * size_of::<f32>();
        if scratch.len() < shared {
            return Err(OpError::internal("a convolution has less scratch memory than it asked for"));
        }
        let (shared, own) = scratch.split_at_mut(shared);
        let (planes, points) = scratch_of::<f32>(shared, planes + transforms)?.split_at_mut(planes);
        for (index, out) in out.chunks_exact_mut(made).enumerate() {
            self.fill(context, operands, index, (planes, own))?;
            let work = points.len().saturating_mul(4);
            let chunks = Chunks::new(points, chunk);
            for_each_tile(context, work, Lanes::none(), &chunks, &|chunk, to, _| {
                let (x, tiling) = (&*planes, &self.tiling);
                let transform =
                    Transform { planes: &self.planes, x, channels: self.channels, tiling, chunk, to };
                f32::run(self.level, transform);
                Ok(())
            })?;
            let work = points.len().saturating_mul(self.filters);
            let block = (self.block, self.tiling.block_positions());
            let blocks = Blocks::new(out, (1, self.filters, positions), block)?;
            let lanes = Lanes::new(own, self.lane());
            for_each_tile(context, work, lanes, &blocks, &|_, mut block, scratch| {
                let sums = scratch_of::<f32>(scratch, most_sums(&self.tiling, self.block))?;
                let product = Product {
                    tiling: &self.tiling,
                    channels: self.channels,
                    weights: operands.weights.block(block.rows.start / self.block),
                    points,
                    bias: operands.bias.map(|bias| &bias[block.rows.clone()]),
                    chunks: self.tiling.chunks_of(&block.cols),
                    first: block.cols.start,
                    out: &mut block.out,
                    sums,
                };
                f32::run(self.level, product);
                finish.apply_block(index * self.filters + block.rows.start, block.cols.start, &mut block.out)
            })?;
        }
        Ok(())
    }

    /// Brings the channels of image `index` into planes.
    fn fill(
        &self,
        context: RunContext<'_>,
        operands: Operands<'_, '_>,
        index: usize,
        (planes, own): (&mut [f32], &mut [u8]),
    ) -> Result<(), OpError> {
        let (each, input) = (self.planes.channel(), self.planes.input());
        let (planes, tail) = planes.split_at_mut(self.channels * each);
        tail.fill(0.0);
        let first = index * self.channels;
        let lanes = if self.made { Lanes::new(own, self.lane()) } else { Lanes::none() };
        for_each_tile(
            context,
            self.channels * input,
            lanes,
            &Chunks::new(planes, each),
            &|channel, to, scratch| {
                let x = match operands.made {
                    Some(made) => made_channel(made, first + channel, input, scratch)?,
                    None => &operands.x[(first + channel) * input..][..input],
                };
                self.planes.fill(x, to);
                Ok(())
            },
        )
    }
}
