//! Splitting of an output slice among the threads of a team.

use super::io::RunContext;
use crate::error::OpError;
use crate::exec::Team;

/// Elements of one piece of an elementwise loop: small enough to balance, large enough to pay for a hand-over.
const PIECE: usize = 1 << 14;
/// Elements between two looks at the deadline.
const BLOCK: usize = 1 << 22;

/// Calls `body(i, piece)` for every piece of `chunk` elements of `out`, the last one shorter, each once, on
/// any of the threads.
pub(crate) fn for_each_chunk<T: Send>(
    team: &Team,
    out: &mut [T],
    chunk: usize,
    body: impl Fn(usize, &mut [T]) + Sync,
) {
    struct Base<T>(*mut T);
    // SAFETY: parts write through the pointer to disjoint ranges only, and `T` may be sent to other threads.
    unsafe impl<T: Send> Sync for Base<T> {}
    impl<T> Base<T> {
        fn get(&self) -> *mut T {
            self.0
        }
    }

    let (len, chunk) = (out.len(), chunk.max(1));
    let base = Base(out.as_mut_ptr());
    team.for_each(len.div_ceil(chunk), &|i| {
        let start = i * chunk;
        let size = chunk.min(len - start);
        // SAFETY: `start + size ≤ len`, ranges of different `i` do not overlap, the team calls each `i` once,
        // and `out` stays mutably borrowed until all calls have returned.
        let piece = unsafe { std::slice::from_raw_parts_mut(base.get().add(start), size) };
        body(i, piece);
    });
}

/// Calls `body(start, piece)` for pieces of `out` that begin at element `start` and together are `out`, on the
/// run's threads where that pays, and errs when the run is interrupted.
pub(crate) fn for_each_piece<T: Send>(
    context: RunContext<'_>,
    out: &mut [T],
    body: impl Fn(usize, &mut [T]) + Sync,
) -> Result<(), OpError> {
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
        for len in [0, 1, 7, 8, 9, 64] {
            let mut out = vec![0usize; len];
            for_each_chunk(&team, &mut out, 8, |i, piece| {
                for (k, v) in piece.iter_mut().enumerate() {
                    *v += i * 8 + k + 1;
                }
            });
            assert!(out.iter().enumerate().all(|(i, &v)| v == i + 1));
        }
    }
}
