//! Loads, stores and atomic operations.

use super::super::atomic::{Atomic, AtomicInteger, Operation, Order, Scope, Suffix};
use super::super::plain::Plain;
use core::arch::{asm, global_asm};
use core::mem::transmute_copy;

/// A pointer, so that the compiler knows that kernel parameters point to global memory.
pub(crate) type GlobalAddress = *mut u8;
/// An address in the window of the block's shared memory.
pub(crate) type SharedAddress = u32;
/// An address in the window of the cluster's shared memory.
pub(crate) type ClusterAddress = u32;

global_asm!(".extern .shared .align 128 .b8 recurve_shared[];");

#[inline(always)]
pub(crate) fn global_from(address: u64) -> GlobalAddress {
    address as usize as *mut u8
}

#[inline(always)]
pub(crate) fn global_address(address: GlobalAddress) -> u64 {
    address as usize as u64
}

#[inline(always)]
pub(crate) fn global_offset(address: GlobalAddress, bytes: usize) -> GlobalAddress {
    address.wrapping_add(bytes)
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

/// Loads of every size with one spelling of `ld`.
macro_rules! load_as {
    ($instruction:literal, $register:ident, $address:expr, $t:ty) => { {
        let address = $address;
        // SAFETY: the launch contract covers every address that kernels compute; the sizes were compared.
        unsafe { match size_of::<$t>() {
            1 => { let x: u16; asm!(concat!($instruction, ".u8 {}, [{}];"), out(reg16) x, in($register) address, options(nostack)); transmute_copy::<u16, $t>(&x) }
            2 => { let x: u16; asm!(concat!($instruction, ".u16 {}, [{}];"), out(reg16) x, in($register) address, options(nostack)); transmute_copy::<u16, $t>(&x) }
            4 => { let x: u32; asm!(concat!($instruction, ".u32 {}, [{}];"), out(reg32) x, in($register) address, options(nostack)); transmute_copy::<u32, $t>(&x) }
            8 => { let x: u64; asm!(concat!($instruction, ".u64 {}, [{}];"), out(reg64) x, in($register) address, options(nostack)); transmute_copy::<u64, $t>(&x) }
            _ => {
                let (a, b, c, d): (u32, u32, u32, u32);
                asm!(concat!($instruction, ".v4.u32 {{{}, {}, {}, {}}}, [{}];"), out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in($register) address, options(nostack));
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
            2 => { let x = transmute_copy::<$t, u16>(&value); asm!(concat!($instruction, ".u16 [{}], {};"), in($register) address, in(reg16) x, options(nostack)); }
            4 => { let x = transmute_copy::<$t, u32>(&value); asm!(concat!($instruction, ".u32 [{}], {};"), in($register) address, in(reg32) x, options(nostack)); }
            8 => { let x = transmute_copy::<$t, u64>(&value); asm!(concat!($instruction, ".u64 [{}], {};"), in($register) address, in(reg64) x, options(nostack)); }
            _ => {
                let [a, b, c, d] = transmute_copy::<$t, [u32; 4]>(&value);
                asm!(concat!($instruction, ".v4.u32 [{}], {{{}, {}, {}, {}}};"), in($register) address, in(reg32) a, in(reg32) b, in(reg32) c, in(reg32) d, options(nostack));
            }
        } }
    } };
}

#[inline(always)]
pub(crate) fn global_load<T: Plain>(address: GlobalAddress, order: Order, scope: Scope) -> T {
    match (order, scope) {
        // SAFETY: the launch contract covers every address that kernels compute; `T` is plain data.
        (Order::Weak, _) => unsafe { address.cast::<T>().read() },
        (Order::Volatile, _) => load_as!("ld.volatile.global", reg64, address as u64, T),
        (Order::Relaxed, Scope::Block) => load_as!("ld.relaxed.cta.global", reg64, address as u64, T),
        (Order::Relaxed, Scope::System) => load_as!("ld.relaxed.sys.global", reg64, address as u64, T),
        (Order::Relaxed, _) => load_as!("ld.relaxed.gpu.global", reg64, address as u64, T),
        (_, Scope::Block) => load_as!("ld.acquire.cta.global", reg64, address as u64, T),
        (_, Scope::System) => load_as!("ld.acquire.sys.global", reg64, address as u64, T),
        _ => load_as!("ld.acquire.gpu.global", reg64, address as u64, T),
    }
}

#[inline(always)]
pub(crate) fn global_load_read_only<T: Plain>(address: GlobalAddress) -> T {
    load_as!("ld.global.nc.L1::no_allocate", reg64, address as u64, T)
}

#[inline(always)]
pub(crate) fn global_store<T: Plain>(address: GlobalAddress, value: T, order: Order, scope: Scope) {
    match (order, scope) {
        // SAFETY: the launch contract covers every address that kernels compute; `T` is plain data.
        (Order::Weak, _) => unsafe { address.cast::<T>().write(value) },
        (Order::Volatile, _) => store_as!("st.volatile.global", reg64, address as u64, value, T),
        (Order::Relaxed, Scope::Block) => store_as!("st.relaxed.cta.global", reg64, address as u64, value, T),
        (Order::Relaxed, Scope::System) => {
            store_as!("st.relaxed.sys.global", reg64, address as u64, value, T)
        }
        (Order::Relaxed, _) => store_as!("st.relaxed.gpu.global", reg64, address as u64, value, T),
        (_, Scope::Block) => store_as!("st.release.cta.global", reg64, address as u64, value, T),
        (_, Scope::System) => store_as!("st.release.sys.global", reg64, address as u64, value, T),
        _ => store_as!("st.release.gpu.global", reg64, address as u64, value, T),
    }
}

#[inline(always)]
pub(crate) fn shared_load<T: Plain>(address: SharedAddress, order: Order) -> T {
    match order {
        Order::Weak => load_as!("ld.shared", reg32, address, T),
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
