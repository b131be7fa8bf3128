//! Copies from global to shared memory that run beside the thread.
//!
//! `cp.async`: a thread starts copies of 4, 8 or 16 bytes, [`commit`]s them as a group, and [`wait`]s until at most so
//! many of its latest groups are outstanding; then its own copies are visible to itself, and behind a barrier to others.
//! Bulk copies (compute capability 9.0) are started by one thread and count their bytes at an
//! [`Arrivals`]. Until a copy is waited for, neither its destination may be touched nor its source written.

use super::barrier::Arrivals;
use super::implementation as imp;
use super::{Global, Plain, Shared};

/// Starts the copy of one `T` of 4, 8 or 16 bytes.
#[inline(always)]
#[track_caller]
pub fn copy<T: Plain>(to: Shared<T>, to_index: usize, from: Global<T>, from_index: usize) {
    const { assert!(size_of::<T>() == 4 || size_of::<T>() == 8 || size_of::<T>() == 16) };
    let bytes = size_of::<T>() as u32;
    imp::copies::start(to.place(to_index), from.place(from_index), bytes, bytes);
}

/// The same, of which only the first `valid` bytes are read and the others become zero; nothing is read for 0.
#[inline(always)]
#[track_caller]
pub fn copy_or_zero<T: Plain>(
    to: Shared<T>,
    to_index: usize,
    from: Global<T>,
    from_index: usize,
    valid: u32,
) {
    const { assert!(size_of::<T>() == 4 || size_of::<T>() == 8 || size_of::<T>() == 16) };
    imp::copies::start(to.place(to_index), from.place(from_index), size_of::<T>() as u32, valid);
}

/// Makes the copies that the thread has started since the last call a group.
#[inline(always)]
pub fn commit() {
    imp::copies::commit();
}

/// Waits until at most the latest `PENDING` groups of the thread are outstanding.
#[inline(always)]
pub fn wait<const PENDING: u32>() {
    imp::copies::wait::<PENDING>();
}

/// Starts the copy of `bytes` bytes, a multiple of 16, both ends aligned to 16, and counts them at `arrivals`.
#[inline(always)]
#[track_caller]
pub fn bulk_load<T: Plain>(to: Shared<T>, from: Global<T>, bytes: u32, arrivals: Shared<Arrivals>) {
    imp::copies::bulk_load(to.place(0), from.place(0), bytes, arrivals.place(0));
}

/// Starts the copy of `bytes` bytes, a multiple of 16, to global memory; see [`bulk_commit`] and [`bulk_wait`].
#[inline(always)]
#[track_caller]
pub fn bulk_store<T: Plain>(to: Global<T>, from: Shared<T>, bytes: u32) {
    imp::copies::bulk_store(to.place(0), from.place(0), bytes);
}

/// Makes the bulk stores that the thread has started since the last call a group.
#[inline(always)]
pub fn bulk_commit() {
    imp::copies::bulk_commit();
}

/// Waits until at most the latest `PENDING` bulk groups of the thread are outstanding.
#[inline(always)]
pub fn bulk_wait<const PENDING: u32>() {
    imp::copies::bulk_wait::<PENDING>();
}
