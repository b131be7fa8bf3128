//! Shared memory of another block of the cluster (distributed shared memory).

use super::atomic::{Atomic, Operation, Order, Scope};
use super::barrier::Arrivals;
use super::implementation as imp;
use super::plain::Plain;
use core::marker::PhantomData;

/// An array of `T` in the shared memory of one block of the cluster.
///
/// A block's memory is there from the first to the last [`cluster::sync`](super::cluster::sync): blocks synchronise
/// before the first access, so that all have started, and behind the last, so that none has left.
pub struct Distributed<T> {
    address: imp::memory::ClusterAddress,
    element: PhantomData<fn() -> T>,
}

impl<T> Clone for Distributed<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Distributed<T> {}

impl<T> core::fmt::Debug for Distributed<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Distributed")
    }
}

impl<T: Plain> Distributed<T> {
    #[inline(always)]
    pub(super) fn new(address: imp::memory::ClusterAddress) -> Self {
        Self { address, element: PhantomData }
    }

    /// The array from element `index` on.
    #[inline(always)]
    pub fn offset(self, index: usize) -> Self {
        Self {
            address: imp::memory::cluster_offset(self.address, index.wrapping_mul(size_of::<T>()) as u32),
            ..self
        }
    }

    /// Element `index`.
    #[inline(always)]
    #[track_caller]
    pub fn load(self, index: usize) -> T {
        imp::memory::cluster_load(self.offset(index).address, Order::Weak)
    }

    /// Writes element `index`.
    #[inline(always)]
    #[track_caller]
    pub fn store(self, index: usize, value: T) {
        imp::memory::cluster_store(self.offset(index).address, value, Order::Weak);
    }

    /// Writes element `index` at some later time, and then counts its bytes at `arrivals`, which lie in the same
    /// block: who waits there for a phase that expects them sees the value. Values of 4, 8 and 16 bytes.
    #[inline(always)]
    #[track_caller]
    pub fn store_async(self, index: usize, value: T, arrivals: Distributed<Arrivals>) {
        imp::memory::cluster_store_async(self.offset(index).address, value, arrivals.address);
    }

    /// Applies `operation` to element `index` atomically, relaxed; gives the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch(self, operation: Operation, index: usize, operand: T) -> T
    where
        T: Atomic,
    {
        let address = self.offset(index).address;
        imp::memory::cluster_fetch(address, operation, operand, Order::Relaxed, Scope::Cluster)
    }
}

impl Distributed<Arrivals> {
    /// Counts one arrival at a barrier of another block, and releases what the thread wrote to who waits there.
    #[inline(always)]
    #[track_caller]
    pub fn arrive(self) {
        imp::sync::arrivals_arrive_in_cluster(self.address);
    }
}
