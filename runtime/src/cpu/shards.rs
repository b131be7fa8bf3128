//! One buffer written by several threads at once, each its own piece of every row.
//!
//! A buffer of `[rows, row]` elements is split by claims: a claim is a range of columns in those rows whose
//! *plane*, `(row index / inner) mod planes`, is a given one. That is how the directions of a recurrence
//! (planes) and the hidden units of a thread (columns) lie in `Y`. Claims are checked to be disjoint before a
//! piece is handed out, so a piece is an exclusive borrow like any other.

use std::marker::PhantomData;
use std::ops::Range;

/// How the rows of a buffer are numbered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Bytes of a row.
    pub(crate) bytes: usize,
    /// Consecutive rows that lie in the same plane.
    pub(crate) inner: usize,
    /// Number of planes.
    pub(crate) planes: usize,
}

/// What one piece holds: bytes `columns` of the rows in plane `plane`.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) plane: usize,
    pub(crate) columns: Range<usize>,
}

/// The piece of a buffer that one thread writes.
#[derive(Debug)]
pub(crate) struct Shard<'a> {
    base: *mut u8,
    len: usize,
    rows: Rows,
    claim: Claim,
    _buffer: PhantomData<&'a mut [u8]>,
}

// SAFETY: a shard is an exclusive borrow of its claim's bytes, which no other shard touches.
unsafe impl Send for Shard<'_> {}

/// One shard per claim; `None` when two claims overlap or one leaves the rows.
pub(crate) fn split<'a, 'c>(
    data: &'a mut [u8],
    rows: Rows,
    claims: &'c [Claim],
) -> Option<impl ExactSizeIterator<Item = Shard<'a>> + use<'a, 'c>> {
    for (i, a) in claims.iter().enumerate() {
        let apart = |b: &Claim| {
            a.plane != b.plane || a.columns.end <= b.columns.start || b.columns.end <= a.columns.start
        };
        if a.columns.start > a.columns.end || a.columns.end > rows.bytes || !claims[..i].iter().all(apart) {
            return None;
        }
    }
    let (base, len) = (data.as_mut_ptr(), data.len());
    let shard = move |claim: &Claim| Shard { base, len, rows, claim: claim.clone(), _buffer: PhantomData };
    Some(claims.iter().map(shard))
}

impl Shard<'_> {
    /// The same piece for a shorter time.
    pub(crate) fn reborrow(&mut self) -> Shard<'_> {
        let Self { base, len, rows, ref claim, .. } = *self;
        Shard { base, len, rows, claim: claim.clone(), _buffer: PhantomData }
    }

    /// The claimed bytes of row `index`; empty when the row is in another plane or past the end.
    pub(crate) fn row(&mut self, index: usize) -> &mut [u8] {
        let Rows { bytes, inner, planes } = self.rows;
        let Range { start, end } = self.claim.columns;
        let own = inner != 0 && planes != 0 && index / inner % planes == self.claim.plane;
        let inside = bytes != 0 && index < self.len / bytes;
        if !own || !inside {
            return &mut [];
        }
        // SAFETY: `index · bytes + end ≤ (len / bytes) · bytes ≤ len`, so the range is inside the buffer, which
        // stays borrowed for the shard's lifetime; claims are disjoint, so no other shard gives these bytes,
        // and this one gives them under an exclusive borrow of itself.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(index * bytes + start), end - start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_disjoint_and_cover_their_claims() {
        let mut data = vec![0u8; 4 * 6];
        let rows = Rows { bytes: 6, inner: 1, planes: 2 };
        let claim = |plane, columns| Claim { plane, columns };
        let claims = [claim(0, 0..4), claim(0, 4..6), claim(1, 0..6)];
        let mut shards: Vec<Shard<'_>> = split(&mut data, rows, &claims).expect("disjoint").collect();
        for (value, shard) in shards.iter_mut().enumerate() {
            for row in 0..5 {
                shard.row(row).fill(value as u8 + 1);
            }
        }
        drop(shards);
        assert_eq!(data, [[1, 1, 1, 1, 2, 2], [3; 6], [1, 1, 1, 1, 2, 2], [3; 6]].concat());
        assert!(split(&mut data, rows, &[claim(0, 0..4), claim(0, 3..6)]).is_none());
        assert!(split(&mut data, rows, &[claim(0, 0..7)]).is_none());
    }
}
