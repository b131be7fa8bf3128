//! The byte limit: every buffer that the engine allocates for tensors, weights and workspaces is charged to
//! a budget first, so that a hostile model cannot make the process grow beyond it.

use super::lent::Lent;
use crate::error::OpError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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
    /// What can be taken back before a charge is refused.
    lent: Mutex<Vec<Weak<Lent>>>,
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
        let (used, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Counts { limit, parent, used, peak, lent: Mutex::default() }))
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

    /// Lets `lent` be taken back when memory is short, here or in what this budget lies within.
    pub(crate) fn register(&self, lent: &Arc<Lent>) {
        let mut all = self.0.lent.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|weak| weak.strong_count() > 0);
        all.push(Arc::downgrade(lent));
        drop(all);
        if let Some(parent) = &self.0.parent {
            parent.register(lent);
        }
    }

    /// Takes `bytes`, or refuses when the limit would be exceeded even without what is lent.
    pub(crate) fn charge(&self, bytes: usize) -> Result<Charge, OpError> {
        self.try_charge(bytes).or_else(|_| {
            let lent = self.0.lent.lock().unwrap_or_else(PoisonError::into_inner);
            lent.iter().filter_map(Weak::upgrade).for_each(|lent| lent.forget());
            drop(lent);
            self.try_charge(bytes)
        })
    }

    fn try_charge(&self, bytes: usize) -> Result<Charge, OpError> {
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
    use crate::memory::Buffer;

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

    #[test]
    fn what_is_lent_is_taken_back_before_a_charge_is_refused() {
        let engine = Budget::new(10_000);
        let (one, other) = (Budget::within(9_000, Some(engine.clone())), Budget::within(9_000, Some(engine)));
        let lent = Arc::new(Lent::new(1));
        one.register(&lent);
        let buffer = Arc::new(Buffer::zeroed(8_000, &one).expect("fits"));
        lent.lend(0, &buffer);
        assert!(other.charge(8_000).is_err(), "an output holds it");
        assert!(lent.take(0, 8_000).is_none(), "it was forgotten");
        lent.lend(0, &buffer);
        drop(buffer);
        let mut again = lent.take(0, 8_000).expect("nobody else holds it");
        assert!(Arc::get_mut(&mut again).is_some());
        lent.lend(0, &again);
        drop(again);
        let charge = other.charge(8_000).expect("taken back");
        assert_eq!(one.used(), 0);
        drop(charge);
    }
}
