//! The arena: one buffer in which every intermediate tensor has a fixed place, and the way to borrow some of
//! its places for reading and others for writing at once.

use crate::memory::{Buffer, no_bytes};
use smallvec::SmallVec;
use std::ops::Range;

/// Places start at multiples of this, so that they are aligned for every element type and vector width.
pub(crate) const STEP: usize = 64;

/// Values that what runs at once may write without a run allocating: the outputs of four layers of a wavefront.
pub(super) const PLACES: usize = 12;

/// Shared pieces of a carved arena: everything that is not being written.
pub(super) struct Shared<'a> {
    pieces: SmallVec<[(usize, &'a [u8]); PLACES + 1]>,
}

impl<'a> Shared<'a> {
    /// The bytes of `range`, or `None` when a part of it is being written.
    pub(super) fn get(&self, range: Range<usize>) -> Option<&'a [u8]> {
        if range.is_empty() {
            return Some(no_bytes());
        }
        let at = self.pieces.partition_point(|(start, _)| *start <= range.start).checked_sub(1)?;
        let (start, piece) = self.pieces[at];
        piece.get(range.start - start..range.end - start)
    }
}

/// Splits `arena` into the ranges of `writes`, given with the index that each is for, and the rest. The
/// ranges must not overlap; `None` when they do or leave the arena.
pub(super) fn carve<'a>(
    arena: &'a mut Buffer,
    mut writes: SmallVec<[(Range<usize>, usize); PLACES]>,
    mut place: impl FnMut(usize, &'a mut [u8]),
) -> Option<Shared<'a>> {
    writes.sort_by_key(|(range, _)| range.start);
    let mut pieces = SmallVec::new();
    let mut rest = arena.bytes_mut();
    let mut at = 0;
    for (range, index) in writes {
        if range.is_empty() {
            place(index, no_bytes());
            continue;
        }
        let gap = range.start.checked_sub(at)?;
        let (before, tail) = rest.split_at_mut_checked(gap)?;
        let (own, tail) = tail.split_at_mut_checked(range.len())?;
        pieces.push((at, &*before));
        place(index, own);
        at = range.end;
        rest = tail;
    }
    pieces.push((at, &*rest));
    Some(Shared { pieces })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;

    #[test]
    fn carves_reads_from_around_writes() {
        let mut arena = Buffer::zeroed(100, &Budget::unlimited()).expect("small");
        arena.bytes_mut().iter_mut().enumerate().for_each(|(i, b)| *b = i as u8);
        let mut got = Vec::new();
        let shared =
            carve(&mut arena, [(40..60, 1), (0..10, 0), (70..70, 2)].into_iter().collect(), |i, b| {
                got.push((i, b.len()));
            })
            .expect("disjoint");
        assert_eq!(shared.get(10..40).expect("free")[0], 10);
        assert_eq!(shared.get(60..100).expect("free")[39], 99);
        assert!(shared.get(30..41).is_none());
        assert!(shared.get(0..1).is_none());
        assert_eq!(got, [(0, 10), (1, 20), (2, 0)]);
        assert!(bytemuck::try_cast_slice::<u8, f64>(shared.get(5..5).expect("empty")).is_ok());
        drop(shared);
        assert!(carve(&mut arena, [(0..10, 0), (9..12, 1)].into_iter().collect(), |_, _| ()).is_none());
    }
}
