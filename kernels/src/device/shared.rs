//! Shared memory of the block. All of it is dynamic: the launch says how many bytes, the kernel lays them out.

use super::atomic::{Atomic, AtomicInteger, Operation, Order, Scope};
use super::implementation as imp;
use super::plain::Plain;
use super::{Distributed, cluster};
use core::marker::PhantomData;

/// An array of `T` in the block's shared memory.
pub struct Shared<T> {
    address: imp::memory::SharedAddress,
    element: PhantomData<fn() -> T>,
}

/// The `length` elements that start `offset` bytes into the block's shared memory, which is aligned to 1024 bytes. On the
/// host an access outside them is reported, even where the block has more.
#[inline(always)]
#[track_caller]
pub fn array<T: Plain>(offset: u32, length: u32) -> Shared<T> {
    let bytes = length * size_of::<T>() as u32;
    Shared { address: imp::memory::shared_region(offset, bytes), element: PhantomData }
}

impl<T> Clone for Shared<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

impl<T> core::fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Shared")
    }
}

impl<T: Plain> Shared<T> {
    /// The same bytes as elements of another type.
    #[inline(always)]
    pub fn cast<U: Plain>(self) -> Shared<U> {
        Shared { address: self.address, element: PhantomData }
    }

    /// The array from element `index` on.
    #[inline(always)]
    pub fn offset(self, index: usize) -> Self {
        Self {
            address: imp::memory::shared_offset(self.address, index.wrapping_mul(size_of::<T>()) as u32),
            ..self
        }
    }

    /// Element `index`.
    #[inline(always)]
    #[track_caller]
    pub fn load(self, index: usize) -> T {
        imp::memory::shared_load(self.offset(index).address, Order::Weak)
    }

    /// Element `index`, volatile.
    #[inline(always)]
    #[track_caller]
    pub fn load_volatile(self, index: usize) -> T {
        imp::memory::shared_load(self.offset(index).address, Order::Volatile)
    }

    /// Writes element `index`.
    #[inline(always)]
    #[track_caller]
    pub fn store(self, index: usize, value: T) {
        imp::memory::shared_store(self.offset(index).address, value, Order::Weak);
    }

    /// Writes element `index`, volatile.
    #[inline(always)]
    #[track_caller]
    pub fn store_volatile(self, index: usize, value: T) {
        imp::memory::shared_store(self.offset(index).address, value, Order::Volatile);
    }

    /// Applies `operation` to element `index` atomically, relaxed; gives the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch(self, operation: Operation, index: usize, operand: T) -> T
    where
        T: Atomic,
    {
        imp::memory::shared_fetch(
            self.offset(index).address,
            operation,
            operand,
            Order::Relaxed,
            Scope::Block,
        )
    }

    /// Adds to element `index` atomically, relaxed; gives the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_add(self, index: usize, operand: T) -> T
    where
        T: Atomic,
    {
        self.fetch(Operation::Add, index, operand)
    }

    /// Writes `value` to element `index` where it is `current`, atomically; gives the value before.
    #[inline(always)]
    #[track_caller]
    pub fn compare_exchange(self, index: usize, current: T, value: T, order: Order) -> T
    where
        T: AtomicInteger,
    {
        imp::memory::shared_compare_exchange(self.offset(index).address, current, value, order)
    }

    /// The same array in the block of this rank of the cluster.
    #[inline(always)]
    #[track_caller]
    pub fn in_block(self, rank: u32) -> Distributed<T> {
        Distributed::new(imp::memory::cluster_map(self.address, rank))
    }

    /// The same array in the calling thread's own block, addressed through the cluster.
    #[inline(always)]
    #[track_caller]
    pub fn in_own_block(self) -> Distributed<T> {
        self.in_block(cluster::rank())
    }

    /// The implementation's address of element `index`.
    #[inline(always)]
    pub(super) fn place(self, index: usize) -> imp::memory::SharedAddress {
        self.offset(index).address
    }
}
