//! Convolution of two spatial axes in f32 over channels in blocks: `[images, channels / 16, height, width, 16]`.
//!
//! The channels of a block are neighbours, so that every way to convolve loads, adds and stores whole vectors of
//! channels, wherever windows lie: windows over all channels are products of rows of [`sweep`], directly ([`direct`])
//! or at the points of Winograd's tiles ([`points`]), or products on the matrix unit where there is one ([`matrix`]);
//! channels by themselves add the taps of their windows ([`depthwise`]). What one convolution writes the next one reads as
//! it lies.
//!
//! An input of fewer channels than a block is read as models have it, `[images, channels, height, width]`.

mod depthwise;
mod direct;
mod lines;
mod matrix;
mod pack;
mod planes;
mod points;
mod pool;
mod sweep;
mod tests;

use super::RunContext;
use super::amx::Unit;
use super::clamp::Clamp;
use super::row_epilogue::Finish;
use super::simd::Level;
use crate::error::OpError;
use crate::memory::Budget;
use crate::ops::window::Span;
use depthwise::Depthwise;
use direct::Direct;
use matrix::Matrix;
use pack::Form;
pub(crate) use pack::PackedBlocks;
use points::Points;
pub(crate) use pool::largest;

/// Channels of a block.
pub(crate) const BLOCK: usize = 16;

/// How the channels of a convolution belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Channels {
    /// Every filter reads all of them.
    All { channels: usize, filters: usize },
    /// Each has one filter.
    Each(usize),
}

impl Channels {
    /// Channels of the output.
    pub(crate) fn filters(self) -> usize {
        match self {
            Self::All { filters, .. } => filters,
            Self::Each(channels) => channels,
        }
    }

    /// Channels of the input.
    pub(crate) fn channels(self) -> usize {
        match self {
            Self::All { channels, .. } | Self::Each(channels) => channels,
        }
    }

    /// Whether the input's channels lie in blocks.
    pub(crate) fn in_blocks(self) -> bool {
        self.channels().is_multiple_of(BLOCK)
    }

    /// Whether a convolution of such channels is computed here.
    pub(crate) fn fit(self) -> bool {
        let fits = |n: usize| n > 0 && n.is_multiple_of(BLOCK);
        match self {
            Self::All { channels, filters } => {
                fits(filters) && (fits(channels) || (1..BLOCK).contains(&channels))
            }
            Self::Each(channels) => fits(channels),
        }
    }
}

/// How windows are computed.
#[derive(Clone, Debug)]
enum Way {
    Direct(Direct),
    Matrix(Matrix),
    Points(Points),
    Depthwise(Depthwise),
}

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct BlockedConvolution {
    images: usize,
    /// Elements of an image of the input and of the output.
    input: usize,
    output: usize,
    way: Way,
    level: Level,
}

/// What a run reads.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weights: &'a PackedBlocks,
    pub(crate) bias: Option<&'a [f32]>,
}

/// One image of a run.
#[derive(Clone, Copy)]
struct Image<'a, 'f> {
    context: RunContext<'a>,
    level: Level,
    operands: Operands<'a>,
    /// Blocks of channels of the output ahead of the image's own.
    first: usize,
    /// What sums are held between where they are stored; `finish` does nothing then.
    clamp: Option<Clamp>,
    finish: &'a Finish<'f>,
}

/// Packs `[filters, channels, height, width]`, little-endian f32 at any address, windows of `taps` taps; over `spans`, where
/// they are known.
pub(crate) fn pack(
    source: &[u8],
    channels: Channels,
    (taps, spans): (usize, Option<[Span; 2]>),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<PackedBlocks, OpError> {
    pack_for(Unit::detect(), source, channels, (taps, spans), budget, release)
}

/// The same for a processor that has a matrix unit or not.
fn pack_for(
    unit: Option<Unit>,
    source: &[u8],
    channels: Channels,
    (taps, spans): (usize, Option<[Span; 2]>),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<PackedBlocks, OpError> {
    let Channels::All { channels, filters } = channels else {
        return pack::depthwise(source, (channels.channels(), taps), budget);
    };
    let size = spans.and_then(|spans| points::choose(Level::detect(), channels, filters, spans));
    if let Some(unit) = unit.filter(|_| spans.is_some_and(|spans| matrix::suits(channels, spans, size)))
        && let Some(packed) = pack::matrix(unit, source, (filters, channels, taps), budget, release)?
    {
        return Ok(packed);
    }
    match size {
        Some(size) => pack::points(source, (filters, channels, size), budget, release),
        None => pack::direct(source, (filters, channels, taps), budget, release),
    }
}

impl BlockedConvolution {
    /// Of `images` images over `spans`, for weights packed so; `None` where the extents are too large.
    pub(crate) fn new(
        images: usize,
        channels: Channels,
        spans: [Span; 2],
        weights: &PackedBlocks,
    ) -> Option<Self> {
        let elements = |count: usize, extent: fn(&Span) -> usize| {
            spans.iter().try_fold(count, |n, span| n.checked_mul(extent(span)))
        };
        let input = elements(channels.channels(), |s| s.input)?;
        let output = elements(channels.filters(), |s| s.output)?;
        images.checked_mul(input.max(output))?;
        let way = match (channels, weights.form) {
            (Channels::Each(count), _) => Way::Depthwise(Depthwise::new(count, spans)),
            (Channels::All { channels, filters }, Form::Matrix(unit)) => {
                Way::Matrix(Matrix::new(unit, (channels, filters), spans)?)
            }
            (Channels::All { channels, filters }, Form::Points(size)) => {
                Way::Points(Points::new((channels, filters), size, spans)?)
            }
            (Channels::All { channels, filters }, Form::Terms) => {
                Way::Direct(Direct::new((channels, filters), spans)?)
            }
        };
        Some(Self { images, input, output, way, level: Level::detect() })
    }

    /// The same on another instruction set of this processor.
    #[cfg(test)]
    fn on(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch(&self, threads: usize) -> usize {
        match &self.way {
            Way::Direct(direct) => direct.scratch(),
            Way::Matrix(matrix) => matrix.scratch(threads),
            Way::Points(points) => points.scratch(threads),
            Way::Depthwise(_) => 0,
        }
    }

    /// `out = x ∗ w + bias`, passed through `finish`, whose rows are the blocks of channels of all images.
    pub(crate) fn run(
        &self,
        context: RunContext<'_>,
        operands: Operands<'_>,
        (out, scratch): (&mut [f32], &mut [u8]),
        finish: &Finish<'_>,
    ) -> Result<(), OpError> {
        if self.output == 0 || self.images == 0 {
            return Ok(());
        }
        if operands.x.len() != self.images * self.input || out.len() != self.images * self.output {
            return Err(OpError::internal("a convolution's operands have other sizes than it was bound for"));
        }
        let nothing = Finish::nothing();
        let clamp = finish.clamp().filter(|_| !matches!(self.way, Way::Matrix(_)));
        let finish = if clamp.is_some() { &nothing } else { finish };
        if let Way::Depthwise(depthwise) = &self.way {
            return depthwise.run((context, self.level), operands, out, (clamp, finish));
        }
        for (index, out) in out.chunks_exact_mut(self.output).enumerate() {
            let x = &operands.x[index * self.input..][..self.input];
            let image = |blocks| Image {
                context,
                level: self.level,
                operands: Operands { x, ..operands },
                first: index * blocks,
                clamp,
                finish,
            };
            match &self.way {
                Way::Direct(direct) => direct.image(image(direct.blocks()), out, scratch)?,
                Way::Matrix(matrix) => matrix.image(image(matrix.blocks()), out, scratch)?,
                Way::Points(points) => points.image(image(points.blocks()), out, scratch)?,
                Way::Depthwise(_) => {}
            }
        }
        Ok(())
    }
}
