//! What the flags are made of. The exhaustive test of their protocol puts loom's types in the place of these.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Polls between two looks at the clock.
const POLLS: usize = 64;

/// Polls `done` for about `time`; what it said last.
pub(crate) fn poll<T>(time: Duration, done: impl Fn() -> Option<T>) -> Option<T> {
    let mut since: Option<Instant> = None;
    loop {
        for _ in 0..POLLS {
            if let Some(found) = done() {
                return Some(found);
            }
            std::hint::spin_loop();
        }
        if since.get_or_insert_with(Instant::now).elapsed() >= time {
            return None;
        }
    }
}
