//! Barriers, fences and waiting.
//!
//! Barriers are LLVM's own functions where it has them, not `asm!`: they are marked convergent, so that the compiler
//! does not copy them into the branches of a condition, where not all threads would come to the same instruction.

use super::super::Global;
use super::super::atomic::{Operation, Order, Scope};
use super::super::{Axis, block};
use super::index;
use super::memory::{ClusterAddress, SharedAddress};
use core::arch::asm;

unsafe extern "unadjusted" {
    #[link_name = "llvm.nvvm.barrier.cta.sync.aligned.all"]
    safe fn barrier_all(id: u32);
    #[link_name = "llvm.nvvm.barrier.cta.sync.aligned.count"]
    safe fn barrier_count(id: u32, threads: u32);
    #[link_name = "llvm.nvvm.barrier.cta.arrive.aligned.count"]
    safe fn barrier_arrive(id: u32, threads: u32);
    #[link_name = "llvm.nvvm.bar.warp.sync"]
    safe fn warp_barrier(mask: u32);
    #[link_name = "llvm.nvvm.barrier.cluster.arrive.aligned"]
    safe fn cluster_barrier_arrive();
    #[link_name = "llvm.nvvm.barrier.cluster.wait.aligned"]
    safe fn cluster_barrier_wait();
}

#[inline(always)]
pub(crate) fn sync_block() {
    barrier_all(0);
}

#[inline(always)]
pub(crate) fn named_sync(id: u32, threads: u32) {
    barrier_count(id, threads);
}

#[inline(always)]
pub(crate) fn named_arrive(id: u32, threads: u32) {
    barrier_arrive(id, threads);
}

#[inline(always)]
pub(crate) fn sync_warp(mask: u32) {
    warp_barrier(mask);
}

/// Releases and, in [`cluster_wait`], acquires: what the instruction does where no order is written.
#[inline(always)]
pub(crate) fn cluster_arrive() {
    cluster_barrier_arrive();
}

#[inline(always)]
pub(crate) fn cluster_wait() {
    cluster_barrier_wait();
}

/// Set in the state of [`sync_grid`] by the last arrival of every second call.
const PHASE: u32 = 1 << 31;

/// One thread of each block adds to the state: block 0 what is missing to the next multiple of 2³¹, the others 1. When
/// all have, the highest bit has changed, which all wait for; the state is a multiple of 2³¹ again.
#[inline(always)]
pub(crate) fn sync_grid(state: Global<u32>) {
    sync_block();
    if block::rank() == 0 {
        let blocks = index::grid_size(Axis::X) * index::grid_size(Axis::Y) * index::grid_size(Axis::Z);
        let share = if block::index() == 0 { PHASE - (blocks - 1) } else { 1 };
        let before = state.fetch(Operation::Add, 0, share, Order::AcquireRelease, Scope::Device);
        while (before ^ state.load_acquire(0, Scope::Device)) & PHASE == 0 {}
    }
    sync_block();
}

#[inline(always)]
pub(crate) fn arrivals_initialise(place: SharedAddress, count: u32) {
    // SAFETY: the launch contract covers the word.
    unsafe { asm!("mbarrier.init.shared.b64 [{}], {};", in(reg32) place, in(reg32) count, options(nostack)) };
}

#[inline(always)]
pub(crate) fn arrivals_arrive(place: SharedAddress) {
    // SAFETY: the word was initialised, which the emulator checks.
    unsafe {
        asm!("mbarrier.arrive.shared.b64 {}, [{}];", out(reg64) _, in(reg32) place, options(nostack));
    }
}

#[inline(always)]
pub(crate) fn arrivals_arrive_expecting(place: SharedAddress, bytes: u32) {
    // SAFETY: the word was initialised, which the emulator checks.
    unsafe {
        asm!("mbarrier.arrive.expect_tx.shared.b64 {}, [{}], {};", out(reg64) _, in(reg32) place, in(reg32) bytes,
            options(nostack));
    }
}

#[inline(always)]
pub(crate) fn arrivals_arrive_in_cluster(place: ClusterAddress) {
    // SAFETY: the word was initialised, which the emulator checks.
    unsafe {
        asm!("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [{}];", in(reg32) place, options(nostack));
    }
}

/// From compute capability 9.0 on the thread is suspended for a while; stores of the whole cluster are acquired.
#[inline(always)]
pub(crate) fn arrivals_wait(place: SharedAddress, parity: u32) {
    loop {
        if cfg!(not(target_feature = "sm_90")) {
            if arrivals_test(place, parity) {
                return;
            }
            continue;
        }
        let complete: u32;
        // SAFETY: the word was initialised, which the emulator checks.
        unsafe {
            asm!("{{", ".reg .pred complete;",
                "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 complete, [{}], {};",
                "selp.u32 {}, 1, 0, complete;", "}}",
                in(reg32) place, in(reg32) parity, out(reg32) complete, options(nostack));
        }
        if complete != 0 {
            return;
        }
    }
}

#[inline(always)]
pub(crate) fn arrivals_test(place: SharedAddress, parity: u32) -> bool {
    let complete: u32;
    // SAFETY: the word was initialised, which the emulator checks.
    unsafe {
        asm!("{{", ".reg .pred complete;", "mbarrier.test_wait.parity.shared.b64 complete, [{}], {};",
            "selp.u32 {}, 1, 0, complete;", "}}",
            in(reg32) place, in(reg32) parity, out(reg32) complete, options(nostack));
    }
    complete != 0
}

#[inline(always)]
pub(crate) fn fence_initialised() {
    // SAFETY: a fence has no precondition.
    unsafe { asm!("fence.mbarrier_init.release.cluster;", options(nostack)) };
}

#[inline(always)]
pub(crate) fn fence_async() {
    // SAFETY: a fence has no precondition.
    unsafe { asm!("fence.proxy.async.shared::cta;", options(nostack)) };
}

#[inline(always)]
pub(crate) fn fence(scope: Scope) {
    // SAFETY: a fence has no precondition.
    unsafe {
        match scope {
            Scope::Block => asm!("fence.acq_rel.cta;", options(nostack)),
            Scope::Cluster => asm!("fence.acq_rel.cluster;", options(nostack)),
            Scope::Device => asm!("fence.acq_rel.gpu;", options(nostack)),
            Scope::System => asm!("fence.acq_rel.sys;", options(nostack)),
        }
    }
}

#[inline(always)]
pub(crate) fn nanosleep(nanoseconds: u32) {
    // SAFETY: sleeping has no precondition.
    unsafe { asm!("nanosleep.u32 {};", in(reg32) nanoseconds, options(nostack)) };
}

#[inline(always)]
pub(crate) fn trap() -> ! {
    // SAFETY: ending the launch has no precondition.
    unsafe { core::arch::nvptx::trap() }
}
