//! What windows read: the input with its padding, so that every tap of every window is inside.

use super::BLOCK;
use super::sweep::{Positions, RUNS, Terms};
use crate::ops::window::Span;
use std::ops::Range;

/// Channels of a position of the input: a block, or one where models' own order is read.
pub(super) fn unit(channels: usize) -> usize {
    if channels.is_multiple_of(BLOCK) { BLOCK } else { 1 }
}

/// Planes of an image, of all channels.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    spans: [Span; 2],
    /// Lines and columns with padding.
    height: usize,
    width: usize,
    /// Elements of a position: the channels of a block, or one.
    unit: usize,
    blocks: usize,
    /// Terms that are neighbours: the channels of a block, a run of taps, or one.
    lanes: usize,
    /// Whether the input is what windows read as it is.
    pub(super) in_place: bool,
    /// Where taps lie behind the first element of a window.
    taps: Vec<usize>,
}

impl Planes {
    /// Of `channels` channels; `None` where they are too large.
    pub(super) fn new(channels: usize, spans: [Span; 2]) -> Option<Self> {
        let reach = |s: &Span| {
            let window = (s.kernel - 1).checked_mul(s.dilation)?.checked_add(1)?;
            s.output.checked_sub(1)?.checked_mul(s.stride)?.checked_add(window)
        };
        let (height, width) = (reach(&spans[0])?, reach(&spans[1])?);
        let unit = unit(channels);
        // Taps of a line that follow each other are read as one where the input is not in blocks.
        let run = if unit == 1 && spans[1].dilation == 1 && RUNS.contains(&spans[1].kernel) {
            spans[1].kernel
        } else {
            1
        };
        let inside = |s: &Span, reach: usize| s.begin == 0 && reach <= s.input;
        let in_place = inside(&spans[0], height) && inside(&spans[1], width);
        let (height, width) = if in_place { (spans[0].input, spans[1].input) } else { (height, width) };
        height.checked_mul(width)?.checked_mul(channels)?;
        let taps = (0..spans[0].kernel * spans[1].kernel).step_by(run).map(|tap| {
            let (y, x) = (tap / spans[1].kernel, tap % spans[1].kernel);
            (y * spans[0].dilation * width + x * spans[1].dilation) * unit
        });
        let (taps, blocks, lanes) = (taps.collect(), channels / unit, unit.max(run));
        Some(Self { spans, height, width, unit, blocks, lanes, in_place, taps })
    }

    /// Elements of a block of channels.
    pub(super) fn plane(&self) -> usize {
        self.height * self.width * self.unit
    }

    /// Elements that have to be written before windows are read.
    pub(super) fn elements(&self) -> usize {
        if self.in_place { 0 } else { self.plane() * self.blocks }
    }

    /// The terms of a window.
    pub(super) fn terms(&self) -> Terms<'_> {
        Terms { blocks: self.blocks, plane: self.plane(), taps: &self.taps, lanes: self.lanes }
    }

    /// Terms of a sum.
    pub(super) fn depth(&self) -> usize {
        self.blocks * self.lanes * self.taps.len()
    }

    /// The positions `range` of the output.
    pub(super) fn positions(&self, range: Range<usize>) -> Positions {
        let [down, across] = &self.spans;
        if self.in_place && self.taps.len() == 1 && down.stride == 1 && across.output == self.width {
            // Lines that run on into each other are one.
            return Positions { line: down.output * across.output, pitch: 0, step: self.unit, range };
        }
        Positions {
            line: across.output,
            pitch: down.stride * self.width * self.unit,
            step: across.stride * self.unit,
            range,
        }
    }

    /// Whether the lines of the output are read as one.
    pub(super) fn is_one_line(&self) -> bool {
        self.positions(0..0).pitch == 0
    }

    /// Writes line `y` of block `block` of `x` with its padding.
    pub(super) fn fill(&self, x: &[f32], (block, y): (usize, usize), to: &mut [f32]) {
        let [down, across] = &self.spans;
        let unit = self.unit;
        let Some(y) = y.checked_sub(down.begin).filter(|&y| y < down.input) else { return to.fill(0.0) };
        let count = across.input.min(self.width.saturating_sub(across.begin));
        let (before, rest) = to.split_at_mut((across.begin * unit).min(to.len()));
        let (inside, after) = rest.split_at_mut(count * unit);
        before.fill(0.0);
        after.fill(0.0);
        let from = ((block * down.input + y) * across.input) * unit;
        inside.copy_from_slice(&x[from..][..inside.len()]);
    }

    /// Elements of a line with its padding.
    pub(super) fn line(&self) -> usize {
        self.width * self.unit
    }

    /// Lines of a block.
    pub(super) fn lines(&self) -> usize {
        self.height
    }
}
