//! Products of `f32` on the processor's matrix unit (Intel AMX), which multiplies bf16 and adds in `f32`.
//!
//! A float of 24 significant bits is the sum of three bf16 of 8 bits each, `x = x₀ + x₁ + x₂`, exactly. Of the
//! nine products of two such sums six are computed, `xᵢ · wⱼ` with `i + j ≤ 2`; the other three are together at most
//! 2⁻²⁴ of the product, half a unit in its last place, which is what a rounding costs. Products of bf16 are exact
//! in `f32`, and sums are taken over 32 terms before they are added to what came before, so that a result is as near as
//! one of multiply–adds. A tile of 16×16 sums takes 16 cycles for 32 terms and each of the six: 170 terms a cycle
//! where two vector units of 16 lanes make 32.
//!
//! Where this does not hold the multiply–adds stay: values of 2⁶⁰ and more, among them infinities and NaN, whose parts are
//! no longer what they are. The unit takes parts below 2⁻¹²⁶ for zero, an absolute error of that
//! size times the other factor.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod split;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod unit;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use absent::{Session, Unit};
#[cfg(target_arch = "x86_64")]
pub(crate) use unit::{Session, Unit};

use std::ops::Range;

/// Parts of a float.
pub(crate) const PARTS: usize = 3;
/// Terms that a tile's line holds.
pub(crate) const DEPTH: usize = 32;
/// Lines of a tile, and columns of its sums.
pub(crate) const SIDE: usize = 16;

/// Products of parts that make one of floats, beside which other work is done.
pub(crate) const STEPS: usize = 6;

/// A line of a tile: 32 bf16. Of the left operand the 32 terms of one row, of the right one two terms of 16 columns. Terms
/// `i` and `16 + i` lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u16; DEPTH]);

/// The lines that fit into `memory`.
pub(crate) fn lines_of<T: bytemuck::Pod>(memory: &mut [T]) -> &mut [Line] {
    let (_, lines, _) = bytemuck::pod_align_to_mut::<T, Line>(memory);
    lines
}

/// Bytes of memory for `lines` lines wherever it begins.
pub(crate) fn bytes_of(lines: usize) -> usize {
    lines.saturating_add(1).saturating_mul(size_of::<Line>())
}

/// Where the left operand's lines lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'s> {
    pub(crate) lines: &'s [Line],
    /// The line of the first row's first part ahead of all starts.
    pub(crate) first: usize,
    /// For each 32 terms, where they are from there.
    pub(crate) starts: &'s [usize],
    /// Lines between two parts.
    pub(crate) plane: usize,
}

/// What the sums of a product start from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'s> {
    /// All rows from the same: of each group of 16 columns.
    Same(&'s [[f32; SIDE]]),
    /// Each from what it is.
    Own,
}

/// Columns of a matrix that tiles are made of while they are used.
#[derive(Debug)]
pub(crate) struct Columns<'s, const W: usize> {
    /// For each term `W` columns.
    pub(crate) lines: &'s [[f32; W]],
    /// The first column.
    pub(crate) first: usize,
    /// What is asked for meanwhile.
    pub(crate) ahead: Ahead<'s, W>,
}

impl<'s, const W: usize> Columns<'s, W> {
    /// The lines of 32 terms, in halves.
    fn block(&self, block: usize) -> [&'s [[f32; W]]; 2] {
        let from = |line: usize| line.min(self.lines.len());
        let [first, middle, last] = [0, SIDE, DEPTH].map(|line| from(block * DEPTH + line));
        [&self.lines[first..middle], &self.lines[middle..last]]
    }
}

/// What is done beside products: lines of a matrix become tiles of the next ones, and others are asked for.
#[derive(Debug)]
pub(crate) struct Beside<'s, const W: usize> {
    /// For each term `W` columns.
    lines: &'s [[f32; W]],
    /// The first column, and how many groups of 16.
    columns: (usize, usize),
    tiles: &'s mut [Line],
    /// Pairs of lines.
    pairs: Share,
    ahead: Ahead<'s, W>,
    asked: Share,
}

/// Lines that are read after those of which tiles are made, and the part of them that is asked for beside the same products.
#[derive(Clone, Debug)]
pub(crate) struct Ahead<'s, const W: usize> {
    pub(crate) lines: &'s [[f32; W]],
    /// Counted as they are asked for, of [`Ahead::count`].
    pub(crate) part: Range<usize>,
}

impl<const W: usize> Ahead<'_, W> {
    /// Pieces of the lines that are asked for in turn: memory gives several streams in less time than one.
    const STREAMS: usize = 8;

    /// How many lines are asked for, some of which may not be there.
    pub(crate) fn count(lines: usize) -> usize {
        lines.next_multiple_of(Self::STREAMS)
    }

    /// The line that is asked for as number `turn`.
    fn line(&self, turn: usize) -> Option<&[f32; W]> {
        let each = self.lines.len().div_ceil(Self::STREAMS);
        self.lines.get(turn % Self::STREAMS * each + turn / Self::STREAMS)
    }
}

impl<'s, const W: usize> Beside<'s, W> {
    /// Makes `tiles` of `lines`, [`tile_lines`] for each 32 of them, and asks for those of `ahead`, all of it beside
    /// products of `blocks` times 32 terms. Lines that are not there are zero.
    pub(crate) fn new(
        (lines, columns): (&'s [[f32; W]], (usize, usize)),
        tiles: &'s mut [Line],
        ahead: Ahead<'s, W>,
        blocks: usize,
    ) -> Self {
        let steps = blocks * STEPS;
        let pairs = Share::new(0..lines.len().div_ceil(DEPTH) * SIDE, steps);
        let asked = Share::new(ahead.part.clone(), steps);
        Self { lines, columns, tiles, pairs, ahead, asked }
    }
}

/// Numbers that are shared out to steps as evenly as can be.
#[derive(Debug)]
struct Share {
    left: Range<usize>,
    /// What a step takes, and what it took too little so far, in parts of [`Share::ONE`].
    each: usize,
    owed: usize,
}

impl Share {
    const ONE: usize = 1 << 16;

    fn new(all: Range<usize>, steps: usize) -> Self {
        let each = (all.len() * Self::ONE).div_ceil(steps.max(1));
        Self { left: all, each, owed: 0 }
    }

    /// Those of the next step.
    fn next(&mut self) -> Range<usize> {
        self.owed += self.each;
        let count = self.owed / Self::ONE;
        self.owed %= Self::ONE;
        let end = self.left.end.min(self.left.start + count);
        let next = self.left.start..end;
        self.left.start = end;
        next
    }
}

/// Lines of the tiles of 32 terms by `groups` groups of 16 columns.
pub(crate) const fn tile_lines(groups: usize) -> usize {
    PARTS * groups * SIDE
}

/// The weights of group `group` of the `groups` that a tile of [`Unit::split_columns`] holds: for each of its 32 terms, those
/// of 16 columns.
pub(crate) fn joined(tile: &[Line], (group, groups): (usize, usize)) -> [[f32; SIDE]; DEPTH] {
    let mut weights = [[0.0; SIDE]; DEPTH];
    for (term, weights) in weights.iter_mut().enumerate() {
        for (column, weight) in weights.iter_mut().enumerate() {
            // The sums are exact, from the largest part, the last one, on.
            for part in (0..PARTS).rev() {
                let line = &tile[(part * groups + group) * SIDE + term % SIDE];
                *weight += f32::from_bits(u32::from(line.0[2 * column + term / SIDE]) << 16);
            }
        }
    }
    weights
}
