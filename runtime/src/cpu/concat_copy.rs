//! Concatenation: each row of the output is one run of every input. The output is cut into pieces of equal
//! length regardless of rows, so that one long row is shared among threads like many short ones.

use super::RunContext;
use super::movement::{Movement, Unit};
use super::split::{for_each_chunk, rows_per_chunk};
use crate::error::OpError;
use smallvec::SmallVec;

/// A copy of runs of several inputs in turn.
#[derive(Debug)]
pub(crate) struct ConcatCopy {
    /// Elements that each input gives to a row.
    runs: SmallVec<[usize; 8]>,
    row: usize,
}

impl ConcatCopy {
    /// Rows of `runs[i]` elements of input `i`.
    pub(crate) fn new(runs: SmallVec<[usize; 8]>) -> Self {
        let row = runs.iter().fold(0usize, |n, &r| n.saturating_add(r));
        Self { runs, row }
    }

    /// The same for elements that are each `width` of a smaller kind.
    pub(crate) fn scaled(&self, width: usize) -> Self {
        Self::new(self.runs.iter().map(|r| r.saturating_mul(width)).collect())
    }
}

impl Movement for ConcatCopy {
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError> {
        if to.is_empty() {
            return Ok(());
        }
        let rows = to.len().checked_div(self.row).unwrap_or(0);
        let fits = from.len() == self.runs.len()
            && rows * self.row == to.len()
            && from.iter().zip(&self.runs).all(|(f, run)| f.len() == rows * run);
        if !fits {
            return Err(OpError::internal("a concatenation of other lengths than its inputs'"));
        }
        let chunk = rows_per_chunk(to.len(), 1, context.team.threads());
        for_each_chunk(context, to, chunk, |i, mut piece| {
            let mut row = i * chunk / self.row;
            let mut skip = i * chunk % self.row;
            loop {
                for (from, &run) in from.iter().zip(&self.runs) {
                    let skipped = skip.min(run);
                    skip -= skipped;
                    let count = (run - skipped).min(piece.len());
                    let (head, tail) = piece.split_at_mut(count);
                    head.clone_from_slice(&from[row * run + skipped..][..count]);
                    piece = tail;
                    if piece.is_empty() {
                        return;
                    }
                }
                row += 1;
            }
        })
    }
}
