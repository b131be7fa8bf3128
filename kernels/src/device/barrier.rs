//! Barriers inside a block: of all threads, of some of them, and of arrivals and bytes ([`Arrivals`], PTX's mbarrier).

use super::implementation as imp;
use super::plain::{Plain, Sealed};
use super::shared::Shared;

/// All threads of the block; see [`thread::sync_threads`](super::thread::sync_threads).
#[inline(always)]
#[track_caller]
pub fn sync_block() {
    imp::sync::sync_block();
}

/// Waits at barrier `id` (1 to 15) until `threads` threads, a multiple of 32, have come to it or [`arrive`]d.
#[inline(always)]
#[track_caller]
pub fn sync(id: u32, threads: u32) {
    imp::sync::named_sync(id, threads);
}

/// Counts the thread at barrier `id` without waiting.
#[inline(always)]
#[track_caller]
pub fn arrive(id: u32, threads: u32) {
    imp::sync::named_arrive(id, threads);
}

/// The word of an mbarrier: a phase completes when the expected number of arrivals and all announced bytes have come;
/// then the next begins. The first phase has parity 0.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Arrivals(u64);

impl Sealed for Arrivals {}

impl Plain for Arrivals {
    #[inline(always)]
    fn from_bits(bits: u128) -> Self {
        Self(bits as u64)
    }

    #[inline(always)]
    fn to_bits(self) -> u128 {
        self.0.into()
    }
}

impl Shared<Arrivals> {
    /// Makes the word a barrier whose phases expect `count` arrivals. One thread does; the others synchronise behind
    /// [`publish_initialised`].
    #[inline(always)]
    #[track_caller]
    pub fn initialise(self, count: u32) {
        imp::sync::arrivals_initialise(self.place(0), count);
    }

    /// Counts one arrival, and releases what the thread wrote to who waits.
    #[inline(always)]
    #[track_caller]
    pub fn arrive(self) {
        imp::sync::arrivals_arrive(self.place(0));
    }

    /// Announces `bytes` of asynchronous copies for the current phase, and counts one arrival.
    #[inline(always)]
    #[track_caller]
    pub fn arrive_expecting(self, bytes: u32) {
        imp::sync::arrivals_arrive_expecting(self.place(0), bytes);
    }

    /// Waits until the phase of this parity is complete.
    #[inline(always)]
    #[track_caller]
    pub fn wait(self, parity: u32) {
        imp::sync::arrivals_wait(self.place(0), parity);
    }

    /// Whether the phase of this parity is complete; what it released is visible then.
    #[inline(always)]
    #[track_caller]
    pub fn test(self, parity: u32) -> bool {
        imp::sync::arrivals_test(self.place(0), parity)
    }
}

/// Makes initialised [`Arrivals`] visible to asynchronous copies and to the cluster.
#[inline(always)]
pub fn publish_initialised() {
    imp::sync::fence_initialised();
}

/// Orders accesses to shared memory that happened before with what bulk stores and `wgmma` read afterwards: ordinary ones
/// and completed `cp.async` copies, the thread's own and those that it knows of.
#[inline(always)]
pub fn fence_async() {
    imp::sync::fence_async();
}
