//! The calling thread: where it is in its block and grid.

use super::implementation as imp;
use super::{Axis, barrier};

macro_rules! position {
    ($($name:ident $primitive:ident $axis:ident, $what:literal;)*) => { $(
        #[doc = $what]
        #[inline(always)]
        pub fn $name() -> u32 { imp::index::$primitive(Axis::$axis) }
    )* };
}

position! {
    thread_idx_x thread X, "Position in the block along x, the fastest axis.";
    thread_idx_y thread Y, "Position in the block along y.";
    thread_idx_z thread Z, "Position in the block along z.";
    block_idx_x block X, "Position of the block in the grid along x.";
    block_idx_y block Y, "Position of the block in the grid along y.";
    block_idx_z block Z, "Position of the block in the grid along z.";
    block_dim_x block_size X, "Threads of a block along x.";
    block_dim_y block_size Y, "Threads of a block along y.";
    block_dim_z block_size Z, "Threads of a block along z.";
    grid_dim_x grid_size X, "Blocks of the grid along x.";
    grid_dim_y grid_size Y, "Blocks of the grid along y.";
    grid_dim_z grid_size Z, "Blocks of the grid along z.";
}

/// Position in a one-dimensional grid of one-dimensional blocks.
#[inline(always)]
pub fn index_1d() -> u32 {
    block_idx_x() * block_dim_x() + thread_idx_x()
}

/// Waits for all threads of the block, and makes what they wrote visible to each other. Every thread of the block
/// calls it at the same place.
#[inline(always)]
#[track_caller]
pub fn sync_threads() {
    barrier::sync_block();
}

/// Suspends the thread for about this long; for polling loops.
#[inline(always)]
pub fn nanosleep(nanoseconds: u32) {
    imp::sync::nanosleep(nanoseconds);
}

/// Ends the launch with an error.
#[inline(always)]
#[track_caller]
pub fn trap() -> ! {
    imp::sync::trap()
}
