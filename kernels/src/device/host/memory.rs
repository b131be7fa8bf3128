//! Loads, stores and atomic operations.

use super::super::atomic::{Atomic, AtomicInteger, Operation, Order, Scope};
use super::super::plain::Plain;
use crate::emulator::lane::with;
use std::panic::Location;

pub(crate) use crate::emulator::{ClusterAddress, SharedAddress};

pub(crate) type GlobalAddress = u64;

pub(crate) fn global_from(address: u64) -> GlobalAddress {
    address
}

pub(crate) fn global_address(address: GlobalAddress) -> u64 {
    address
}

pub(crate) fn global_offset(address: GlobalAddress, bytes: usize) -> GlobalAddress {
    address.wrapping_add(bytes as u64)
}

pub(crate) fn shared_region(offset: u32, bytes: u32) -> SharedAddress {
    SharedAddress { offset, start: offset, end: offset.saturating_add(bytes) }
}

pub(crate) fn shared_offset(address: SharedAddress, bytes: u32) -> SharedAddress {
    SharedAddress { offset: address.offset.wrapping_add(bytes), ..address }
}

pub(crate) fn cluster_offset(address: ClusterAddress, bytes: u32) -> ClusterAddress {
    ClusterAddress { shared: shared_offset(address.shared, bytes), ..address }
}

pub(crate) fn cluster_map(shared: SharedAddress, rank: u32) -> ClusterAddress {
    ClusterAddress { rank, shared }
}

#[track_caller]
pub(crate) fn global_load<T: Plain>(address: GlobalAddress, order: Order, scope: Scope) -> T {
    let at = Location::caller();
    with(|here| here.load_global(address, order, scope, at))
}

#[track_caller]
pub(crate) fn global_load_read_only<T: Plain>(address: GlobalAddress) -> T {
    let at = Location::caller();
    with(|here| here.load_global_read_only(address, at))
}

#[track_caller]
pub(crate) fn global_store<T: Plain>(address: GlobalAddress, value: T, order: Order, scope: Scope) {
    let at = Location::caller();
    with(|here| here.store_global(address, value, order, scope, at));
}

#[track_caller]
pub(crate) fn global_fetch<T: Atomic>(
    address: GlobalAddress,
    operation: Operation,
    operand: T,
    order: Order,
    scope: Scope,
) -> T {
    let at = Location::caller();
    with(|here| here.fetch_global(address, operation, operand, (order, scope), at))
}

#[track_caller]
pub(crate) fn global_compare_exchange<T: AtomicInteger>(
    address: GlobalAddress,
    current: T,
    value: T,
    order: Order,
    scope: Scope,
) -> T {
    let at = Location::caller();
    with(|here| here.compare_exchange_global(address, (current, value), (order, scope), at))
}

#[track_caller]
pub(crate) fn shared_load<T: Plain>(address: SharedAddress, order: Order) -> T {
    let at = Location::caller();
    with(|here| here.load_shared(address, order, at))
}

#[track_caller]
pub(crate) fn shared_store<T: Plain>(address: SharedAddress, value: T, order: Order) {
    let at = Location::caller();
    with(|here| here.store_shared(address, value, order, at));
}

#[track_caller]
pub(crate) fn shared_fetch<T: Atomic>(
    address: SharedAddress,
    operation: Operation,
    operand: T,
    order: Order,
    _scope: Scope,
) -> T {
    let at = Location::caller();
    with(|here| here.fetch_shared(address, operation, operand, order, at))
}

#[track_caller]
pub(crate) fn shared_compare_exchange<T: AtomicInteger>(
    address: SharedAddress,
    current: T,
    value: T,
    order: Order,
) -> T {
    let at = Location::caller();
    with(|here| here.compare_exchange_shared(address, (current, value), order, at))
}

#[track_caller]
pub(crate) fn cluster_load<T: Plain>(address: ClusterAddress, order: Order) -> T {
    let at = Location::caller();
    with(|here| here.load_cluster(address, order, at))
}

#[track_caller]
pub(crate) fn cluster_store<T: Plain>(address: ClusterAddress, value: T, order: Order) {
    let at = Location::caller();
    with(|here| here.store_cluster(address, value, order, at));
}

#[track_caller]
pub(crate) fn cluster_store_async<T: Plain>(address: ClusterAddress, value: T, arrivals: ClusterAddress) {
    let at = Location::caller();
    with(|here| here.store_async(address, value, arrivals, at));
}

#[track_caller]
pub(crate) fn cluster_fetch<T: Atomic>(
    address: ClusterAddress,
    operation: Operation,
    operand: T,
    order: Order,
    _scope: Scope,
) -> T {
    let at = Location::caller();
    with(|here| here.fetch_cluster(address, operation, operand, order, at))
}
