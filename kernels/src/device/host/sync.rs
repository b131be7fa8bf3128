//! Barriers, fences and waiting.

use super::super::Global;
use super::super::atomic::Scope;
use crate::emulator::lane::with;
use crate::emulator::{ClusterAddress, Exchange, SharedAddress};
use std::panic::Location;

#[track_caller]
pub(crate) fn sync_block() {
    let at = Location::caller();
    with(|here| here.sync_block(at));
}

#[track_caller]
pub(crate) fn named_sync(id: u32, threads: u32) {
    let at = Location::caller();
    with(|here| here.sync_named(id, threads, at));
}

#[track_caller]
pub(crate) fn named_arrive(id: u32, threads: u32) {
    let at = Location::caller();
    with(|here| here.arrive_named(id, threads, at));
}

#[track_caller]
pub(crate) fn sync_warp(mask: u32) {
    let at = Location::caller();
    with(|here| here.exchange(mask, Exchange::Barrier, [0; 10], at));
}

#[track_caller]
pub(crate) fn cluster_arrive() {
    let at = Location::caller();
    with(|here| here.arrive_cluster(at));
}

#[track_caller]
pub(crate) fn cluster_wait() {
    let at = Location::caller();
    with(|here| here.wait_cluster(at));
}

#[track_caller]
pub(crate) fn sync_grid(state: Global<u32>) {
    let at = Location::caller();
    with(|here| here.sync_grid(state.address(), at));
}

pub(crate) fn fence(scope: Scope) {
    with(|here| here.fence(scope));
}

pub(crate) fn nanosleep(_nanoseconds: u32) {
    with(|here| {
        here.poll();
    });
}

#[track_caller]
pub(crate) fn trap() -> ! {
    let at = Location::caller();
    with(|here| here.trap(at))
}

#[track_caller]
pub(crate) fn arrivals_initialise(address: SharedAddress, count: u32) {
    let at = Location::caller();
    with(|here| here.initialise_arrivals(address, count, at));
}

#[track_caller]
pub(crate) fn arrivals_arrive(address: SharedAddress) {
    let at = Location::caller();
    with(|here| here.arrive(address, 0, at));
}

#[track_caller]
pub(crate) fn arrivals_arrive_expecting(address: SharedAddress, bytes: u32) {
    let at = Location::caller();
    with(|here| here.arrive(address, bytes, at));
}

#[track_caller]
pub(crate) fn arrivals_arrive_in_cluster(address: ClusterAddress) {
    let at = Location::caller();
    with(|here| here.arrive_in_cluster(address, at));
}

#[track_caller]
pub(crate) fn arrivals_wait(address: SharedAddress, parity: u32) {
    let at = Location::caller();
    with(|here| here.wait_arrivals(address, parity, at));
}

#[track_caller]
pub(crate) fn arrivals_test(address: SharedAddress, parity: u32) -> bool {
    let at = Location::caller();
    with(|here| here.test_arrivals(address, parity, at))
}

/// The emulator's copies know of barriers at once; whether lanes do is checked where they use one.
pub(crate) fn fence_initialised() {}

pub(crate) fn fence_async() {
    with(|here| {
        here.fence_async();
    });
}
