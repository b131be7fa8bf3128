//! One output slice shared out among threads.

use super::io::RunContext;
use crate::error::OpError;
use crate::exec::Team;

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
/// elements of each, on any of the team's threads.
pub(crate) fn for_each_chunk<T: Send>(
    team: &Team,
    out: &mut [T],
    chunk: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    let chunk = chunk.max(1);
    let len = out.len();
    let parts = len.div_ceil(chunk);
    if parts <= 1 || team.threads() == 1 {
        out.chunks_mut(chunk).enumerate().for_each(|(i, piece)| body(i, piece));
        return;
    }
    let start = Start(out.as_mut_ptr());
    team.for_each(parts, &|i| {
        let from = i * chunk;
        let count = chunk.min(len - from);
        // SAFETY: `i < parts`, so `from < len` and `from + count ≤ len`: the piece lies in `out`, which is
        // borrowed for the whole call. `for_each` runs each `i` once, and pieces of different `i` are
        // disjoint.
        let piece = unsafe { std::slice::from_raw_parts_mut(start.get().add(from), count) };
        body(i, piece);
    });
}

/// Rows per piece for `rows` rows of `row` elements each: all of them where the work is too small to share,
/// else some pieces per thread so that uneven threads even out.
pub(crate) fn rows_per_chunk(rows: usize, row: usize, threads: usize) -> usize {
    /// Fewer elements than this are not worth another thread's wake-up.
    const GRAIN: usize = 1 << 15;
    const PIECES_PER_THREAD: usize = 4;
    if threads <= 1 || rows.saturating_mul(row) <= GRAIN {
        return rows.max(1);
    }
    rows.div_ceil(PIECES_PER_THREAD * threads).max(GRAIN.div_ceil(row.max(1)))
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
        for_each_chunk(context.team, part, PIECE, |i, piece| body(block * BLOCK + i * PIECE, piece));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_is_in_one_piece() {
        let team = Team::new(3, false);
        for len in [0usize, 1, 7, 64, 1000] {
            for chunk in [0usize, 1, 3, 64, 2000] {
                let mut out = vec![0usize; len];
                for_each_chunk(&team, &mut out, chunk, |i, piece| {
                    for (j, v) in piece.iter_mut().enumerate() {
                        *v += 1 + i * chunk.max(1) + j;
                    }
                });
                assert!(out.iter().enumerate().all(|(i, &v)| v == i + 1), "{len} by {chunk}");
            }
        }
    }
}
