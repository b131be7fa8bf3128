//! Asynchronous copies.

use super::memory::GlobalAddress;
use crate::emulator::SharedAddress;
use crate::emulator::lane::with;
use std::panic::Location;

#[track_caller]
pub(crate) fn start(to: SharedAddress, from: GlobalAddress, bytes: u32, valid: u32) {
    let at = Location::caller();
    with(|here| here.start_copy(to, from, bytes, valid, at));
}

pub(crate) fn commit() {
    with(|here| {
        here.commit_copies();
    });
}

pub(crate) fn wait<const PENDING: u32>() {
    with(|here| here.wait_copies(PENDING));
}

#[track_caller]
pub(crate) fn bulk_load(to: SharedAddress, from: GlobalAddress, bytes: u32, arrivals: SharedAddress) {
    let at = Location::caller();
    with(|here| here.bulk_load(to, from, bytes, arrivals, at));
}

#[track_caller]
pub(crate) fn bulk_store(to: GlobalAddress, from: SharedAddress, bytes: u32) {
    let at = Location::caller();
    with(|here| here.bulk_store(to, from, bytes, at));
}

pub(crate) fn bulk_commit() {
    with(|here| {
        here.bulk_commit();
    });
}

pub(crate) fn bulk_wait<const PENDING: u32>() {
    with(|here| here.bulk_wait(PENDING));
}
