//! What windows read: the input with its padding, so that every tap of every window is inside.

use super::BLOCK;
use super::sweep::{Positions, Terms};
use crate::ops::window::Span;
use std::ops::Range;

/// Elements behind the planes of channels that are fewer than a block, which the last position reads and does not use.
const BEHIND: usize = BLOCK;

/// Planes of an image, of all channels.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    spans: [Span; 2],
    /// Lines and columns with padding.
    height: usize,
    width: usize,
    /// Channels of a block.
    lanes: usize,
    blocks: usize,
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
        let interleaved = !channels.is_multiple_of(BLOCK);
        let (lanes, blocks) = if interleaved { (channels, 1) } else { (BLOCK, channels / BLOCK) };
        let inside = |s: &Span, reach: usize| s.begin == 0 && reach <= s.input;
        let in_place = !interleaved && inside(&spans[0], height) && inside(&spans[1], width);
        let (height, width) = if in_place { (spans[0].input, spans[1].input) } else { (height, width) };
        height.checked_mul(width)?.checked_mul(channels)?.checked_add(BEHIND)?;
        let taps = (0..spans[0].kernel * spans[1].kernel).map(|tap| {
            let (y, x) = (tap / spans[1].kernel, tap % spans[1].kernel);
            (y * spans[0].dilation * width + x * spans[1].dilation) * lanes
        });
        Some(Self { spans, height, width, lanes, blocks, in_place, taps: taps.collect() })
    }

    /// Elements of a block of channels.
    pub(super) fn plane(&self) -> usize {
        self.height * self.width * self.lanes
    }

    /// Elements that have to be written before windows are read.
    pub(super) fn elements(&self) -> usize {
        if self.in_place { 0 } else { self.plane() * self.blocks + BEHIND }
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
            return Positions { line: down.output * across.output, pitch: 0, step: self.lanes, range };
        }
        Positions {
            line: across.output,
            pitch: down.stride * self.width * self.lanes,
            step: across.stride * self.lanes,
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
        let lanes = self.lanes;
        let Some(y) = y.checked_sub(down.begin).filter(|&y| y < down.input) else { return to.fill(0.0) };
        let count = across.input.min(self.width.saturating_sub(across.begin));
        let (before, rest) = to.split_at_mut((across.begin * lanes).min(to.len()));
        let (inside, after) = rest.split_at_mut(count * lanes);
        before.fill(0.0);
        after.fill(0.0);
        let plane = down.input * across.input;
        if lanes == BLOCK {
            let from = (block * plane + y * across.input) * BLOCK;
            return inside.copy_from_slice(&x[from..][..inside.len()]);
        }
        for (channel, plane) in x.chunks_exact(plane).enumerate().take(lanes) {
            let line = &plane[y * across.input..][..count];
            for (to, value) in inside.chunks_exact_mut(lanes).zip(line) {
                to[channel] = *value;
            }
        }
    }

    /// Elements of a line with its padding.
    pub(super) fn line(&self) -> usize {
        self.width * self.lanes
    }

    /// Lines of a block.
    pub(super) fn lines(&self) -> usize {
        self.height
    }
}
