//! Barriers, fences and waiting.

use super::super::Global;
use super::super::atomic::Scope;
use super::memory::{ClusterAddress, SharedAddress};
use core::arch::asm;

#[inline(always)]
pub(crate) fn sync_block() {
    // SAFETY: every thread of the block comes here, which the emulator checks.
    unsafe { asm!("bar.sync 0;", options(nostack)) };
}

#[inline(always)]
pub(crate) fn named_sync(id: u32, threads: u32) {
    // SAFETY: that many threads come to the barrier, which the emulator checks.
    unsafe { asm!("bar.sync {}, {};", in(reg32) id, in(reg32) threads, options(nostack)) };
}

#[inline(always)]
pub(crate) fn named_arrive(id: u32, threads: u32) {
    // SAFETY: that many threads come to the barrier, which the emulator checks.
    unsafe { asm!("bar.arrive {}, {};", in(reg32) id, in(reg32) threads, options(nostack)) };
}

#[inline(always)]
pub(crate) fn sync_warp(mask: u32) {
    // SAFETY: every lane of the mask comes here, which the emulator checks.
    unsafe { asm!("bar.warp.sync {};", in(reg32) mask, options(nostack)) };
}

#[inline(always)]
pub(crate) fn cluster_arrive() {
    // SAFETY: every thread of the cluster comes here, which the emulator checks.
    unsafe { asm!("barrier.cluster.arrive.release.aligned;", options(nostack)) };
}

#[inline(always)]
pub(crate) fn cluster_wait() {
    // SAFETY: the thread has arrived, which the emulator checks.
    unsafe { asm!("barrier.cluster.wait.acquire.aligned;", options(nostack)) };
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
