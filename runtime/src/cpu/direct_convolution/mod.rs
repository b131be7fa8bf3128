//! Direct convolution in f32 over up to three spatial axes: `y[f, p] = b[f] + Σ_{c, t} w[f, c, t] · x[c, o(t) + p]`.
//!
//! The input of an image is brought into *planes* ([`planes`]): padded, and taken apart by the remainder of the position
//! over the stride, so that a tap of the window is one offset `o(t)` for all output positions, and neighbouring outputs
//! read neighbouring inputs. A tile of filters by vectors of positions stays in registers over all channels and taps
//! ([`tile`]); positions run on over the ends of lines, and what falls between lines is thrown away. Windows of one tap
//! without stride and padding need no planes: the input is one. Of few positions, filters are the vectors ([`few`]).
//!
//! Weights are packed once, a block of filters interleaved ([`PackedFilters`]). The order of every sum is that of the
//! weights: channel, then tap.

mod few;
mod pack;
mod planes;
mod tests;
mod tile;

use super::RunContext;
use super::contraction::scratch_of;
use super::gemm::{Block, Blocks, MatrixMut};
use super::row_epilogue::Finish;
use super::row_fill::Filler;
use super::simd::{Lane, Level};
use super::tiles::{Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::ops::window::Span;
use few::{FEW, Few};
pub(crate) use pack::{PackedFilters, is_few, pack};
use planes::Planes;
use tile::{ASIDE, LONGEST, MOST_FILTERS, MOST_ROWS, Sweep, TAIL};

/// Blocks of output that keep some threads busy.
const BLOCKS: usize = 16;
/// Filters of a block below which it is not worth while to read the planes again.
const LEAST_FILTERS: usize = 32;
/// Most positions of a block of output: with the lines around them, the planes of 256 channels fill half of a 1 MiB L2.
const POSITIONS: usize = 480;
/// Elements of groups of one channel that are finished at once.
const TOGETHER: usize = 4096;
/// The most elements that a window's reach makes planes larger by: windows that reach further are computed otherwise.
const REACH: usize = 1 << 16;

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct DirectConvolution {
    images: usize,
    groups: usize,
    /// Input channels of a group.
    channels: usize,
    /// Output channels of a group.
    filters: usize,
    planes: Planes,
    block: (usize, usize),
    /// Whether channels of the input are made as planes are filled.
    made: bool,
}

/// Whether windows of these extents and dilations are computed here.
pub(crate) fn reaches(kernel: &[usize], dilations: &[usize]) -> bool {
    let reach = |(at, &kernel): (usize, &usize)| {
        kernel.saturating_sub(1).saturating_mul(dilations.get(at).copied().unwrap_or(1)).saturating_add(1)
    };
    kernel.len() <= 3 && kernel.iter().enumerate().map(reach).fold(1, usize::saturating_mul) <= REACH
}

/// Filters and positions of a block of output: long lines first, since a tile of positions that is cut off is computed
/// whole and what follows a convolution is done line by line; then as few filters as make enough blocks.
fn block(batch: usize, filters: usize, planes: &Planes) -> (usize, usize) {
    let (positions, line) = (planes.positions(), planes.line());
    let cols = if line <= POSITIONS { POSITIONS / line * line } else { POSITIONS };
    let parts = positions.div_ceil(cols).max(1);
    // Parts of equal size.
    let cols = if line <= POSITIONS {
        (positions / line).div_ceil(parts).max(1) * line
    } else {
        positions.div_ceil(parts).next_multiple_of(LONGEST)
    };
    let mut rows = filters.next_multiple_of(MOST_ROWS).min(MOST_FILTERS);
    while rows > LEAST_FILTERS && batch.saturating_mul(parts).saturating_mul(filters.div_ceil(rows)) < BLOCKS
    {
        rows = (rows / 2).next_multiple_of(MOST_ROWS);
    }
    (rows, cols)
}

/// What a run reads.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, 'm> {
    pub(crate) x: &'a [f32],
    /// What makes the channels of all images, in the place of `x`.
    pub(crate) made: Option<&'a Filler<'m>>,
    pub(crate) weights: Weights<'a>,
    pub(crate) bias: Option<&'a [f32]>,
}

/// Weights as the sweep reads them.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// As they are in the model: `[groups · filters, channels, taps]`.
    Rows(&'a [f32]),
    /// Blocks of filters.
    Packed(&'a PackedFilters),
}

impl DirectConvolution {
    /// `groups` groups of `channels` input, at least one, and `filters` output channels.
    pub(crate) fn new(
        images: usize,
        groups: usize,
        (channels, filters): (usize, usize),
        spatial: &[Span],
    ) -> Option<Self> {
        let planes = Planes::new(spatial).filter(|_| channels > 0)?;
        channels.checked_mul(planes.taps.len())?;
        let block = block(images.saturating_mul(groups), filters, &planes);
        Some(Self { images, groups, channels, filters, planes, block, made: false })
    }

    /// The same where each channel of the input is made by the thread that brings it into planes.
    pub(crate) fn of_made_planes(mut self) -> Self {
        self.made = true;
        self.planes.in_place = false;
        self
    }

    /// Elements of the planes of one group of one image, with room for vectors that begin inside.
    fn group_planes(&self) -> usize {
        self.planes.channel().saturating_mul(self.channels).saturating_add(TAIL)
    }

    /// Whether each thread makes the planes of the group that it works on.
    fn by_group(&self) -> bool {
        self.channels == 1 && self.groups > 1
    }

    /// Bytes that each thread needs.
    fn lane(&self) -> usize {
        let elements = if self.by_group() { self.group_planes() } else { ASIDE };
        elements.saturating_mul(size_of::<f32>()).saturating_add(if self.by_group() { self.one() } else { 0 })
    }

    /// Bytes of a channel of the input where it is made.
    fn one(&self) -> usize {
        if !self.made {
            return 0;
        }
        self.planes.input().saturating_mul(size_of::<f32>()).saturating_add(63) / 64 * 64
    }

    fn shared(&self) -> usize {
        if self.by_group() || self.planes.in_place {
            return 0;
        }
        let all = self.planes.channel().saturating_mul(self.channels).saturating_mul(self.groups);
        all.saturating_add(TAIL).saturating_mul(size_of::<f32>()).saturating_add(63) / 64 * 64
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        let lane = if self.by_group() { self.lane() } else { self.lane().max(self.one()) };
        self.shared().saturating_add(Lanes::bytes(lane, threads))
    }

    /// `out = x ∗ w + bias`, passed through `finish`, whose rows are the channels of all images.
    pub(crate) fn run(
        &self,
        context: RunContext<'_>,
        operands: Operands<'_, '_>,
        (out, scratch): (&mut [f32], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let image = self.groups * self.channels * self.planes.input();
        let made = self.groups * self.filters * self.planes.positions();
        if made == 0 || self.images == 0 {
            return Ok(());
        }
        let given = self.made && operands.made.is_some() || operands.x.len() == self.images * image;
        if !given || out.len() != self.images * made {
            return Err(OpError::internal("a convolution's operands have other sizes than it was bound for"));
        }
        let level = match operands.weights {
            Weights::Packed(packed) => packed.level(),
            Weights::Rows(_) => Level::detect(),
        };
        if self.by_group() {
            return self.groups_alone(context, level, operands, (out, scratch), finish);
        }
        let (shared, own) = scratch.split_at_mut(self.shared());
        for (index, out) in out.chunks_exact_mut(made).enumerate() {
            let x = if self.made { &[][..] } else { &operands.x[index * image..][..image] };
            if self.planes.in_place {
                let lanes = Lanes::new(own, self.lane());
                self.image(context, level, Operands { x, ..operands }, (index, out, lanes), finish)?;
                continue;
            }
            let each = self.planes.channel();
            let planes = scratch_of::<f32>(shared, self.groups * self.channels * each + TAIL)?;
            let (planes_of, tail) = planes.split_at_mut(self.groups * self.channels * each);
            tail.fill(0.0);
            let chunks = Chunks::new(planes_of, each);
            let lanes = if self.made { Lanes::new(own, self.one()) } else { Lanes::none() };
            for_each_tile(context, image, lanes, &chunks, &|channel, to, scratch| {
                let first = index * self.groups * self.channels;
                let x = Operands { x, ..operands };
                self.planes.fill(self.channel(x, (first, channel), scratch)?, to);
                Ok(())
            })?;
            let lanes = Lanes::new(own, self.lane());
            self.image(context, level, Operands { x: planes, ..operands }, (index, out, lanes), finish)?;
        }
        Ok(())
    }

    /// Channel `channel` of what `operands` read, made in `scratch` where it is made, as row `first + channel`.
    fn channel<'a>(
        &self,
        operands: Operands<'a, '_>,
        (first, channel): (usize, usize),
        scratch: &'a mut [u8],
    ) -> Result<&'a [f32], OpError> {
        let input = self.planes.input();
        let Some(made) = operands.made else { return Ok(&operands.x[channel * input..][..input]) };
        let plane = scratch_of::<f32>(scratch, input)?;
        made.fill(first + channel, plane)?;
        Ok(plane)
    }

    /// One image, whose planes are `operands.x`.
    fn image(
        &self,
        context: RunContext<'_>,
        level: Level,
        operands: Operands<'_, '_>,
        (image, out, lanes): (usize, &mut [f32], Lanes<'_>),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let work = out.len().saturating_mul(self.channels * self.planes.taps.len());
        let form = (self.groups, self.filters, self.planes.positions());
        let blocks = Blocks::new(out, form, self.block)?;
        for_each_tile(context, work, lanes, &blocks, &|_, mut block, scratch| {
            let aside = scratch_of::<f32>(scratch, ASIDE)?;
            let first = block.batch * self.channels * self.planes.channel();
            self.sweep(level, operands, &mut block, (first, aside));
            let row = (image * self.groups + block.batch) * self.filters + block.rows.start;
            finish.apply_block(row, block.cols.start, &mut block.out)
        })
    }

    /// Groups of one channel: each is brought into planes and computed by one thread.
    fn groups_alone(
        &self,
        context: RunContext<'_>,
        level: Level,
        operands: Operands<'_, '_>,
        (out, scratch): (&mut [f32], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        let made = self.filters * self.planes.positions();
        let work = out.len().saturating_mul(self.planes.taps.len());
        let lanes = Lanes::new(scratch, self.lane());
        // What follows is done for some groups at once: begun for each it would take as long as a small group does.
        let count = self.images * self.groups;
        let together = (TOGETHER / made).min(count / BLOCKS).max(1);
        for_each_tile(context, work, lanes, &Chunks::new(out, together * made), &|tile, out, scratch| {
            let (one, scratch) = scratch.split_at_mut(self.one().min(scratch.len()));
            let planes = scratch_of::<f32>(scratch, self.group_planes())?;
            for (at, out) in out.chunks_exact_mut(made).enumerate() {
                let index = tile * together + at;
                let (to, tail) = planes.split_at_mut(self.planes.channel());
                self.planes.fill(self.channel(operands, (0, index), one)?, to);
                tail.fill(0.0);
                let mut block = Block {
                    batch: index % self.groups,
                    rows: 0..self.filters,
                    cols: 0..self.planes.positions(),
                    out: MatrixMut::new(out, self.filters, self.planes.positions())?,
                };
                // The planes are those of this group alone.
                let own = Operands { x: planes, ..operands };
                self.sweep(level, own, &mut block, (0, &mut []));
            }
            finish.apply_from(tile * together * made, out)
        })
    }

    /// Computes `block`, whose group's planes begin at `first`.
    fn sweep(
        &self,
        level: Level,
        operands: Operands<'_, '_>,
        block: &mut Block<'_, f32>,
        (first, aside): (usize, &mut [f32]),
    ) {
        let depth = self.channels * self.planes.taps.len();
        let group = block.batch * self.filters;
        let (rows, all) = match operands.weights {
            Weights::Rows(all) => (1, &all[group * depth..]),
            Weights::Packed(packed) => {
                (packed.rows(), packed.group(block.batch, self.filters.div_ceil(packed.rows()) * depth))
            }
        };
        let sweep = Sweep {
            rows,
            weights: &all[block.rows.start * depth..],
            x: &operands.x[first..],
            bias: operands.bias.map(|b| &b[group + block.rows.start..]),
            channels: self.channels,
            planes: &self.planes,
            cols: block.cols.clone(),
            out: &mut block.out,
            aside,
        };
        let few = sweep.cols.len() <= FEW.min(rows * 3 / 4);
        match level.with_lanes(rows).filter(|_| few) {
            Some(level) => f32::run(level, Few(sweep)),
            None => f32::run(level, sweep),
        }
    }
}
