//! The CPU backend: what a kernel is given, element arithmetic, and the kernels that several operators share.

mod io;
mod kernel;
pub(crate) mod number;
pub(crate) mod recurrent;
pub(crate) mod relay;
pub(crate) mod shards;
pub(crate) mod simd;

pub(crate) use io::{Io, RunContext, Slot};
pub(crate) use kernel::{CpuSite, Kernel};
