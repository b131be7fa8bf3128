//! The CPU backend: what a kernel is given, element arithmetic, and the kernels that several operators share.

pub(crate) mod body;
pub(crate) mod broadcast;
pub(crate) mod cast;
pub(crate) mod concat_copy;
pub(crate) mod contraction;
pub(crate) mod convolution;
pub(crate) mod cumulative;
pub(crate) mod einsum;
pub(crate) mod gemm;
pub(crate) mod index;
pub(crate) mod index_tuples;
mod io;
mod kernel;
pub(crate) mod lines;
pub(crate) mod map;
pub(crate) mod moments;
pub(crate) mod movement;
pub(crate) mod number;
pub(crate) mod pad_copy;
pub(crate) mod pool;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod relay;
pub(crate) mod reshaped;
pub(crate) mod scatter;
pub(crate) mod shards;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod split;
pub(crate) mod stack;
pub(crate) mod strided_copy;
pub(crate) mod tiles;

pub(crate) use io::{Io, RunContext, Slot};
pub(crate) use kernel::{CpuSite, Kernel};
