//! GPU kernels of Recurve.
//!
//! A kernel is written once over the [`device`] library and compiled twice: for `nvptx64-nvidia-cuda` into the PTX of
//! the `ptx` room, and for the host, where the `emulator` runs it with the same launch geometry and checks every
//! access. `README.md` beside this crate explains the conventions of a kernel file.
#![cfg_attr(target_arch = "nvptx64", no_std)]
#![cfg_attr(
    target_arch = "nvptx64",
    feature(abi_ptx, abi_unadjusted, asm_experimental_arch, link_llvm_intrinsics, stdarch_nvptx)
)]
#![cfg_attr(target_arch = "nvptx64", allow(internal_features))]
#![deny(missing_docs)]

pub mod activation;
pub mod arg_extreme;
pub mod attention;
pub mod blocks;
#[cfg(all(not(target_arch = "nvptx64"), any(test, feature = "cases")))]
#[doc(hidden)]
pub mod cases;
pub mod channels;
pub mod class_loss;
pub mod codes;
pub mod col2im;
pub mod conv;
pub mod conv_integer;
pub mod conv_transpose;
pub mod copy;
pub mod cumulative;
pub mod deform;
pub mod depthwise;
pub mod det;
pub mod device;
pub mod dtype;
pub mod element;
pub mod elementary;
pub mod elements;
#[cfg(not(target_arch = "nvptx64"))]
pub mod emulator;
pub mod epilogue;
pub mod gather;
pub mod gather_nd;
pub mod gemm;
pub mod gemv;
pub mod grid_sample;
mod implicit;
pub mod kernel;
pub mod launch;
pub mod linear_attention;
pub mod lines;
pub mod map;
pub mod nest;
pub mod norm;
pub mod places;
pub mod pool;
pub mod probe;
pub mod program;
pub mod recurrent;
pub mod reduce;
pub mod regions;
pub mod resample;
pub mod roi_align;
pub mod roi_max;
pub mod scatter;
pub mod softmax;
pub mod top_k;
pub mod transpose;
mod weighed;
mod wide;

/// Kernels do not panic: indices are checked on the host before a launch, arithmetic wraps.
#[cfg(target_arch = "nvptx64")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    device::thread::trap()
}
