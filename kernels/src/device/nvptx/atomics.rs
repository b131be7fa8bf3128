//! Operations that read, change and write memory at once.

use super::super::atomic::{Atomic, AtomicInteger, Operation, Order, Scope, Suffix};
use super::memory::{ClusterAddress, GlobalAddress, SharedAddress};
use core::arch::asm;
use core::mem::transmute_copy;

/// One `atom` of 32 or 64 bits.
macro_rules! operate {
    ($prefix:literal, $suffix:literal, $bits:ty, $value:ident, $register:ident, $address:expr, $operand:expr, $t:ty) => {{
        let before: $bits;
        // SAFETY: the launch contract covers every address that kernels compute; the type has these bits.
        unsafe {
            asm!(concat!($prefix, $suffix, " {}, [{}], {};"), out($value) before, in($register) $address,
                in($value) transmute_copy::<$t, $bits>(&$operand), options(nostack));
            transmute_copy::<$bits, $t>(&before)
        }
    }};
}

/// The operation with the instruction `prefix`; sums do not depend on the sign.
#[rustfmt::skip]
macro_rules! fetch_as {
    ($prefix:literal, $register:ident, $address:expr, $operation:expr, $operand:expr, $t:ty) => {
        match ($operation, <$t as Atomic>::SUFFIX) {
            (Operation::Add, Suffix::F32) => operate!($prefix, ".add.f32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Add, Suffix::U64) => operate!($prefix, ".add.u64", u64, reg64, $register, $address, $operand, $t),
            (Operation::Add, _) => operate!($prefix, ".add.u32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Min, Suffix::U32) => operate!($prefix, ".min.u32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Min, Suffix::S32) => operate!($prefix, ".min.s32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Min, Suffix::U64) => operate!($prefix, ".min.u64", u64, reg64, $register, $address, $operand, $t),
            (Operation::Max, Suffix::U32) => operate!($prefix, ".max.u32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Max, Suffix::S32) => operate!($prefix, ".max.s32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Max, Suffix::U64) => operate!($prefix, ".max.u64", u64, reg64, $register, $address, $operand, $t),
            (Operation::And, Suffix::U64) => operate!($prefix, ".and.b64", u64, reg64, $register, $address, $operand, $t),
            (Operation::And, Suffix::U32 | Suffix::S32) => operate!($prefix, ".and.b32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Or, Suffix::U64) => operate!($prefix, ".or.b64", u64, reg64, $register, $address, $operand, $t),
            (Operation::Or, Suffix::U32 | Suffix::S32) => operate!($prefix, ".or.b32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Xor, Suffix::U64) => operate!($prefix, ".xor.b64", u64, reg64, $register, $address, $operand, $t),
            (Operation::Xor, Suffix::U32 | Suffix::S32) => operate!($prefix, ".xor.b32", u32, reg32, $register, $address, $operand, $t),
            (Operation::Exchange, Suffix::U64) => operate!($prefix, ".exch.b64", u64, reg64, $register, $address, $operand, $t),
            // An f32 has no other operation than its sum and the exchange.
            _ => operate!($prefix, ".exch.b32", u32, reg32, $register, $address, $operand, $t),
        }
    };
}

/// The instruction for an order and a scope. Weak and volatile operations are relaxed.
macro_rules! by_order_and_scope {
    ($order:expr, $scope:expr, $what:ident!($($rest:tt)*)) => {
        match ($order, $scope) {
            (Order::Acquire, Scope::Block) => $what!("atom.acquire.cta.global", $($rest)*),
            (Order::Acquire, Scope::Cluster) => $what!("atom.acquire.cluster.global", $($rest)*),
            (Order::Acquire, Scope::Device) => $what!("atom.acquire.gpu.global", $($rest)*),
            (Order::Acquire, Scope::System) => $what!("atom.acquire.sys.global", $($rest)*),
            (Order::Release, Scope::Block) => $what!("atom.release.cta.global", $($rest)*),
            (Order::Release, Scope::Cluster) => $what!("atom.release.cluster.global", $($rest)*),
            (Order::Release, Scope::Device) => $what!("atom.release.gpu.global", $($rest)*),
            (Order::Release, Scope::System) => $what!("atom.release.sys.global", $($rest)*),
            (Order::AcquireRelease, Scope::Block) => $what!("atom.acq_rel.cta.global", $($rest)*),
            (Order::AcquireRelease, Scope::Cluster) => $what!("atom.acq_rel.cluster.global", $($rest)*),
            (Order::AcquireRelease, Scope::Device) => $what!("atom.acq_rel.gpu.global", $($rest)*),
            (Order::AcquireRelease, Scope::System) => $what!("atom.acq_rel.sys.global", $($rest)*),
            (_, Scope::Block) => $what!("atom.relaxed.cta.global", $($rest)*),
            (_, Scope::Cluster) => $what!("atom.relaxed.cluster.global", $($rest)*),
            (_, Scope::Device) => $what!("atom.relaxed.gpu.global", $($rest)*),
            (_, Scope::System) => $what!("atom.relaxed.sys.global", $($rest)*),
        }
    };
}

/// One compare and exchange of 32 or 64 bits.
macro_rules! compare_as {
    ($prefix:literal, $register:ident, $address:expr, $current:expr, $value:expr, $t:ty) => {
        // SAFETY: the launch contract covers every address that kernels compute; the sizes were compared.
        unsafe {
            if size_of::<$t>() == 8 {
                let before: u64;
                asm!(concat!($prefix, ".cas.b64 {}, [{}], {}, {};"), out(reg64) before, in($register) $address,
                    in(reg64) transmute_copy::<$t, u64>(&$current), in(reg64) transmute_copy::<$t, u64>(&$value),
                    options(nostack));
                transmute_copy::<u64, $t>(&before)
            } else {
                let before: u32;
                asm!(concat!($prefix, ".cas.b32 {}, [{}], {}, {};"), out(reg32) before, in($register) $address,
                    in(reg32) transmute_copy::<$t, u32>(&$current), in(reg32) transmute_copy::<$t, u32>(&$value),
                    options(nostack));
                transmute_copy::<u32, $t>(&before)
            }
        }
    };
}

#[inline(always)]
pub(crate) fn global_fetch<T: Atomic>(
    address: GlobalAddress,
    operation: Operation,
    operand: T,
    order: Order,
    scope: Scope,
) -> T {
    by_order_and_scope!(order, scope, fetch_as!(reg64, address, operation, operand, T))
}

#[inline(always)]
pub(crate) fn global_compare_exchange<T: AtomicInteger>(
    address: GlobalAddress,
    current: T,
    value: T,
    order: Order,
    scope: Scope,
) -> T {
    by_order_and_scope!(order, scope, compare_as!(reg64, address, current, value, T))
}

/// In the block's memory no scope is wider than the block, and acquire and release cost nothing more.
#[inline(always)]
pub(crate) fn shared_fetch<T: Atomic>(
    address: SharedAddress,
    operation: Operation,
    operand: T,
    order: Order,
    _scope: Scope,
) -> T {
    match order {
        Order::Weak | Order::Volatile | Order::Relaxed => {
            fetch_as!("atom.relaxed.cta.shared", reg32, address, operation, operand, T)
        }
        _ => fetch_as!("atom.acq_rel.cta.shared", reg32, address, operation, operand, T),
    }
}

#[inline(always)]
pub(crate) fn shared_compare_exchange<T: AtomicInteger>(
    address: SharedAddress,
    current: T,
    value: T,
    order: Order,
) -> T {
    match order {
        Order::Weak | Order::Volatile | Order::Relaxed => {
            compare_as!("atom.relaxed.cta.shared", reg32, address, current, value, T)
        }
        _ => compare_as!("atom.acq_rel.cta.shared", reg32, address, current, value, T),
    }
}

#[inline(always)]
pub(crate) fn cluster_fetch<T: Atomic>(
    address: ClusterAddress,
    operation: Operation,
    operand: T,
    order: Order,
    _scope: Scope,
) -> T {
    match order {
        Order::Weak | Order::Volatile | Order::Relaxed => {
            fetch_as!("atom.relaxed.cluster.shared::cluster", reg32, address, operation, operand, T)
        }
        _ => fetch_as!("atom.acq_rel.cluster.shared::cluster", reg32, address, operation, operand, T),
    }
}
