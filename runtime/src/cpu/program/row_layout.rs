//! How the inputs of a row program lie in memory, and how many rows are worked on at once.

use super::compiled::Reach;
use crate::loops::rows::RowProgram;
use bytemuck::{Pod, cast_slice, cast_slice_mut};
use smallvec::SmallVec;

/// Bytes of a scalar's place.
pub(super) const CELL: usize = 8;
/// Bytes of rows that are worked on at once, and their number at most.
const CACHED: usize = 40 << 10;
pub(super) const LANES: usize = 16;

/// How an input lies under the rows: the element at the front of the first, and by how many elements a step along
/// each axis of rows, and along a row, moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RowLayout {
    /// First element.
    pub(crate) offset: usize,
    /// From row to row, along each of their axes.
    pub(crate) rows: SmallVec<[usize; 4]>,
    /// From run to run: 0 or 1.
    pub(crate) column: usize,
    /// How many neighbours along a row are one element.
    pub(crate) run: usize,
}

impl RowLayout {
    /// Rows along one axis, `row` elements from each other, or the same elements in all of them where it is 0.
    pub(crate) fn plain(row: usize) -> Self {
        Self { offset: 0, rows: SmallVec::from_slice(&[row]), column: 1, run: 1 }
    }

    /// How the loops over a row read it.
    pub(super) fn reach(&self) -> Reach {
        match (self.column, self.run) {
            (0, _) => Reach::One,
            (_, 1) => Reach::Run,
            _ => Reach::Gathered,
        }
    }

    /// The layout under axes of extents `rows` without the axes of extent 1.
    pub(super) fn moving(mut self, rows: &[usize]) -> Self {
        let kept = self.rows.iter().zip(rows).filter(|(_, extent)| **extent != 1).map(|(stride, _)| *stride);
        self.rows = kept.collect();
        self
    }

    /// The front of row `row`, whose axes have the extents `rows`.
    pub(super) fn start(&self, rows: &[usize], mut row: usize) -> usize {
        let Some((first, rest)) = self.rows.split_first() else { return self.offset };
        let mut at = self.offset;
        for (extent, stride) in rows[1..].iter().zip(rest).rev() {
            at += row % extent * stride;
            row /= extent;
        }
        at + row * first
    }

    /// Elements from row to row along the last axis.
    pub(super) fn step(&self) -> usize {
        self.rows.last().copied().unwrap_or(0)
    }

    /// Elements that there must be for rows of `length`.
    pub(super) fn needed(&self, rows: &[usize], length: usize) -> Option<usize> {
        let last = rows.iter().zip(&self.rows).try_fold(self.offset, |at, (extent, stride)| {
            at.checked_add(extent.checked_sub(1)?.checked_mul(*stride)?)
        })?;
        let along = length.checked_sub(1)?.checked_div(self.run)?.checked_mul(self.column)?;
        last.checked_add(along)?.checked_add(1)
    }
}

/// The elements of `width` bytes from position `from` on of a row that lies at `row`, `run` neighbours of which are one.
pub(super) fn spread(row: &[u8], (run, from): (usize, usize), width: usize, to: &mut [u8]) {
    match width {
        1 => spread_as::<u8>(row, (run, from), to),
        2 => spread_as::<u16>(row, (run, from), to),
        4 => spread_as::<u32>(row, (run, from), to),
        _ => spread_as::<u64>(row, (run, from), to),
    }
}

fn spread_as<T: Pod>(row: &[u8], (run, from): (usize, usize), to: &mut [u8]) {
    let to: &mut [T] = cast_slice_mut(to);
    let row = &row[..row.len() / size_of::<T>() * size_of::<T>()];
    let (first, rest) = to.split_at_mut((run - from % run).min(to.len()));
    let runs = std::iter::once(first).chain(rest.chunks_mut(run));
    for (run, element) in runs.zip(&cast_slice::<u8, T>(row)[from / run..]) {
        run.fill(*element);
    }
}

/// One element of each of `count` rows, the next `step` bytes behind the last, into `line`.
pub(super) fn collect(line: &mut [u8], (bytes, step): (&[u8], usize), width: usize, count: usize) {
    for row in 0..count {
        // A row of no elements has no first one.
        let Some(from) = bytes.get(row * step..row * step + width) else { return };
        let to = &mut line[row * width..][..width];
        match width {
            4 => to[..4].copy_from_slice(&from[..4]),
            8 => to[..8].copy_from_slice(&from[..8]),
            _ => to.copy_from_slice(from),
        }
    }
}

/// How many rows are worked on at once: as many as stay in the first cache, with the `kept` rows that are kept of each.
pub(super) fn lanes(program: &RowProgram, length: usize, layouts: &[RowLayout], kept: usize) -> usize {
    let along =
        layouts.iter().zip(&program.inputs).filter(|(l, _)| l.column == 1 && l.rows.iter().any(|&d| d != 0));
    let read: usize = along.map(|(_, dtype)| dtype.bits() / 8).sum();
    let written: usize = program.outputs.iter().filter(|o| !o.single).map(|o| o.dtype.bits() / 8).sum();
    let row = length.saturating_mul(read + written + kept * CELL / 2).max(1);
    (CACHED / row).clamp(1, LANES)
}
