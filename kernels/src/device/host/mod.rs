//! The host's implementation of the device library: every primitive asks the emulator's running lane.

pub(super) mod copies;
pub(super) mod float;
pub(super) mod index;
pub(super) mod lanes;
pub(super) mod matrix;
pub(super) mod memory;
pub(super) mod sync;
