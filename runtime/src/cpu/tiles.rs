//! Tiles of work over the team: each tile writes its own piece of the outputs, and each thread has its own
//! scratch memory.
//!
//! The tiling depends on shapes alone, never on the number of threads, so that results do not either.

use super::RunContext;
use crate::error::OpError;
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Operations below which a loop stays on the calling thread: waking a worker costs as much.
pub(crate) const PARALLEL_WORK: usize = 1 << 15;

/// A partition of outputs into pieces that do not overlap.
///
/// # Safety
/// - Pieces taken at different indices share no element.
/// - A piece stays within what the partition borrows.
pub(crate) unsafe trait Pieces: Sync {
    /// What one tile writes.
    type Piece;
    /// Number of tiles.
    fn count(&self) -> usize;
    /// The piece of tile `index`.
    ///
    /// # Safety
    /// - No index is taken twice.
    unsafe fn take(&self, index: usize) -> Self::Piece;
}

/// A slice cut into chunks of equal length, the last one shorter. Indices beyond the end give empty chunks,
/// so that an output that is not wanted can be an empty slice.
#[derive(Debug)]
pub(crate) struct Chunks<'a, T> {
    start: *mut T,
    len: usize,
    chunk: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a `Chunks` is a mutable slice that is handed out in disjoint parts, each to one thread.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// Cuts `slice` into chunks of `chunk` elements.
    pub(crate) fn new(slice: &'a mut [T], chunk: usize) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), chunk: chunk.max(1), slice: PhantomData }
    }
}

// SAFETY: chunk `i` is elements `i·chunk .. (i+1)·chunk`, clipped to the slice that is borrowed mutably.
unsafe impl<'a, T: Send> Pieces for Chunks<'a, T> {
    type Piece = &'a mut [T];

    fn count(&self) -> usize {
        self.len.div_ceil(self.chunk)
    }

    unsafe fn take(&self, index: usize) -> &'a mut [T] {
        let from = index.saturating_mul(self.chunk).min(self.len);
        let to = from.saturating_add(self.chunk).min(self.len);
        // SAFETY: `from <= to <= len`, so the range is inside the borrowed slice; the caller takes no index
        // twice, so nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), to - from) }
    }
}

// SAFETY: pieces are those of the partition within, or nothing.
unsafe impl<P: Pieces> Pieces for Option<P> {
    /// `None` beyond the last piece.
    type Piece = Option<P::Piece>;

    fn count(&self) -> usize {
        self.as_ref().map_or(0, P::count)
    }

    unsafe fn take(&self, index: usize) -> Self::Piece {
        let pieces = self.as_ref().filter(|pieces| index < pieces.count())?;
        // SAFETY: the caller's promise is passed on.
        Some(unsafe { pieces.take(index) })
    }
}

// SAFETY: pieces of different indices are disjoint in each part of the tuple.
unsafe impl<A: Pieces, B: Pieces> Pieces for (A, B) {
    type Piece = (A::Piece, B::Piece);

    fn count(&self) -> usize {
        self.0.count().max(self.1.count())
    }

    unsafe fn take(&self, index: usize) -> Self::Piece {
        // SAFETY: the caller's promise is passed on.
        let first = unsafe { self.0.take(index) };
        // SAFETY: as above.
        (first, unsafe { self.1.take(index) })
    }
}

// SAFETY: pieces of different indices are disjoint in each part of the tuple.
unsafe impl<A: Pieces, B: Pieces, C: Pieces> Pieces for (A, B, C) {
    type Piece = (A::Piece, B::Piece, C::Piece);

    fn count(&self) -> usize {
        self.0.count().max(self.1.count()).max(self.2.count())
    }

    unsafe fn take(&self, index: usize) -> Self::Piece {
        // SAFETY: the caller's promise is passed on.
        let first = unsafe { self.0.take(index) };
        // SAFETY: as above.
        let second = unsafe { self.1.take(index) };
        // SAFETY: as above.
        (first, second, unsafe { self.2.take(index) })
    }
}

/// Several partitions with pieces of the same indices; each piece is one of each. Beyond its own last piece a partition
/// of chunks gives empty ones.
#[derive(Debug)]
pub(crate) struct Each<P>(pub(crate) SmallVec<[P; 4]>);

// SAFETY: pieces of different indices are disjoint in each partition, and the partitions borrow mutably.
unsafe impl<P: Pieces> Pieces for Each<P> {
    type Piece = SmallVec<[P::Piece; 4]>;

    fn count(&self) -> usize {
        self.0.iter().map(Pieces::count).max().unwrap_or(0)
    }

    unsafe fn take(&self, index: usize) -> Self::Piece {
        // SAFETY: the caller's promise is passed on.
        self.0.iter().map(|part| unsafe { part.take(index) }).collect()
    }
}

/// Pieces of several parts of equal length, one part behind the other, in another order: the first of each part, then the
/// second of each, and so on.
#[derive(Debug)]
pub(crate) struct Across<P> {
    pieces: P,
    parts: usize,
}

impl<P: Pieces> Across<P> {
    /// Of `parts` parts; of one where they would not be of equal length.
    pub(crate) fn new(pieces: P, parts: usize) -> Self {
        let equal = pieces.count().checked_rem(parts) == Some(0);
        Self { parts: if equal { parts } else { 1 }, pieces }
    }

    /// Where the piece of tile `index` is in the order within.
    pub(crate) fn place(&self, index: usize) -> usize {
        let each = self.pieces.count() / self.parts;
        index % self.parts * each + index / self.parts
    }
}

// SAFETY: `place` is one to one for the indices below the count, as it is a transposition of `parts` rows.
unsafe impl<P: Pieces> Pieces for Across<P> {
    type Piece = P::Piece;

    fn count(&self) -> usize {
        self.pieces.count()
    }

    unsafe fn take(&self, index: usize) -> Self::Piece {
        // SAFETY: no index is taken twice, so no place is.
        unsafe { self.pieces.take(self.place(index)) }
    }
}

/// Scratch memory of a run, one part per thread.
#[derive(Debug)]
pub(crate) struct Lanes<'a> {
    bytes: &'a mut [u8],
    each: usize,
}

impl<'a> Lanes<'a> {
    /// Parts of `each` bytes; see [`Lanes::bytes`].
    pub(crate) fn new(bytes: &'a mut [u8], each: usize) -> Self {
        Self { bytes, each: Self::rounded(each) }
    }

    /// Nothing for each thread.
    pub(crate) fn none() -> Self {
        Self { bytes: &mut [], each: 0 }
    }

    /// Scratch bytes to ask for, so that `threads` threads have `each` bytes. Each part is aligned to 64.
    pub(crate) fn bytes(each: usize, threads: usize) -> usize {
        Self::rounded(each).saturating_mul(threads.max(1))
    }

    fn rounded(each: usize) -> usize {
        each.checked_next_multiple_of(64).unwrap_or(usize::MAX)
    }
}

/// What is done with a tile: its index, its piece of the outputs, the thread's scratch memory.
pub(crate) type Body<'a, P> = &'a (dyn Fn(usize, P, &mut [u8]) -> Result<(), OpError> + Sync);

/// Runs of neighbouring tiles, at most: one for each thread, or for some of more threads together.
const RUNS: usize = 64;

/// The next tile of a run, on a line of memory of its own: threads that take tiles of different runs do not meet.
#[repr(align(64))]
struct Next(AtomicUsize);

/// Runs `body(index, piece, scratch)` for every tile, on several threads when `work`, a number of operations,
/// makes it worth while. Each thread begins with neighbours that are its own, the same in every run, since what they read
/// and write may still lie in its caches; of these it claims half of what is left at a time. Then it takes what others have
/// left, but for the last tile of each, which comes sooner from the caches of a thread that is about to end. Ends early when
/// the run is interrupted or a tile errs.
pub(crate) fn for_each_tile<P: Pieces>(
    context: RunContext<'_>,
    work: usize,
    lanes: Lanes<'_>,
    pieces: &P,
    body: Body<'_, P::Piece>,
) -> Result<(), OpError> {
    let count = pieces.count();
    let threads = threads(context, work, &lanes, count);
    let runs = threads.min(RUNS);
    let first = |run: usize| run * count / runs;
    let next: SmallVec<[Next; RUNS]> = (0..runs).map(|run| Next(AtomicUsize::new(first(run)))).collect();
    debug_assert!(!next.spilled());
    let tiles = Tiles::new(context, lanes, pieces, body);
    context.team.for_each_own(threads, &|thread| {
        let own = thread * runs / threads;
        let (mut of, mut claimed) = (own..own + runs, 0..0);
        tiles.run(thread, || {
            while claimed.is_empty() && !of.is_empty() {
                let (run, others) = (of.start % runs, of.start != own);
                let left = first(run + 1).saturating_sub(next[run].0.load(Ordering::Relaxed));
                if left > usize::from(others) {
                    let many = if others { 1 } else { left.div_ceil(2) };
                    let from = next[run].0.fetch_add(many, Ordering::Relaxed);
                    claimed = from..first(run + 1).min(from + many);
                } else {
                    of.start += 1;
                }
            }
            claimed.next()
        });
    });
    tiles.end()
}

/// The same where each thread has its own tiles, neighbours, the same in every run: what they read stays in its caches.
pub(crate) fn for_each_own_tile<P: Pieces>(
    context: RunContext<'_>,
    work: usize,
    lanes: Lanes<'_>,
    pieces: &P,
    body: Body<'_, P::Piece>,
) -> Result<(), OpError> {
    let count = pieces.count();
    let threads = threads(context, work, &lanes, count);
    let tiles = Tiles::new(context, lanes, pieces, body);
    context.team.for_each_own(threads, &|thread| {
        let mut own = thread * count / threads..(thread + 1) * count / threads;
        tiles.run(thread, || own.next());
    });
    tiles.end()
}

/// How many threads `count` tiles of `work` operations in all are worth.
fn threads(context: RunContext<'_>, work: usize, lanes: &Lanes<'_>, count: usize) -> usize {
    let most = lanes.bytes.len().checked_div(lanes.each).unwrap_or(count);
    let threads = if work < PARALLEL_WORK { 1 } else { context.team.threads() };
    threads.min(most).min(count).max(1)
}

/// Tiles that run, and how they fared.
struct Tiles<'r, 's, P: Pieces> {
    context: RunContext<'r>,
    scratch: Chunks<'s, u8>,
    pieces: &'r P,
    body: Body<'r, P::Piece>,
    failed: AtomicBool,
    failure: Mutex<Option<OpError>>,
}

impl<'r, 's, P: Pieces> Tiles<'r, 's, P> {
    fn new(context: RunContext<'r>, lanes: Lanes<'s>, pieces: &'r P, body: Body<'r, P::Piece>) -> Self {
        let Lanes { bytes, each } = lanes;
        let scratch = Chunks::new(bytes, each);
        Self { context, scratch, pieces, body, failed: AtomicBool::new(false), failure: Mutex::new(None) }
    }

    /// Runs the tiles that `next` names, each of which is named once, until one of any thread errs. Each thread calls
    /// it once.
    fn run(&self, thread: usize, mut next: impl FnMut() -> Option<usize>) {
        // SAFETY: each thread calls this once, with its own number, so each index is taken once.
        let own = unsafe { self.scratch.take(thread) };
        while let Some(index) = next() {
            if self.failed.load(Ordering::Relaxed) {
                return;
            }
            let done = self.context.interrupt.check().and_then(|()| {
                // SAFETY: each index is named once.
                let piece = unsafe { self.pieces.take(index) };
                (self.body)(index, piece, own)
            });
            if let Err(error) = done {
                self.failed.store(true, Ordering::Relaxed);
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        }
    }

    fn end(self) -> Result<(), OpError> {
        self.failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Interrupt, Team};
    use crate::memory::Budget;

    #[test]
    fn every_tile_runs_once_with_its_own_piece() {
        let (team, interrupt, budget) = (Team::new(3, false), Interrupt::default(), Budget::unlimited());
        let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
        for len in [0, 1, 7, 100, 1000] {
            let (mut a, mut b) = (vec![0u32; len], vec![0u8; len / 2]);
            let mut scratch = vec![0u8; Lanes::bytes(5, 3)];
            let pieces = (Chunks::new(&mut a, 10), Chunks::new(&mut b, 5));
            let body: Body<'_, (&mut [u32], &mut [u8])> = &|i, (a, b), own| {
                assert_eq!(own.len(), 64);
                for v in a {
                    *v += i as u32 + 1;
                }
                for v in b {
                    *v += 1;
                }
                Ok(())
            };
            for_each_tile(context, usize::MAX, Lanes::new(&mut scratch, 5), &pieces, body).expect("runs");
            for_each_own_tile(context, usize::MAX, Lanes::new(&mut scratch, 5), &pieces, body).expect("runs");
            assert!(a.iter().enumerate().all(|(i, &v)| v as usize == 2 * (i / 10 + 1)));
            assert!(b.iter().all(|&v| v == 2));
        }
        let (many, mut a) = (Team::new(RUNS + 6, false), vec![0u8; 200]);
        let context = RunContext { team: &many, ..context };
        let body: Body<'_, &mut [u8]> = &|i, a, _| {
            a[0] += i as u8 + 1;
            Ok(())
        };
        for_each_tile(context, usize::MAX, Lanes::none(), &Chunks::new(&mut a, 1), body).expect("runs");
        assert!(a.iter().enumerate().all(|(i, &v)| usize::from(v) == i + 1));
        for own in [false, true] {
            let mut a = vec![0u8; 50];
            let (pieces, fails) = (Chunks::new(&mut a, 1), &|i: usize, _: &mut [u8], _: &mut [u8]| {
                if i == 3 { Err(OpError::value("planted")) } else { Ok(()) }
            });
            let none = Lanes::none();
            assert!(if own {
                for_each_own_tile(context, usize::MAX, none, &pieces, fails).is_err()
            } else {
                for_each_tile(context, 0, none, &pieces, fails).is_err()
            });
        }
    }
}
