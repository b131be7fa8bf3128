//! # Probes
//! What the machine costs, measured by kernels that do nothing else: an empty launch, reading and copying ([`stream`]),
//! and meeting: grid barrier, a flag through L2, a flag of the host ([`meet`]), cluster barrier and `st.async`
//! ([`cluster`]). Each also counts what it saw of the others, so that a test can tell whether they met at all. The empty
//! one: any grid of blocks of one warp, without shared memory.

pub mod cluster;
pub mod meet;
pub mod stream;

use crate::entry;
use crate::launch::{Device, Geometry, Prepared, Reject};

/// What the empty kernel takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Nothing(u64);

const _: () = assert!(size_of::<Nothing>() == 8);

/// One warp.
pub const THREADS: u32 = 32;

/// The launch of the empty kernel.
pub const fn geometry(blocks: u32) -> Geometry {
    Geometry::linear(blocks, THREADS)
}

#[inline(always)]
fn nothing(_: Nothing) {}

entry!(
    /// Ends at once.
    EMPTY = probe_empty(Nothing): nothing, THREADS
);

/// A launch of the empty kernel.
pub fn empty(blocks: u32, device: &Device) -> Result<Prepared<Nothing>, Reject> {
    Prepared::new(&EMPTY, geometry(blocks), Nothing(0), device)
}
