//! Blocks of steps whose W·x is computed at once.
//!
//! A kernel cuts its sequence into blocks of equal size. How many rows a block has chooses the kernel of its product, and so
//! the order of sums; a piece of a sequence therefore knows of which blocks its steps are, and gives the bits that the whole
//! sequence gives, wherever it was cut.

use super::layout::Layout;
use crate::cpu::panels::unit;
use crate::dtype::DType;
use crate::error::OpError;
use crate::ops::recurrence::{Block, Recurrence};
use std::ops::Range;

/// Rows of W·x computed at once: enough to make reading W cheap.
const LEAST_ROWS: usize = 96;
/// The same on the matrix unit, for which weights are taken apart each time.
const UNIT_ROWS: usize = 192;
/// Bytes of W·x up to which more rows are taken at once.
const BYTES: usize = 512 << 10;

/// The blocks of a kernel's steps.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// Those of a piece; none of a whole sequence.
    piece: Vec<Block>,
    /// Steps of a block of a whole sequence.
    each: usize,
}

impl Blocks {
    /// Those of `time` steps of `batch` rows, with `computed` bytes of an element.
    pub(super) fn new(
        recurrence: &Recurrence,
        layout: &Layout,
        computed: usize,
        [time, batch]: [usize; 2],
    ) -> Result<Self, OpError> {
        let piece = recurrence.piece.clone();
        if !piece.is_empty() && piece.iter().map(|block| block.steps).sum::<usize>() != time {
            return Err(OpError::internal("a piece of a sequence of another length"));
        }
        Ok(Self { piece, each: steps_of_block(layout, computed, time, batch) })
    }

    /// Block `index`.
    pub(super) fn get(&self, index: usize) -> Block {
        self.piece.get(index).copied().unwrap_or(Block { steps: self.each, of: self.each })
    }

    /// Most steps of a block, and of what it is a part of.
    pub(super) fn most(&self) -> Block {
        let most = |of: fn(&Block) -> usize| self.piece.iter().map(of).max().unwrap_or(self.each);
        Block { steps: most(|block| block.steps), of: most(|block| block.of) }
    }
}

/// Steps of a block.
fn steps_of_block(layout: &Layout, computed: usize, time: usize, batch: usize) -> usize {
    let step_bytes = layout.panels(1).saturating_mul(computed).saturating_mul(batch);
    let on_unit =
        computed == size_of::<f32>() && unit::group_rows(layout.input, (UNIT_ROWS, UNIT_ROWS)).is_some();
    let least = if on_unit { UNIT_ROWS } else { LEAST_ROWS };
    let rows = (BYTES / step_bytes.max(1)).saturating_mul(batch).max(least);
    rows.div_ceil(batch.max(1)).clamp(1, time.max(1))
}

/// How a sequence is cut into pieces that, run one after the other with the state handed on, give its bits.
#[derive(Debug)]
pub(crate) struct Pieces {
    time: usize,
    /// Steps of its blocks.
    each: usize,
}

impl Pieces {
    /// Of a recurrence of such extents; `None` where there are none: a state of a narrow type is kept wide inside a kernel,
    /// and would be rounded between two, and what is a piece is not cut again.
    pub(crate) fn new(
        recurrence: &Recurrence,
        dtype: DType,
        [time, batch, input, hidden]: [usize; 4],
    ) -> Option<Self> {
        if !matches!(dtype, DType::F32 | DType::F64) || !recurrence.piece.is_empty() {
            return None;
        }
        let layout = Layout::new(recurrence.cell, input, hidden).ok()?;
        Some(Self { time, each: steps_of_block(&layout, dtype.bits() / 8, time, batch) })
    }

    /// The end of piece `index` of `count`: they are of nearly equal length, of whole blocks where there are enough.
    pub(crate) fn end(&self, index: usize, count: usize) -> usize {
        let unit = if self.time / self.each >= count { self.each } else { 1 };
        if index + 1 == count { self.time } else { (index + 1) * (self.time / unit) / count * unit }
    }

    /// The blocks of the steps `steps`; none where they are those of a sequence by itself.
    pub(crate) fn blocks(&self, steps: Range<usize>) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut at = steps.start;
        while at < steps.end {
            let first = at / self.each * self.each;
            let (end, of) = (steps.end.min(first + self.each), self.each.min(self.time - first));
            blocks.push(Block { steps: end - at, of });
            at = end;
        }
        // Blocks of another number of steps would be of as many, or of all steps where they are fewer.
        let own = blocks.iter().all(|block| block.steps == block.of);
        if own { Vec::new() } else { blocks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_of_nearly_equal_length_and_know_their_blocks() {
        let pieces = Pieces { time: 64, each: 64 };
        assert_eq!((0..4).map(|piece| pieces.end(piece, 4)).collect::<Vec<_>>(), [16, 32, 48, 64]);
        assert_eq!(pieces.blocks(16..32), [Block { steps: 16, of: 64 }]);
        assert_eq!(pieces.blocks(0..64), []);
        let pieces = Pieces { time: 100, each: 30 };
        assert_eq!((0..3).map(|piece| pieces.end(piece, 3)).collect::<Vec<_>>(), [30, 60, 100]);
        assert_eq!(pieces.blocks(30..60), [], "whole blocks are those of a sequence by itself");
        assert_eq!(pieces.blocks(60..100), [], "and the last one is shorter there, too");
        assert_eq!(
            (0..8).map(|piece| pieces.end(piece, 8)).collect::<Vec<_>>(),
            [12, 25, 37, 50, 62, 75, 87, 100]
        );
        let [block, last] = [Block { steps: 5, of: 30 }, Block { steps: 7, of: 30 }];
        assert_eq!(pieces.blocks(25..37), [block, last]);
        assert_eq!(pieces.blocks(87..100), [Block { steps: 3, of: 30 }, Block { steps: 10, of: 10 }]);
    }
}
