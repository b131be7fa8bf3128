//! The device's implementation: each primitive is its instruction.

mod atomics;
pub(super) mod copies;
pub(super) mod float;
pub(super) mod index;
pub(super) mod lanes;
pub(super) mod matrix;
pub(super) mod memory;
pub(super) mod sync;
