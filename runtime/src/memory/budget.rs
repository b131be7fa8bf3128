//! The byte limit: every buffer that the engine allocates for tensors, weights and workspaces is charged to
//! a budget first, so that a hostile model cannot make the process grow beyond it.

use crate::error::OpError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared count of bytes in use and the limit on it. Cloning shares the count.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limit: usize,
    /// Charged too.
    parent: Option<Budget>,
    used: AtomicUsize,
    peak: AtomicUsize,
}

/// Bytes taken from a [`Budget`], given back on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Budget,
    bytes: usize,
    /// What the parent was charged, given back with this.
    _parent: Option<Box<Charge>>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self::within(limit, None)
    }

    /// A budget of `limit` bytes, all of which are charged to `parent` too.
    pub(crate) fn within(limit: usize, parent: Option<Budget>) -> Self {
        Self(Arc::new(Counts { limit, parent, used: AtomicUsize::new(0), peak: AtomicUsize::new(0) }))
    }

    /// A budget that only counts.
    pub(crate) fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// The limit in bytes.
    pub(crate) fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes in use now.
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Most bytes that were in use at once.
    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, or refuses when the limit would be exceeded.
    pub(crate) fn charge(&self, bytes: usize) -> Result<Charge, OpError> {
        let refused = |_| OpError::Memory { requested: bytes, limit: self.0.limit };
        let limit = self.0.limit;
        let parent = self.0.parent.as_ref().map(|p| p.charge(bytes)).transpose()?.map(Box::new);
        let before = self
            .0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= limit)
            })
            .map_err(refused)?;
        self.0.peak.fetch_max(before + bytes, Ordering::Relaxed);
        Ok(Charge { budget: self.clone(), bytes, _parent: parent })
    }

    /// The error for a size that does not even fit in `usize`.
    pub(crate) fn overflow(&self) -> OpError {
        OpError::Memory { requested: usize::MAX, limit: self.0.limit }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_up_to_the_limit_and_gives_back() {
        let budget = Budget::new(100);
        let a = budget.charge(60).expect("fits");
        assert!(matches!(budget.charge(41), Err(OpError::Memory { requested: 41, limit: 100 })));
        assert!(budget.charge(usize::MAX).is_err());
        drop(a);
        assert_eq!((budget.used(), budget.peak()), (0, 60));
        budget.charge(100).expect("fits after release");
        let child = Budget::within(1000, Some(budget.clone()));
        assert!(child.charge(101).is_err());
        assert_eq!((child.used(), budget.used()), (0, 0));
        let c = child.charge(100).expect("fits both");
        assert!(budget.charge(1).is_err());
        drop(c);
        assert_eq!((child.used(), budget.used()), (0, 0));
    }
}
