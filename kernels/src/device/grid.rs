//! The whole grid.

use super::atomic::Scope;
use super::implementation as imp;
use super::{Global, thread};

/// Blocks of the grid.
#[inline(always)]
pub fn size() -> u32 {
    thread::grid_dim_x() * thread::grid_dim_y() * thread::grid_dim_z()
}

/// Waits for all threads of a cooperative launch, and makes what they wrote visible to each other.
///
/// `state` is a word of the launch's workspace that was zero before the first launch that uses it; it is left so that
/// the next launch can use it again.
#[inline(always)]
#[track_caller]
pub fn sync(state: Global<u32>) {
    imp::sync::sync_grid(state);
}

/// Orders the thread's accesses before the fence with those behind it, for all threads of the device.
#[inline(always)]
pub fn fence() {
    imp::sync::fence(Scope::Device);
}

/// The same for the host and other devices, too.
#[inline(always)]
pub fn system_fence() {
    imp::sync::fence(Scope::System);
}
