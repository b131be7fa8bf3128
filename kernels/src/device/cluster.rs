//! Clusters of blocks that reach each other's shared memory. Compute capability 9.0.

use super::implementation as imp;

/// The block's number in its cluster.
#[inline(always)]
pub fn rank() -> u32 {
    imp::index::cluster_rank()
}

/// Blocks of a cluster.
#[inline(always)]
pub fn size() -> u32 {
    imp::index::cluster_size()
}

/// The cluster's number in the grid.
#[inline(always)]
pub fn index() -> u32 {
    imp::index::cluster_index()
}

/// Says that the thread has arrived, and releases what it wrote to the threads that [`wait`].
#[inline(always)]
#[track_caller]
pub fn arrive() {
    imp::sync::cluster_arrive();
}

/// Waits until all threads of the cluster have arrived. Every [`arrive`] has its `wait`.
#[inline(always)]
#[track_caller]
pub fn wait() {
    imp::sync::cluster_wait();
}

/// Waits for all threads of the cluster.
#[inline(always)]
#[track_caller]
pub fn sync() {
    arrive();
    wait();
}
