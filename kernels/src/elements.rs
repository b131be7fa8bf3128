//! Elements by their numbers: a thread takes one element after the other, as far apart as the grid has threads, so that
//! neighbouring threads take neighbouring elements and a grid of any size takes all. So do blocks take tiles.
//!
//! Grid `min(⌈n / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::thread;
use crate::launch::{Device, Geometry, Reject};

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Most elements, so that a thread's next one is still a number.
pub const MOST: u64 = u32::MAX as u64 / 2;

/// The launch for so many elements.
pub const fn geometry(count: u32, multiprocessors: u32) -> Geometry {
    let (blocks, most) = (count.div_ceil(THREADS), 32 * multiprocessors);
    Geometry::linear(if blocks < most { blocks } else { most }, THREADS)
}

/// Whether no thread's next element is beyond all numbers; `name` tells what is counted.
pub(crate) fn limit(name: &'static str, got: u64) -> Result<(), Reject> {
    if got > MOST { Err(Reject::Extent { name, got, limit: MOST }) } else { Ok(()) }
}

/// The elements of a launch, a part of its parameters.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Elements {
    count: u32,
    /// Threads of the grid.
    threads: u32,
}

impl Elements {
    /// So many elements, at most [`MOST`], and the launch for them.
    pub(crate) fn on(device: &Device, count: u64) -> (Self, Geometry) {
        let geometry = geometry(count as u32, device.multiprocessors);
        (Self { count: count as u32, threads: geometry.grid[0] * THREADS }, geometry)
    }

    /// So many tiles, at most [`MOST`], each for a block, and the launch for them.
    pub(crate) fn of_blocks(device: &Device, count: u64) -> (Self, Geometry) {
        let most = count.min(u64::from(32 * device.multiprocessors));
        let geometry = Geometry::linear(most as u32, THREADS);
        (Self { count: count as u32, threads: geometry.grid[0] * THREADS }, geometry)
    }

    /// Gives each of the block's tiles to `take`, by its number.
    #[inline(always)]
    pub(crate) fn each_of_blocks(&self, mut take: impl FnMut(u32)) {
        let mut number = thread::block_idx_x();
        while number < self.count {
            take(number);
            number += self.threads / THREADS;
        }
    }

    /// Gives each of the thread's elements to `take`, by its number.
    #[inline(always)]
    pub(crate) fn each(&self, mut take: impl FnMut(u32)) {
        let mut number = thread::index_1d();
        while number < self.count {
            take(number);
            number += self.threads;
        }
    }
}
