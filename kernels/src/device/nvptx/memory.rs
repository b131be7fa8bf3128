//! Addresses, loads and stores: the instruction for the memory and the order, by size.

use super::super::atomic::{Order, Scope};
use super::super::plain::Plain;
pub(crate) use super::atomics::{
    cluster_fetch, global_compare_exchange, global_fetch, shared_compare_exchange, shared_fetch,
};
use core::arch::{asm, global_asm};
use core::mem::transmute_copy;

/// A generic address, which for global memory is also the address in its window.
pub(crate) type GlobalAddress = u64;
/// An address in the window of the block's shared memory.
pub(crate) type SharedAddress = u32;
/// An address in the window of the cluster's shared memory.
pub(crate) type ClusterAddress = u32;

global_asm!(".extern .shared .align 1024 .b8 recurve_shared[];");

#[inline(always)]
pub(crate) fn global_from(address: u64) -> GlobalAddress {
    address
}

#[inline(always)]
pub(crate) fn global_address(address: GlobalAddress) -> u64 {
    address
}

#[inline(always)]
pub(crate) fn global_offset(address: GlobalAddress, bytes: usize) -> GlobalAddress {
    address.wrapping_add(bytes as u64)
}

#[inline(always)]
pub(crate) fn shared_region(offset: u32, _bytes: u32) -> SharedAddress {
    let base: u32;
    // SAFETY: taking the address of the module's shared array has no precondition.
    unsafe { asm!("mov.u32 {}, recurve_shared;", out(reg32) base, options(pure, nomem, nostack)) };
    base.wrapping_add(offset)
}

#[inline(always)]
pub(crate) fn shared_offset(address: SharedAddress, bytes: u32) -> SharedAddress {
    address.wrapping_add(bytes)
}

#[inline(always)]
pub(crate) fn cluster_offset(address: ClusterAddress, bytes: u32) -> ClusterAddress {
    address.wrapping_add(bytes)
}

#[inline(always)]
pub(crate) fn cluster_map(address: SharedAddress, rank: u32) -> ClusterAddress {
    let mapped: u32;
    // SAFETY: the instruction computes an address.
    unsafe {
        asm!("mapa.shared::cluster.u32 {}, {}, {};", out(reg32) mapped, in(reg32) address, in(reg32) rank,
            options(pure, nomem, nostack));
    }
    mapped
}

/// Loads of every size with one spelling of `ld`. Weak loads are `pure, readonly`: the compiler may merge them and move
/// them between stores and barriers, as loads of a slice.
macro_rules! load_as {
    ($instruction:literal, $register:ident, $address:expr, $t:ty $(, $option:ident)*) => { {
        let address = $address;
        // SAFETY: the launch contract covers every address that kernels compute; the sizes were compared.
        unsafe { match size_of::<$t>() {
            1 => { let x: u16; asm!(concat!($instruction, ".u8 {}, [{}];"), out(reg16) x, in($register) address, options(nostack $(, $option)*)); transmute_copy::<u16, $t>(&x) }
            2 => { let x: u16; asm!(concat!($instruction, ".b16 {}, [{}];"), out(reg16) x, in($register) address, options(nostack $(, $option)*)); transmute_copy::<u16, $t>(&x) }
            4 => { let x: u32; asm!(concat!($instruction, ".b32 {}, [{}];"), out(reg32) x, in($register) address, options(nostack $(, $option)*)); transmute_copy::<u32, $t>(&x) }
            8 => { let x: u64; asm!(concat!($instruction, ".b64 {}, [{}];"), out(reg64) x, in($register) address, options(nostack $(, $option)*)); transmute_copy::<u64, $t>(&x) }
            _ => {
                let (a, b, c, d): (u32, u32, u32, u32);
                asm!(concat!($instruction, ".v4.b32 {{{}, {}, {}, {}}}, [{}];"), out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in($register) address, options(nostack $(, $option)*));
                transmute_copy::<[u32; 4], $t>(&[a, b, c, d])
            }
        } }
    } };
}

/// Stores of every size with one spelling of `st`.
macro_rules! store_as {
    ($instruction:literal, $register:ident, $address:expr, $value:expr, $t:ty) => { {
        let (address, value): (_, $t) = ($address, $value);
        // SAFETY: the launch contract covers every address that kernels compute; the sizes were compared.
        unsafe { match size_of::<$t>() {
            1 => { let x = u16::from(transmute_copy::<$t, u8>(&value)); asm!(concat!($instruction, ".u8 [{}], {};"), in($register) address, in(reg16) x, options(nostack)); }
            2 => { let x = transmute_copy::<$t, u16>(&value); asm!(concat!($instruction, ".b16 [{}], {};"), in($register) address, in(reg16) x, options(nostack)); }
            4 => { let x = transmute_copy::<$t, u32>(&value); asm!(concat!($instruction, ".b32 [{}], {};"), in($register) address, in(reg32) x, options(nostack)); }
            8 => { let x = transmute_copy::<$t, u64>(&value); asm!(concat!($instruction, ".b64 [{}], {};"), in($register) address, in(reg64) x, options(nostack)); }
            _ => {
                let [a, b, c, d] = transmute_copy::<$t, [u32; 4]>(&value);
                asm!(concat!($instruction, ".v4.b32 [{}], {{{}, {}, {}, {}}};"), in($register) address, in(reg32) a, in(reg32) b, in(reg32) c, in(reg32) d, options(nostack));
            }
        } }
    } };
}

#[inline(always)]
pub(crate) fn global_load<T: Plain>(address: GlobalAddress, order: Order, scope: Scope) -> T {
    match (order, scope) {
        (Order::Weak, _) => load_as!("ld.global", reg64, address, T, pure, readonly),
        (Order::Volatile, _) => load_as!("ld.volatile.global", reg64, address, T),
        (Order::Relaxed, Scope::Block) => load_as!("ld.relaxed.cta.global", reg64, address, T),
        (Order::Relaxed, Scope::Cluster) => load_as!("ld.relaxed.cluster.global", reg64, address, T),
        (Order::Relaxed, Scope::Device) => load_as!("ld.relaxed.gpu.global", reg64, address, T),
        (Order::Relaxed, Scope::System) => load_as!("ld.relaxed.sys.global", reg64, address, T),
        (_, Scope::Block) => load_as!("ld.acquire.cta.global", reg64, address, T),
        (_, Scope::Cluster) => load_as!("ld.acquire.cluster.global", reg64, address, T),
        (_, Scope::Device) => load_as!("ld.acquire.gpu.global", reg64, address, T),
        (_, Scope::System) => load_as!("ld.acquire.sys.global", reg64, address, T),
    }
}

#[inline(always)]
pub(crate) fn global_load_read_only<T: Plain>(address: GlobalAddress) -> T {
    load_as!("ld.global.nc.L1::no_allocate", reg64, address, T, pure, readonly)
}

#[inline(always)]
pub(crate) fn global_store<T: Plain>(address: GlobalAddress, value: T, order: Order, scope: Scope) {
    match (order, scope) {
        (Order::Weak, _) => store_as!("st.global", reg64, address, value, T),
        (Order::Volatile, _) => store_as!("st.volatile.global", reg64, address, value, T),
        (Order::Relaxed, Scope::Block) => store_as!("st.relaxed.cta.global", reg64, address, value, T),
        (Order::Relaxed, Scope::Cluster) => store_as!("st.relaxed.cluster.global", reg64, address, value, T),
        (Order::Relaxed, Scope::Device) => store_as!("st.relaxed.gpu.global", reg64, address, value, T),
        (Order::Relaxed, Scope::System) => store_as!("st.relaxed.sys.global", reg64, address, value, T),
        (_, Scope::Block) => store_as!("st.release.cta.global", reg64, address, value, T),
        (_, Scope::Cluster) => store_as!("st.release.cluster.global", reg64, address, value, T),
        (_, Scope::Device) => store_as!("st.release.gpu.global", reg64, address, value, T),
        (_, Scope::System) => store_as!("st.release.sys.global", reg64, address, value, T),
    }
}

#[inline(always)]
pub(crate) fn shared_load<T: Plain>(address: SharedAddress, order: Order) -> T {
    match order {
        Order::Weak => load_as!("ld.shared", reg32, address, T, pure, readonly),
        _ => load_as!("ld.volatile.shared", reg32, address, T),
    }
}

#[inline(always)]
pub(crate) fn shared_store<T: Plain>(address: SharedAddress, value: T, order: Order) {
    match order {
        Order::Weak => store_as!("st.shared", reg32, address, value, T),
        _ => store_as!("st.volatile.shared", reg32, address, value, T),
    }
}

#[inline(always)]
pub(crate) fn cluster_load<T: Plain>(address: ClusterAddress, _order: Order) -> T {
    load_as!("ld.shared::cluster", reg32, address, T)
}

#[inline(always)]
pub(crate) fn cluster_store<T: Plain>(address: ClusterAddress, value: T, _order: Order) {
    store_as!("st.shared::cluster", reg32, address, value, T);
}

/// The asynchronous store of 4, 8 or 16 bytes that counts them at an mbarrier of the same block.
#[inline(always)]
pub(crate) fn cluster_store_async<T: Plain>(address: ClusterAddress, value: T, arrivals: ClusterAddress) {
    // SAFETY: the launch contract covers every address that kernels compute; the sizes were compared.
    unsafe {
        match size_of::<T>() {
            4 => asm!("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [{}], {}, [{}];",
                in(reg32) address, in(reg32) transmute_copy::<T, u32>(&value), in(reg32) arrivals, options(nostack)),
            8 => asm!("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b64 [{}], {}, [{}];",
                in(reg32) address, in(reg64) transmute_copy::<T, u64>(&value), in(reg32) arrivals, options(nostack)),
            _ => {
                let [a, b, c, d] = transmute_copy::<T, [u32; 4]>(&value);
                asm!("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [{}], {{{}, {}, {}, {}}}, [{}];",
                    in(reg32) address, in(reg32) a, in(reg32) b, in(reg32) c, in(reg32) d, in(reg32) arrivals,
                    options(nostack));
            }
        }
    }
}
