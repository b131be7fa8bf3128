//! Buffers that were given away with the outputs of a run, to be filled again when nobody else holds them: their
//! pages need not come from the system and be zeroed for every run.
//!
//! They stay charged to the budget, which takes them back before it refuses anything.

use super::Buffer;
use smallvec::SmallVec;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers of fewer bytes are made as fast as they are kept.
const WORTH: usize = 1 << 12;

/// Buffers kept for each output: whoever holds the outputs of one run during the next one holds one of them.
const KEPT: usize = 2;

/// The buffers of each output, [`KEPT`] at most, the latest last.
#[derive(Debug)]
pub(crate) struct Lent(Mutex<Vec<SmallVec<[Arc<Buffer>; KEPT]>>>);

impl Lent {
    /// Nothing yet, for `outputs` outputs.
    pub(crate) fn new(outputs: usize) -> Self {
        Self(Mutex::new(vec![SmallVec::new(); outputs]))
    }

    /// A buffer lent for output `index` that has `bytes` bytes and that nobody else holds any more.
    pub(crate) fn take(&self, index: usize, bytes: usize) -> Option<Arc<Buffer>> {
        let mut all = self.lock();
        let kept = all.get_mut(index)?;
        let free = kept.iter_mut().position(|b| b.bytes().len() == bytes && Arc::get_mut(b).is_some())?;
        Some(kept.remove(free))
    }

    /// Remembers `buffer`, which output `index` holds now.
    pub(crate) fn lend(&self, index: usize, buffer: &Arc<Buffer>) {
        if buffer.bytes().len() >= WORTH {
            let mut all = self.lock();
            let Some(kept) = all.get_mut(index) else { return };
            let oldest = (kept.len() == KEPT).then(|| kept.remove(0));
            kept.push(buffer.clone());
            // Freed outside the lock, since that tells the budget.
            drop(all);
            drop(oldest);
        }
    }

    /// Forgets all: what nobody else holds is freed.
    pub(super) fn forget(&self) {
        let forgotten: Vec<_> = self.lock().iter_mut().map(std::mem::take).collect();
        // Freed outside the lock, since that tells the budget.
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SmallVec<[Arc<Buffer>; KEPT]>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Budget;

    /// A caller that holds the outputs of a run during the next one, as `last = session.run(..)` does.
    #[test]
    fn callers_that_hold_the_last_output_get_two_buffers_in_turn() {
        let (lent, budget) = (Lent::new(1), Budget::unlimited());
        let mut made = 0;
        let mut held: Option<Arc<Buffer>> = None;
        for _ in 0..10 {
            let buffer = lent.take(0, 2 * WORTH).unwrap_or_else(|| {
                made += 1;
                Arc::new(Buffer::zeroed(2 * WORTH, &budget).expect("memory"))
            });
            assert!(held.as_ref().is_none_or(|held| !Arc::ptr_eq(held, &buffer)), "it is held");
            lent.lend(0, &buffer);
            held = Some(buffer);
        }
        assert_eq!(made, 2);
    }
}
