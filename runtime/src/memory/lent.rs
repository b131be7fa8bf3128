//! Buffers that were given away with the outputs of a run, to be filled again when nobody else holds them: their
//! pages need not come from the system and be zeroed for every run.
//!
//! They stay charged to the budget, which takes them back before it refuses anything.

use super::Buffer;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers of fewer bytes are made as fast as they are kept.
const WORTH: usize = 1 << 12;

/// One buffer for each output, at most.
#[derive(Debug)]
pub(crate) struct Lent(Mutex<Vec<Option<Arc<Buffer>>>>);

impl Lent {
    /// Nothing yet, for `outputs` outputs.
    pub(crate) fn new(outputs: usize) -> Self {
        Self(Mutex::new(vec![None; outputs]))
    }

    /// The buffer lent for output `index`, when it has `bytes` bytes and nobody else holds it any more.
    pub(crate) fn take(&self, index: usize, bytes: usize) -> Option<Arc<Buffer>> {
        let mut buffer = self.lock().get_mut(index)?.take()?;
        (Arc::get_mut(&mut buffer).is_some() && buffer.bytes().len() == bytes).then_some(buffer)
    }

    /// Remembers `buffer`, which output `index` holds now.
    pub(crate) fn lend(&self, index: usize, buffer: &Arc<Buffer>) {
        if buffer.bytes().len() >= WORTH
            && let Some(place) = self.lock().get_mut(index)
        {
            *place = Some(buffer.clone());
        }
    }

    /// Forgets all: what nobody else holds is freed.
    pub(super) fn forget(&self) {
        let forgotten: Vec<_> = self.lock().iter_mut().map(Option::take).collect();
        // Freed outside the lock, since that tells the budget.
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Arc<Buffer>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
