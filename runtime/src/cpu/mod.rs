//! The CPU backend: what a kernel is given, element arithmetic, and the kernels that several operators share.

pub(crate) mod broadcast;
pub(crate) mod cast;
mod io;
mod kernel;
pub(crate) mod map;
pub(crate) mod number;
pub(crate) mod split;

pub(crate) use io::{Io, RunContext, Slot};
pub(crate) use kernel::{CpuSite, Kernel};
