//! Positions: special registers.

use super::super::Axis;
use core::arch::asm;
use core::arch::nvptx as arch;

#[inline(always)]
pub(crate) fn thread(axis: Axis) -> u32 {
    // SAFETY: reading a special register has no precondition.
    unsafe {
        match axis {
            Axis::X => arch::_thread_idx_x() as u32,
            Axis::Y => arch::_thread_idx_y() as u32,
            Axis::Z => arch::_thread_idx_z() as u32,
        }
    }
}

#[inline(always)]
pub(crate) fn block(axis: Axis) -> u32 {
    // SAFETY: reading a special register has no precondition.
    unsafe {
        match axis {
            Axis::X => arch::_block_idx_x() as u32,
            Axis::Y => arch::_block_idx_y() as u32,
            Axis::Z => arch::_block_idx_z() as u32,
        }
    }
}

#[inline(always)]
pub(crate) fn block_size(axis: Axis) -> u32 {
    // SAFETY: reading a special register has no precondition.
    unsafe {
        match axis {
            Axis::X => arch::_block_dim_x() as u32,
            Axis::Y => arch::_block_dim_y() as u32,
            Axis::Z => arch::_block_dim_z() as u32,
        }
    }
}

#[inline(always)]
pub(crate) fn grid_size(axis: Axis) -> u32 {
    // SAFETY: reading a special register has no precondition.
    unsafe {
        match axis {
            Axis::X => arch::_grid_dim_x() as u32,
            Axis::Y => arch::_grid_dim_y() as u32,
            Axis::Z => arch::_grid_dim_z() as u32,
        }
    }
}

/// A function that reads the special register of this name.
macro_rules! special_register {
    ($($name:ident $register:literal;)*) => { $(
        #[inline(always)]
        pub(crate) fn $name() -> u32 {
            let value: u32;
            // SAFETY: reading a special register has no precondition.
            unsafe {
                asm!(concat!("mov.u32 {}, %", $register, ";"), out(reg32) value, options(pure, nomem, nostack));
            }
            value
        }
    )* };
}

special_register! {
    lane "laneid";
    cluster_rank "cluster_ctarank";
    cluster_size "cluster_nctarank";
    cluster_index "clusterid.x";
}
