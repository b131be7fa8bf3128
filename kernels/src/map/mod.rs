//! # Maps
//! A fused program of scalar expressions, carried out for every element of a space: `y_j[i] = program(x_0[…], x_1[…], …)`.
//! Outputs are dense; inputs are dense or broadcast along axes.
//!
//! A thread makes four consecutive elements at a time, with loads and stores of 16 bytes (f32) where the operands lie so,
//! and interprets the program once for the four: each word of code is read by all threads alike. Registers lie in shared
//! memory, a slot of four values for each thread, so that a program of any length needs no more than its live values;
//! a thread touches nothing but its own slots. `map.narrow` has 32-bit registers, `map.wide` 64-bit ones for programs with
//! f64 or 64-bit integers. Functions are those of `elementary`, the rarer ones an element at a time; of f64 there are none.
//!
//! Arithmetic is that of `program`, each instruction rounded to its kind; sums, products, quotients and square roots are
//! exact in their last bit, functions within the units of `elementary`, at most 4.
//!
//! Grid `min(⌈n / 512⌉, 32 per multiprocessor)`, block 128, shared memory `slots · 2 KiB`, or 4 KiB for 64-bit registers.

pub(crate) mod arithmetic;
#[cfg(not(target_arch = "nvptx64"))]
mod code;
#[cfg(not(target_arch = "nvptx64"))]
mod family;
pub(crate) mod functions;
pub(crate) mod interpreter;
#[cfg(not(target_arch = "nvptx64"))]
mod operands;
#[cfg(test)]
mod tests;

#[cfg(not(target_arch = "nvptx64"))]
pub(crate) use code::limit;
#[cfg(not(target_arch = "nvptx64"))]
pub use code::{Code, Source};
#[cfg(not(target_arch = "nvptx64"))]
pub use family::{Buffers, VARIANTS, Variant};
#[cfg(not(target_arch = "nvptx64"))]
pub use operands::{Layout, MOST_AXES};

use crate::device::{Global, Vector, shared, thread};
use crate::entry;
use crate::launch::Geometry;
use interpreter::{GROUP, Narrow, Operands, Registers, Span, Wide, interpret, pick};

/// Most inputs.
pub const MOST_INPUTS: usize = 8;
/// Most outputs.
pub const MOST_OUTPUTS: usize = 4;

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    code: Global<Vector<u32, 4>>,
    inputs: [Global<u8>; MOST_INPUTS],
    outputs: [Global<u8>; MOST_OUTPUTS],
    /// Elements.
    count: u32,
    /// Words of the code.
    words: u32,
    slots: u32,
    /// Blocks of the grid, so that the stride of a thread's elements is known.
    blocks: u32,
}

const _: () = assert!(size_of::<Params>() == 120);

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Shared memory of a block.
const SHARED: u32 = 48 * 1024;
/// Bytes of a slot, for all threads of a block.
const NARROW_SLOT: u32 = 16 * THREADS;
const WIDE_SLOT: u32 = 32 * THREADS;

/// The launch for so many elements and slots.
pub const fn geometry(count: u32, slots: u32, wide: bool, multiprocessors: u32) -> Geometry {
    let blocks = count.div_ceil(GROUP * THREADS);
    let most = 32 * multiprocessors;
    let bytes = slots * if wide { WIDE_SLOT } else { NARROW_SLOT };
    Geometry::linear(if blocks < most { blocks } else { most }, THREADS).with_shared(bytes)
}

impl Operands for Params {
    #[inline(always)]
    fn input(&self, number: u32) -> Global<u8> {
        pick(self.inputs, number)
    }

    #[inline(always)]
    fn output(&self, number: u32) -> Global<u8> {
        pick(self.outputs, number)
    }

    #[inline(always)]
    fn result(&self) -> [u64; 4] {
        [0; 4]
    }
}

/// Every thread.
#[inline(always)]
fn run<R: Registers>(p: Params, registers: R) {
    let mut group = thread::index_1d();
    while group < p.count.div_ceil(GROUP) {
        let first = group * GROUP;
        let valid = if p.count - first < GROUP { p.count - first } else { GROUP };
        interpret(registers, (p.code, p.words), Span { first, valid }, &p);
        group += p.blocks * THREADS;
    }
}

#[inline(always)]
fn narrow(p: Params) {
    run(p, Narrow::<true> { memory: shared::array(0, p.slots * THREADS), threads: THREADS });
}

#[inline(always)]
fn wide(p: Params) {
    run(p, Wide { memory: shared::array(0, 2 * p.slots * THREADS), threads: THREADS });
}

entry!(
    /// 32-bit registers.
    NARROW = map_narrow(Params): narrow, THREADS, with_shared(SHARED)
);
entry!(
    /// 64-bit registers.
    WIDE = map_wide(Params): wide, THREADS, with_shared(SHARED), with_spills(64)
);
