//! Rows that are computed where they are needed: those of the left operand of a product, made block by block in a cache
//! instead of in memory, or the planes of what a convolution or a pool reads, each a row of the axes behind the channels.
//!
//! A row is one map, or several beside each other, each over its own columns: what is concatenated is never put
//! together in memory.

use super::row_epilogue::{Finish, RowEpilogue};
use super::tiles::{Chunks, Lanes, PARALLEL_WORK, for_each_tile};
use super::{Io, RunContext};
use crate::error::OpError;
use bytemuck::Pod;
use smallvec::SmallVec;

/// How rows are made, bound to shapes.
#[derive(Debug)]
pub(crate) struct RowFill {
    pieces: Vec<Piece>,
    columns: usize,
}

/// Some columns of every row.
#[derive(Debug)]
struct Piece {
    first: usize,
    width: usize,
    map: RowEpilogue,
}

impl RowFill {
    /// Rows of pieces beside each other: their columns, and the maps that make them.
    pub(crate) fn new(pieces: Vec<(usize, RowEpilogue)>) -> Result<Self, OpError> {
        let mut columns = 0usize;
        let mut placed = Vec::with_capacity(pieces.len());
        for (width, map) in pieces {
            placed.push(Piece { first: columns, width, map });
            let wider = columns.checked_add(width);
            columns = wider.ok_or_else(|| OpError::internal("a row beyond all memory"))?;
        }
        Ok(Self { pieces: placed, columns })
    }

    /// The maps with the operands of one run.
    pub(crate) fn bind<'a, 'i: 'a>(&'a self, io: &Io<'i, '_>) -> Result<Filler<'a>, OpError> {
        let maps = self.pieces.iter().map(|piece| Finish::reading(Some(&piece.map), io));
        Ok(Filler { fill: self, maps: maps.collect::<Result<_, OpError>>()? })
    }
}

/// A [`RowFill`] with its operands.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    fill: &'a RowFill,
    maps: SmallVec<[Finish<'a>; 2]>,
}

impl Filler<'_> {
    /// Writes all rows.
    pub(crate) fn fill_all<T: Pod + Send>(
        &self,
        context: RunContext<'_>,
        rows: &mut [T],
    ) -> Result<(), OpError> {
        let columns = self.fill.columns.max(1);
        let many = (PARALLEL_WORK / columns).max(1);
        let work = rows.len();
        let chunks = Chunks::new(rows, many.saturating_mul(columns));
        for_each_tile(context, work, Lanes::none(), &chunks, &|tile, rows, _| self.fill(tile * many, rows))
    }

    /// Writes the rows from `row` on, whole ones one behind the other.
    pub(crate) fn fill<T: Pod>(&self, row: usize, rows: &mut [T]) -> Result<(), OpError> {
        let RowFill { pieces, columns } = self.fill;
        if let [map] = self.maps.as_slice() {
            return map.apply_from(row * columns, rows);
        }
        for (i, values) in rows.chunks_exact_mut((*columns).max(1)).enumerate() {
            for (piece, map) in pieces.iter().zip(&self.maps) {
                map.apply_from((row + i) * piece.width, &mut values[piece.first..][..piece.width])?;
            }
        }
        Ok(())
    }
}
