//! The CPU backend: what a kernel is given, element arithmetic, and the kernels that several operators share.

pub(crate) mod contraction;
pub(crate) mod convolution;
pub(crate) mod gemm;
mod io;
mod kernel;
pub(crate) mod lines;
pub(crate) mod moments;
pub(crate) mod number;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod softmax;
pub(crate) mod tiles;

pub(crate) use io::{Io, RunContext, Slot};
pub(crate) use kernel::{CpuSite, Kernel};
