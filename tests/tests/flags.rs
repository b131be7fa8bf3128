//! The protocol by which workers raise flags, wait for them and park, in every interleaving of its steps; of two runs in
//! succession, in every interleaving with at most two preemptions.

#[path = "../../runtime/src/exec/flags.rs"]
#[allow(dead_code, unreachable_pub, reason = "the file is the library's, which uses all of it")]
mod flags;

/// loom's types in the place of the standard library's.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
    use std::time::Duration;

    /// One look: polling longer adds no interleaving.
    pub(crate) fn poll<T>(_: Duration, done: impl Fn() -> Option<T>) -> Option<T> {
        done()
    }
}

use flags::{Ended, Flags};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use std::time::Duration;

/// A deadlock, which a lost wake-up is, and a read of data that is not there yet fail the model.
#[test]
fn a_wait_ends_and_sees_what_was_done_before_the_flag() {
    loom::model(|| {
        let flags = Arc::new(Flags::new(1, Duration::ZERO));
        let data = Arc::new(AtomicUsize::new(0));
        let (theirs, written) = (flags.clone(), data.clone());
        let other = thread::spawn(move || {
            written.store(7, Ordering::Relaxed);
            theirs.raise(0, 1);
        });
        assert_eq!(flags.wait(0, 1), Ok(()));
        assert_eq!(data.load(Ordering::Relaxed), 7);
        other.join().expect("no panic");
    });
}

#[test]
fn two_waiters_are_woken_by_one_flag() {
    loom::model(|| {
        let flags = Arc::new(Flags::new(1, Duration::ZERO));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let flags = flags.clone();
                thread::spawn(move || assert_eq!(flags.wait(0, 1), Ok(())))
            })
            .collect();
        flags.raise(0, 1);
        waiters.into_iter().for_each(|w| w.join().expect("no panic"));
    });
}

#[test]
fn a_flag_of_one_run_is_not_raised_in_the_next() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let flags = Arc::new(Flags::new(2, Duration::ZERO));
        let theirs = flags.clone();
        let other = thread::spawn(move || {
            for run in 1..=2 {
                assert_eq!(theirs.wait(0, run), Ok(()));
                theirs.raise(1, run);
            }
        });
        for run in 1..=2 {
            flags.raise(0, run);
            assert_eq!(flags.wait(1, run), Ok(()));
        }
        other.join().expect("no panic");
    });
}

#[test]
fn a_run_that_ends_early_frees_who_waits() {
    loom::model(|| {
        let flags = Arc::new(Flags::new(1, Duration::ZERO));
        let theirs = flags.clone();
        let other = thread::spawn(move || theirs.end(1));
        assert_eq!(flags.wait(0, 1), Err(Ended));
        assert!(flags.is_ended(1) && !flags.is_ended(2));
        other.join().expect("no panic");
    });
}
