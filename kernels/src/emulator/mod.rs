//! The emulator: runs kernels on the host and checks what they do.
//!
//! A launch has the geometry, shared memory and entry that it has on a GPU. Lanes are coroutines: a lane runs until it
//! waits for others or ends, so that a kernel sees one order of its threads' steps, always the same one. What another
//! order could have done is found by the rules instead: every access is checked for bounds, alignment, earlier writes,
//! and for an order to conflicting accesses that barriers, fences and atomics establish (`clock`, `shadow`).
//! Asynchronous copies arrive as late as they may, and what they and `wgmma` read was fenced (`proxy`).
//!
//! A broken rule ends the launch with a [`Report`]. What is not found: orders that only weak memory allows and that no
//! race reveals, a missing proxy fence before a bulk load writes over what was written, and races between launches on
//! different streams.

mod access;
mod arrivals;
mod atomics;
mod barriers;
mod clock;
mod copies;
mod group;
pub(crate) mod lane;
mod matrix;
mod memory;
mod proxy;
mod report;
mod run;
mod scheduler;
mod shadow;
mod shared;
#[cfg(test)]
mod tests;
mod transfers;
mod warp;
mod warpgroup;

pub use memory::{Memory, OutOfMemory};
pub use report::{Access, Fault, Instead, MaskProblem, Meeting, Party, Place, Report};
pub use scheduler::launch;
pub(crate) use shared::{ClusterAddress, SharedAddress};
pub(crate) use warp::{Exchange, Product};

/// How a launch is emulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Whether data races are looked for. Without, blocks that need not live together run on all cores.
    pub races: bool,
    /// Whether the host or another launch may change memory that the kernel polls, so that a launch of which all
    /// threads poll is no deadlock.
    pub polled_from_outside: bool,
    /// Bytes of a lane's stack.
    pub stack_bytes: usize,
}

impl Options {
    /// Everything is checked.
    pub const CHECKED: Self = Self { races: true, polled_from_outside: false, stack_bytes: 128 * 1024 };
    /// Races are not looked for.
    pub const WITHOUT_RACES: Self = Self { races: false, ..Self::CHECKED };
}

impl Default for Options {
    fn default() -> Self {
        Self::CHECKED
    }
}
