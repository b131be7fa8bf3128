//! Asynchronous copies.

use super::memory::{GlobalAddress, SharedAddress};
use core::arch::asm;

#[inline(always)]
pub(crate) fn start(to: SharedAddress, from: GlobalAddress, bytes: u32, valid: u32) {
    // SAFETY: the launch contract covers both ends.
    unsafe {
        match bytes {
            4 => {
                asm!("cp.async.ca.shared.global [{}], [{}], 4, {};", in(reg32) to, in(reg64) from, in(reg32) valid,
                options(nostack))
            }
            8 => {
                asm!("cp.async.ca.shared.global [{}], [{}], 8, {};", in(reg32) to, in(reg64) from, in(reg32) valid,
                options(nostack))
            }
            _ => asm!("cp.async.cg.shared.global [{}], [{}], 16, {};", in(reg32) to, in(reg64) from,
                in(reg32) valid, options(nostack)),
        }
    }
}

#[inline(always)]
pub(crate) fn commit() {
    // SAFETY: closing a group has no precondition.
    unsafe { asm!("cp.async.commit_group;", options(nostack)) };
}

#[inline(always)]
pub(crate) fn wait<const PENDING: u32>() {
    // SAFETY: waiting has no precondition.
    unsafe { asm!("cp.async.wait_group {};", const PENDING, options(nostack)) };
}

#[inline(always)]
pub(crate) fn bulk_load(to: SharedAddress, from: GlobalAddress, bytes: u32, arrivals: SharedAddress) {
    // SAFETY: the launch contract covers both ends.
    unsafe {
        asm!("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{}], [{}], {}, [{}];", in(reg32) to,
            in(reg64) from, in(reg32) bytes, in(reg32) arrivals, options(nostack));
    }
}

#[inline(always)]
pub(crate) fn bulk_store(to: GlobalAddress, from: SharedAddress, bytes: u32) {
    // SAFETY: the launch contract covers both ends.
    unsafe {
        asm!("cp.async.bulk.global.shared::cta.bulk_group [{}], [{}], {};", in(reg64) to, in(reg32) from,
            in(reg32) bytes, options(nostack));
    }
}

#[inline(always)]
pub(crate) fn bulk_commit() {
    // SAFETY: closing a group has no precondition.
    unsafe { asm!("cp.async.bulk.commit_group;", options(nostack)) };
}

#[inline(always)]
pub(crate) fn bulk_wait<const PENDING: u32>() {
    // SAFETY: waiting has no precondition.
    unsafe { asm!("cp.async.bulk.wait_group {};", const PENDING, options(nostack)) };
}
