//! Global memory.

use super::atomic::{Atomic, AtomicInteger, Operation, Order, Scope};
use super::implementation as imp;
use super::plain::Plain;
use core::marker::PhantomData;

/// An array of `T` in global memory: the address of its element 0, in 8 bytes, as kernels take it in their parameters.
///
/// Indices count elements. On the host every access is checked against the allocation that the address lies in.
#[repr(transparent)]
pub struct Global<T> {
    address: imp::memory::GlobalAddress,
    element: PhantomData<fn() -> T>,
}

impl<T> Clone for Global<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Global<T> {}

impl<T> core::fmt::Debug for Global<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Global({:#x})", self.address())
    }
}

impl<T> Global<T> {
    /// The array whose element 0 lies at this address of the device.
    #[inline(always)]
    pub fn from_address(address: u64) -> Self {
        Self { address: imp::memory::global_from(address), element: PhantomData }
    }

    /// The address of element 0.
    #[inline(always)]
    pub fn address(self) -> u64 {
        imp::memory::global_address(self.address)
    }

    /// Whether it is the address 0, which stands for an operand that is not there.
    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.address() == 0
    }

    /// The same bytes as elements of another type.
    #[inline(always)]
    pub fn cast<U>(self) -> Global<U> {
        Global { address: self.address, element: PhantomData }
    }
}

impl<T: Plain> Global<T> {
    /// The array from element `index` on.
    #[inline(always)]
    pub fn offset(self, index: usize) -> Self {
        Self { address: imp::memory::global_offset(self.address, index.wrapping_mul(size_of::<T>())), ..self }
    }

    /// Element `index`.
    #[inline(always)]
    #[track_caller]
    pub fn load(self, index: usize) -> T {
        imp::memory::global_load(self.offset(index).address, Order::Weak, Scope::Device)
    }

    /// Element `index` of an array that nothing writes during the launch, through the read-only path, not kept in L1.
    #[inline(always)]
    #[track_caller]
    pub fn load_read_only(self, index: usize) -> T {
        imp::memory::global_load_read_only(self.offset(index).address)
    }

    /// Element `index`, volatile.
    #[inline(always)]
    #[track_caller]
    pub fn load_volatile(self, index: usize) -> T {
        imp::memory::global_load(self.offset(index).address, Order::Volatile, Scope::System)
    }

    /// Element `index`, atomically.
    #[inline(always)]
    #[track_caller]
    pub fn load_relaxed(self, index: usize, scope: Scope) -> T {
        imp::memory::global_load(self.offset(index).address, Order::Relaxed, scope)
    }

    /// Element `index`, atomically, and what was written before the release that it reads from.
    #[inline(always)]
    #[track_caller]
    pub fn load_acquire(self, index: usize, scope: Scope) -> T {
        imp::memory::global_load(self.offset(index).address, Order::Acquire, scope)
    }

    /// Writes element `index`.
    #[inline(always)]
    #[track_caller]
    pub fn store(self, index: usize, value: T) {
        imp::memory::global_store(self.offset(index).address, value, Order::Weak, Scope::Device);
    }

    /// Writes element `index`, volatile.
    #[inline(always)]
    #[track_caller]
    pub fn store_volatile(self, index: usize, value: T) {
        imp::memory::global_store(self.offset(index).address, value, Order::Volatile, Scope::System);
    }

    /// Writes element `index` atomically.
    #[inline(always)]
    #[track_caller]
    pub fn store_relaxed(self, index: usize, value: T, scope: Scope) {
        imp::memory::global_store(self.offset(index).address, value, Order::Relaxed, scope);
    }

    /// Writes element `index` atomically, behind everything that the thread wrote before.
    #[inline(always)]
    #[track_caller]
    pub fn store_release(self, index: usize, value: T, scope: Scope) {
        imp::memory::global_store(self.offset(index).address, value, Order::Release, scope);
    }

    /// Applies `operation` to element `index` atomically; gives the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch(self, operation: Operation, index: usize, operand: T, order: Order, scope: Scope) -> T
    where
        T: Atomic,
    {
        imp::memory::global_fetch(self.offset(index).address, operation, operand, order, scope)
    }

    /// Adds to element `index` atomically, relaxed; gives the value before.
    #[inline(always)]
    #[track_caller]
    pub fn fetch_add(self, index: usize, operand: T, scope: Scope) -> T
    where
        T: Atomic,
    {
        self.fetch(Operation::Add, index, operand, Order::Relaxed, scope)
    }

    /// Writes `value` to element `index` where it is `current`, atomically; gives the value before.
    #[inline(always)]
    #[track_caller]
    pub fn compare_exchange(self, index: usize, current: T, value: T, order: Order, scope: Scope) -> T
    where
        T: AtomicInteger,
    {
        imp::memory::global_compare_exchange(self.offset(index).address, current, value, order, scope)
    }

    /// The implementation's address of element `index`.
    #[inline(always)]
    pub(super) fn place(self, index: usize) -> imp::memory::GlobalAddress {
        self.offset(index).address
    }
}
