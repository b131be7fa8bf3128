//! One output slice shared out among threads.

use super::io::RunContext;
use crate::error::OpError;
use std::sync::atomic::{AtomicBool, Ordering};

struct Start<T>(*mut T);

// SAFETY: the pointer is only used to make slices that do not overlap, each on one thread; that moves the
// elements' ownership to that thread for the time of the call, which `T: Send` allows.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    fn get(&self) -> *mut T {
        self.0
    }
}

/// Cuts `out` into pieces of `chunk` elements, the last one shorter, and calls `body` with the number and the
/// elements of each, on any of the run's threads. Errs, with what is left not called for, when the run is interrupted.
pub(crate) fn for_each_chunk<T: Send>(
    context: RunContext<'_>,
    out: &mut [T],
    chunk: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) -> Result<(), OpError> {
    let RunContext { team, interrupt, .. } = context;
    let chunk = chunk.max(1);
    let len = out.len();
    let parts = len.div_ceil(chunk);
    if parts <= 1 {
        out.chunks_mut(chunk).for_each(|piece| body(0, piece));
        return Ok(());
    }
    if team.threads() == 1 {
        return out.chunks_mut(chunk).enumerate().try_for_each(|(i, piece)| {
            interrupt.check()?;
            body(i, piece);
            Ok(())
        });
    }
    let start = Start(out.as_mut_ptr());
    let ended = AtomicBool::new(false);
    team.for_each(parts, &|i| {
        if ended.load(Ordering::Relaxed) || interrupt.check().is_err() {
            ended.store(true, Ordering::Relaxed);
            return;
        }
        let from = i * chunk;
        let count = chunk.min(len - from);
        // SAFETY: `i < parts`, so `from < len` and `from + count ≤ len`: the piece lies in `out`, which is
        // borrowed for the whole call. `for_each` runs each `i` once, and pieces of different `i` are
        // disjoint.
        let piece = unsafe { std::slice::from_raw_parts_mut(start.get().add(from), count) };
        body(i, piece);
    });
    // What ended it stays so.
    if ended.into_inner() { interrupt.check() } else { Ok(()) }
}

/// Rows per piece for `rows` rows of `row` elements each: all of them where the work is too small to share,
/// else some pieces per thread so that uneven threads even out, and none so large that a deadline would wait for it.
pub(crate) fn rows_per_chunk(rows: usize, row: usize, threads: usize) -> usize {
    /// Fewer elements than this are not worth another thread's wake-up.
    const GRAIN: usize = 1 << 15;
    const PIECES_PER_THREAD: usize = 4;
    /// Elements between two looks at the deadline.
    const MOST: usize = 1 << 22;
    let most = (MOST / row.max(1)).max(1);
    if threads <= 1 || rows.saturating_mul(row) <= GRAIN {
        return rows.clamp(1, most);
    }
    rows.div_ceil(PIECES_PER_THREAD * threads).max(GRAIN.div_ceil(row.max(1))).min(most)
}

/// Calls `body(start, piece)` for pieces of `out` that begin at element `start` and together are `out`, on the
/// run's threads where that pays, and errs when the run is interrupted.
pub(crate) fn for_each_piece<T: Send>(
    context: RunContext<'_>,
    out: &mut [T],
    body: impl Fn(usize, &mut [T]) + Sync,
) -> Result<(), OpError> {
    // Behind one pointer, so that loops are not compiled once for one thread and again for several.
    for_each_piece_of(context, out, &body)
}

fn for_each_piece_of<T: Send>(
    context: RunContext<'_>,
    out: &mut [T],
    body: &(dyn Fn(usize, &mut [T]) + Sync),
) -> Result<(), OpError> {
    /// Small enough to balance, large enough to pay for a hand-over.
    const PIECE: usize = 1 << 14;
    /// Elements between two looks at the deadline.
    const BLOCK: usize = 1 << 22;
    if out.len() < 2 * PIECE {
        body(0, out);
        return Ok(());
    }
    for (block, part) in out.chunks_mut(BLOCK).enumerate() {
        context.interrupt.check()?;
        for_each_chunk(context, part, PIECE, |i, piece| body(block * BLOCK + i * PIECE, piece))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{CancelToken, Interrupt, Team};
    use crate::memory::Budget;

    #[test]
    fn every_element_is_in_one_piece() {
        let (team, interrupt, budget) = (Team::new(3, false), Interrupt::default(), Budget::unlimited());
        let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
        for len in [0usize, 1, 7, 64, 1000] {
            for chunk in [0usize, 1, 3, 64, 2000] {
                let mut out = vec![0usize; len];
                let made = for_each_chunk(context, &mut out, chunk, |i, piece| {
                    for (j, v) in piece.iter_mut().enumerate() {
                        *v += 1 + i * chunk.max(1) + j;
                    }
                });
                made.expect("nobody interrupts it");
                assert!(out.iter().enumerate().all(|(i, &v)| v == i + 1), "{len} by {chunk}");
            }
        }
    }

    #[test]
    fn what_is_left_of_an_interrupted_run_is_not_made() {
        for threads in [1, 3] {
            let token = CancelToken::new();
            let interrupt = Interrupt { deadline: None, cancel: Some(token.clone()) };
            let (team, budget) = (Team::new(threads, false), Budget::unlimited());
            let context = RunContext { team: &team, interrupt: &interrupt, budget: &budget, times: None };
            let mut out = vec![0u32; 1000];
            let made = for_each_chunk(context, &mut out, 10, |_, piece| {
                token.cancel();
                piece.fill(1);
            });
            assert!(matches!(made, Err(OpError::Cancelled)), "{made:?}");
            let made = out.iter().filter(|&&v| v == 1).count();
            assert!((10..=10 * threads).contains(&made), "{made} elements on {threads} threads");
        }
    }

    #[test]
    fn pieces_of_a_large_output_are_no_larger_than_what_a_deadline_may_wait_for() {
        for threads in [1, 2, 64] {
            assert_eq!(rows_per_chunk(1 << 33, 1, threads), 1 << 22);
            assert_eq!(rows_per_chunk(1 << 10, 1 << 23, threads), 1);
            assert_eq!(rows_per_chunk(3, 5, threads), 3);
        }
    }
}
