//! What a launch consists of: the entry, its geometry, and the contract that is checked before.

mod entry;
mod geometry;
mod prepared;
mod reject;
mod variants;

#[cfg(target_arch = "nvptx64")]
pub use entry::COMPILED_CAPABILITY;
pub use entry::Entry;
pub use geometry::{DEFAULT_SHARED_BYTES, Device, Geometry};
pub use prepared::{Launch, Prepared};
pub use reject::{Buffer, Reject};
pub use variants::{Variant, Variants};
