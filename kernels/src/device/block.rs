//! The calling thread's block.

use super::atomic::Scope;
use super::implementation as imp;
use super::thread;

/// Threads of the block.
#[inline(always)]
pub fn size() -> u32 {
    thread::block_dim_x() * thread::block_dim_y() * thread::block_dim_z()
}

/// The calling thread's number in the block, x fastest.
#[inline(always)]
pub fn rank() -> u32 {
    let yz = thread::thread_idx_z() * thread::block_dim_y() + thread::thread_idx_y();
    yz * thread::block_dim_x() + thread::thread_idx_x()
}

/// The block's number in the grid, x fastest.
#[inline(always)]
pub fn index() -> u32 {
    let yz = thread::block_idx_z() * thread::grid_dim_y() + thread::block_idx_y();
    yz * thread::grid_dim_x() + thread::block_idx_x()
}

/// Orders the thread's accesses before the fence with those behind it, for threads of the block.
#[inline(always)]
pub fn fence() {
    imp::sync::fence(Scope::Block);
}
