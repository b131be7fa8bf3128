//! What the matrix unit reads of the input: for each 32 channels, for each place that a stride begins at, for each part of
//! a float, the positions of a plane with its padding, each a line of the unit.
//!
//! The planes are taken apart by the strides, so that positions that follow each other in the output follow each other in
//! every plane, over the ends of lines, too: a tap is a distance, and tiles of positions run on from line to
//! line, where what they compute between two lines is left out.

use super::BLOCK;
use crate::cpu::amx::{Line, PARTS, Unit};
use crate::cpu::gemm::Blocks;
use crate::error::OpError;
use crate::ops::window::Span;
use std::ops::Range;

/// Lines of positions that are written at once.
const LINES: usize = 8;

/// The planes of an image.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    spans: [Span; 2],
    channels: usize,
    /// First line and column of each way to take the input apart that a tap reads.
    begins: Vec<[usize; 2]>,
    /// Positions of a line, and lines of a plane.
    pub(super) width: usize,
    height: usize,
    /// For each 32 channels, for each tap, where the first position's first part lies.
    pub(super) starts: Vec<usize>,
}

impl Lines {
    /// Of `channels` channels, a multiple of a block; `None` where they are too large.
    pub(super) fn new(channels: usize, spans: [Span; 2]) -> Option<Self> {
        let [down, across] = &spans;
        let offset = |span: &Span, tap: usize| tap.checked_mul(span.dilation);
        let reach = |span: &Span| {
            let last = offset(span, span.kernel - 1)? / span.stride;
            last.checked_add(span.output)
        };
        let (width, height) = (reach(across)?, reach(down)?);
        let mut begins = Vec::new();
        let mut taps = Vec::new();
        for y in 0..down.kernel {
            for x in 0..across.kernel {
                let at = [offset(down, y)?, offset(across, x)?];
                let begin = [at[0] % down.stride, at[1] % across.stride];
                let way = begins.iter().position(|b| *b == begin).unwrap_or(begins.len());
                if way == begins.len() {
                    begins.push(begin);
                }
                let from = (at[0] / down.stride).checked_mul(width)?.checked_add(at[1] / across.stride)?;
                taps.push((way, from));
            }
        }
        let mut lines = Self { spans, channels, begins, width, height, starts: Vec::new() };
        let plane = height.checked_mul(width)?.checked_add(1)?;
        plane
            .checked_mul(PARTS * lines.begins.len())?
            .checked_mul(lines.blocks())?
            .checked_mul(size_of::<Line>())?;
        let ways = lines.begins.len();
        let place =
            |block: usize, &(way, from): &(usize, usize)| (block * ways + way) * PARTS * lines.plane() + from;
        lines.starts =
            (0..lines.blocks()).flat_map(|block| taps.iter().map(move |tap| place(block, tap))).collect();
        Some(lines)
    }

    /// Groups of 32 channels.
    fn blocks(&self) -> usize {
        self.channels.div_ceil(2 * BLOCK)
    }

    /// Lines between two parts. An odd number of them, so that parts do not meet in the same places of a cache.
    pub(super) fn plane(&self) -> usize {
        (self.height * self.width) | 1
    }

    /// All lines.
    pub(super) fn count(&self) -> usize {
        self.blocks() * self.begins.len() * PARTS * self.plane()
    }

    /// Whether positions follow each other without anything between two lines.
    pub(super) fn is_one_line(&self) -> bool {
        self.width == self.spans[1].output
    }

    /// Positions, and those between two lines, from the first line of `lines` to the end of the last.
    pub(super) fn run(&self, lines: &Range<usize>) -> Range<usize> {
        lines.start * self.width..(lines.end.max(1) - 1) * self.width + self.spans[1].output
    }

    /// The lines in pieces to be written by [`Lines::fill`].
    pub(super) fn pieces<'a>(&self, lines: &'a mut [Line]) -> Result<Blocks<'a, Line>, OpError> {
        let form = (1, self.blocks() * self.begins.len() * PARTS, self.plane());
        Blocks::new(lines, form, (PARTS, LINES * self.width))
    }

    /// Writes positions `range` of group and way `index` of `x`, to a row for each part. Whether parts stand for all values.
    pub(super) fn fill(
        &self,
        unit: Unit,
        x: &[f32],
        (index, range): (usize, Range<usize>),
        [first, second, third]: [&mut [Line]; PARTS],
    ) -> bool {
        let (group, way) = (index / self.begins.len(), self.begins[index % self.begins.len()]);
        let [down, across] = &self.spans;
        let plane = down.input * across.input;
        let (none, mut ordinary) = ([0.0; BLOCK], true);
        let (positions, _) = x.as_chunks::<BLOCK>();
        let low = &positions[2 * group * plane..][..plane];
        // The last group may be half of one.
        let high =
            positions.get((2 * group + 1) * plane..).filter(|_| (2 * group + 1) * BLOCK < self.channels);
        let lines = first.iter_mut().zip(second).zip(third);
        for (at, ((first, second), third)) in range.zip(lines) {
            let inside = |span: &Span, at: usize, begin: usize| {
                (at * span.stride + begin).checked_sub(span.begin).filter(|&at| at < span.input)
            };
            let place = inside(down, at / self.width, way[0])
                .and_then(|y| Some(y * across.input + inside(across, at % self.width, way[1])?));
            let values = match place {
                Some(place) => [&low[place], high.map_or(&none, |high| &high[place])],
                None => [&none; 2],
            };
            ordinary &= unit.split_line(values, [first, second, third]);
        }
        ordinary
    }
}
