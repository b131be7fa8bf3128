//! Flags by which the workers of one run tell each other that a step is done.
//!
//! A flag holds the number of the latest run in which it was raised, so that nothing is reset between runs. Who waits
//! polls for a while and then parks.
//!
//! No wake-up is lost: a worker that parks counts itself, then reads the flag; one that raises a flag writes it, then
//! reads the count; with a sequentially consistent fence between the two steps on both sides, one of them sees the
//! other. The count is raised under the lock that the waker takes before it notifies, so that a worker which was counted
//! is asleep by then, or has seen the flag. `tests/tests/flags.rs` walks through the interleavings.

use super::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, PoisonError, fence, poll};
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Flags {
    raised: Box<[Padded]>,
    /// The latest run that ended early.
    ended: AtomicU64,
    /// Workers that sleep, or are about to.
    parked: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
    /// How long a waiting worker polls before it parks.
    spin: Duration,
}

/// A flag alone on its cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// The run was ended by another worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended;

impl Flags {
    /// `count` flags, none of them raised in run 1 or later.
    pub(crate) fn new(count: usize, spin: Duration) -> Self {
        Self {
            raised: (0..count).map(|_| Padded(AtomicU64::new(0))).collect(),
            ended: AtomicU64::new(0),
            parked: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
            spin,
        }
    }

    /// Raises `flag` in run `run`: what this thread did before is seen by whoever waited for it.
    pub(crate) fn raise(&self, flag: usize, run: u64) {
        self.raised[flag].0.store(run, Ordering::Release);
        self.wake_parked();
    }

    /// Ends run `run` early: whoever waits in it stops waiting.
    pub(crate) fn end(&self, run: u64) {
        self.ended.store(run, Ordering::Release);
        self.wake_parked();
    }

    /// Whether run `run` was ended early.
    pub(crate) fn is_ended(&self, run: u64) -> bool {
        self.ended.load(Ordering::Acquire) >= run
    }

    /// Waits until `flag` is raised in run `run`.
    pub(crate) fn wait(&self, flag: usize, run: u64) -> Result<(), Ended> {
        let done = || {
            if self.raised[flag].0.load(Ordering::Acquire) >= run {
                return Some(Ok(()));
            }
            self.is_ended(run).then_some(Err(Ended))
        };
        if let Some(found) = poll(self.spin, done) {
            return found;
        }
        let mut held = self.hold();
        self.parked.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let found = loop {
            if let Some(found) = done() {
                break found;
            }
            held = self.wake.wait(held).unwrap_or_else(PoisonError::into_inner);
        };
        self.parked.fetch_sub(1, Ordering::Relaxed);
        found
    }

    /// Whether a worker sleeps, or is about to.
    pub(crate) fn has_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed) > 0
    }

    fn wake_parked(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) > 0 {
            drop(self.hold());
            self.wake.notify_all();
        }
    }

    fn hold(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
