//! The device library: what kernels are written with, named after `cuda_std` where that has the thing.
//!
//! One surface over two implementations of the same primitives: `nvptx` (the instruction and nothing else) and `host`
//! (checked and recorded by the emulator). **All global and shared memory is reached through [`Global`], [`Shared`]
//! and [`Distributed`]**, so that the emulator sees every access. On the device nothing is checked; what makes an
//! access valid there is the contract that `launch::Prepared` was checked against, and the emulator's tests of it.

pub mod async_copy;
pub mod atomic;
pub mod barrier;
pub mod block;
pub mod cluster;
mod distributed;
pub mod float16;
mod global;
pub mod grid;
pub mod math;
pub mod mma;
mod plain;
pub mod shared;
pub mod thread;
pub mod warp;
pub mod wgmma;

#[cfg(not(target_arch = "nvptx64"))]
#[path = "host/mod.rs"]
mod implementation;
#[cfg(target_arch = "nvptx64")]
#[path = "nvptx/mod.rs"]
mod implementation;

pub use atomic::{Order, Scope};
pub use distributed::Distributed;
pub use float16::{BF16, F16, Float16};
pub use global::Global;
pub use plain::{Plain, Vector};
pub use shared::Shared;

/// One of the three directions of a block or grid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Axis {
    X,
    Y,
    Z,
}
