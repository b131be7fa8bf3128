//! # Maps
//! A fused program of scalar expressions, carried out for every element of a space: `y_j[i] = program(x_0[…], x_1[…], …)`.
//! Outputs are dense; inputs are dense or broadcast along axes.
//!
//! A thread makes four consecutive elements at a time, with loads and stores of 16 bytes (f32) where the operands lie so,
//! and interprets the program once for the four: each word of code is read by all threads alike. Registers lie in shared
//! memory, a slot of four values for each thread, so that a program of any length needs no more than its live values;
//! a thread touches nothing but its own slots. `map.narrow` has 32-bit registers, `map.wide` 64-bit ones for programs with
//! f64 or 64-bit integers. Functions are those of `elementary`; programs with others are refused.
//!
//! Arithmetic is that of `program`, each instruction rounded to its kind; sums, products, quotients and square roots are
//! exact in their last bit, functions within 3 ulp.
//!
//! Grid `min(⌈n / 512⌉, 32 per multiprocessor)`, block 128, shared memory `slots · 2 KiB`, or 4 KiB for 64-bit registers.

pub(crate) mod arithmetic;
#[cfg(not(target_arch = "nvptx64"))]
mod code;
#[cfg(not(target_arch = "nvptx64"))]
mod family;
#[cfg(not(target_arch = "nvptx64"))]
mod operands;
#[cfg(test)]
mod tests;

#[cfg(not(target_arch = "nvptx64"))]
pub use code::{Code, Source};
#[cfg(not(target_arch = "nvptx64"))]
pub use family::{Buffers, VARIANTS, Variant};
#[cfg(not(target_arch = "nvptx64"))]
pub use operands::{Layout, MOST_AXES};

use crate::device::math::divide;
use crate::device::{Global, Shared, Vector, shared, thread};
use crate::dtype::DType;
use crate::entry;
use crate::launch::Geometry;
use crate::program::{Kind, Opcode};
use arithmetic::{Operation, apply, store, widen};

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
/// Elements that a thread makes at a time.
const GROUP: u32 = 4;
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

/// How four consecutive elements of an operand are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
enum Access {
    /// They lie side by side, as those of the outputs do.
    Dense,
    /// They are one and the same everywhere.
    Scalar,
    /// They differ in the last axis alone, along which the operand is dense or does not change.
    Row,
    /// One by one.
    Gather,
}

/// In the place of an opcode: a register is stored.
const STORE: u32 = 0xff;

/// Bytes of an element.
#[inline(always)]
pub(crate) fn size(dtype: DType) -> u32 {
    dtype.bits() as u32 / 8
}

/// The operation that a word's first quarter names.
#[inline(always)]
pub(crate) fn decode(head: u32) -> Operation {
    Operation {
        opcode: Opcode::from_code(head & 0xff),
        kind: Kind::from_code(head >> 8 & 0xff),
        operands: Kind::from_code(head >> 16 & 0xff),
        dtype: DType::from_code(head >> 24),
    }
}

/// The element's place in an operand with these strides, last axis first.
#[inline(always)]
fn place(element: u32, extents: [u32; 4], strides: [u32; 5]) -> u32 {
    let (mut rest, mut offset) = (element, 0);
    let mut axis = 0;
    while axis < 4 {
        let (quotient, remainder) = divide(rest, extents[axis]);
        offset += remainder * strides[axis];
        rest = quotient;
        axis += 1;
    }
    offset + rest * strides[4]
}

/// Registers of a thread: four values each.
trait Registers: Copy {
    /// Whether they hold 64 bits.
    const WIDE: bool;
    fn new(slots: u32) -> Self;
    fn get(self, slot: u32) -> [u64; 4];
    fn set(self, slot: u32, values: [u64; 4]);
}

#[derive(Clone, Copy)]
struct Narrow(Shared<Vector<u32, 4>>);

impl Registers for Narrow {
    const WIDE: bool = false;

    #[inline(always)]
    fn new(slots: u32) -> Self {
        Self(shared::array(0, slots * THREADS))
    }

    #[inline(always)]
    fn get(self, slot: u32) -> [u64; 4] {
        self.0.load((slot * THREADS + thread::thread_idx_x()) as usize).0.map(u64::from)
    }

    #[inline(always)]
    fn set(self, slot: u32, values: [u64; 4]) {
        let index = (slot * THREADS + thread::thread_idx_x()) as usize;
        self.0.store(index, Vector(values.map(|value| value as u32)));
    }
}

#[derive(Clone, Copy)]
struct Wide(Shared<Vector<u64, 2>>);

impl Registers for Wide {
    const WIDE: bool = true;

    #[inline(always)]
    fn new(slots: u32) -> Self {
        Self(shared::array(0, 2 * slots * THREADS))
    }

    #[inline(always)]
    fn get(self, slot: u32) -> [u64; 4] {
        let index = (2 * slot * THREADS + thread::thread_idx_x()) as usize;
        let (Vector([a, b]), Vector([c, d])) = (self.0.load(index), self.0.load(index + THREADS as usize));
        [a, b, c, d]
    }

    #[inline(always)]
    fn set(self, slot: u32, [a, b, c, d]: [u64; 4]) {
        let index = (2 * slot * THREADS + thread::thread_idx_x()) as usize;
        self.0.store(index, Vector([a, b]));
        self.0.store(index + THREADS as usize, Vector([c, d]));
    }
}

/// One element, its bytes in the low ones.
#[inline(always)]
#[track_caller]
pub(crate) fn load_one(x: Global<u8>, size: u32, index: u32) -> u64 {
    let index = index as usize;
    match size {
        1 => x.load(index).into(),
        2 => x.cast::<u16>().load(index).into(),
        4 => x.cast::<u32>().load(index).into(),
        _ => x.cast::<u64>().load(index),
    }
}

/// Four elements from `index`, a multiple of 4.
#[inline(always)]
#[track_caller]
fn load_four(x: Global<u8>, size: u32, index: u32) -> [u64; 4] {
    let group = (index / GROUP) as usize;
    match size {
        1 => {
            let all = x.cast::<u32>().load(group);
            [0, 8, 16, 24].map(|shift| u64::from(all >> shift & 0xff))
        }
        2 => {
            let all = x.cast::<u64>().load(group);
            [0, 16, 32, 48].map(|shift| all >> shift & 0xffff)
        }
        4 => x.cast::<Vector<u32, 4>>().load(group).0.map(u64::from),
        _ => {
            let x = x.cast::<Vector<u64, 2>>();
            let (Vector([a, b]), Vector([c, d])) = (x.load(2 * group), x.load(2 * group + 1));
            [a, b, c, d]
        }
    }
}

#[inline(always)]
#[track_caller]
pub(crate) fn store_one(y: Global<u8>, size: u32, index: u32, value: u64) {
    let index = index as usize;
    match size {
        1 => y.store(index, value as u8),
        2 => y.cast::<u16>().store(index, value as u16),
        4 => y.cast::<u32>().store(index, value as u32),
        _ => y.cast::<u64>().store(index, value),
    }
}

#[inline(always)]
#[track_caller]
fn store_four(y: Global<u8>, size: u32, index: u32, [a, b, c, d]: [u64; 4]) {
    let group = (index / GROUP) as usize;
    match size {
        1 => {
            let all = (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | (d & 0xff) << 24;
            y.cast::<u32>().store(group, all as u32);
        }
        2 => {
            let all = (a & 0xffff) | (b & 0xffff) << 16 | (c & 0xffff) << 32 | d << 48;
            y.cast::<u64>().store(group, all);
        }
        4 => y.cast().store(group, Vector([a as u32, b as u32, c as u32, d as u32])),
        _ => {
            let y = y.cast::<Vector<u64, 2>>();
            y.store(2 * group, Vector([a, b]));
            y.store(2 * group + 1, Vector([c, d]));
        }
    }
}

/// Entry `number` of an array in the parameters, chosen by comparisons, so that the array needs no memory of its own.
#[inline(always)]
pub(crate) fn pick<const N: usize>(from: [Global<u8>; N], number: u32) -> Global<u8> {
    let mut picked = from[0];
    let mut k = 1;
    while k < N {
        if number == k as u32 {
            picked = from[k];
        }
        k += 1;
    }
    picked
}

/// The four elements of an input beside elements `first..first + valid`, as registers.
#[inline(always)]
fn load(
    x: Global<u8>,
    dtype: DType,
    access: u32,
    strides: [u32; 5],
    extents: [u32; 4],
    (first, valid): (u32, u32),
) -> [u64; 4] {
    let size = size(dtype);
    let raw = if access == Access::Scalar as u32 {
        [load_one(x, size, 0); 4]
    } else if access == Access::Row as u32 {
        let offset = place(first, extents, strides);
        if strides[0] == 1 { load_four(x, size, offset) } else { [load_one(x, size, offset); 4] }
    } else if access == Access::Dense as u32 && valid == GROUP {
        load_four(x, size, first)
    } else {
        let mut raw = [0; 4];
        let mut i = 0;
        while i < GROUP {
            if i < valid {
                let dense = access == Access::Dense as u32;
                let offset = if dense { first + i } else { place(first + i, extents, strides) };
                raw[i as usize] = load_one(x, size, offset);
            }
            i += 1;
        }
        raw
    };
    raw.map(|raw| widen(dtype, raw))
}

/// Every thread.
#[inline(always)]
fn run<R: Registers>(p: Params) {
    let registers = R::new(p.slots);
    let Vector(extents) = p.code.load(0);
    let mut group = thread::index_1d();
    while group < p.count.div_ceil(GROUP) {
        let first = group * GROUP;
        let valid = if p.count - first < GROUP { p.count - first } else { GROUP };
        let mut at = 1;
        while at < p.words as usize {
            let Vector([head, second, third, fourth]) = p.code.load(at);
            at += 1;
            let target = second & 0xffff;
            if head & 0xff == STORE {
                let dtype = DType::from_code(head >> 24);
                let values = registers.get(target).map(|bits| store(dtype, bits));
                let y = pick(p.outputs, third);
                if valid == GROUP {
                    store_four(y, size(dtype), first, values);
                } else {
                    let mut i = 0;
                    while i < GROUP {
                        if i < valid {
                            store_one(y, size(dtype), first + i, values[i as usize]);
                        }
                        i += 1;
                    }
                }
                continue;
            }
            let operation = decode(head);
            let values = match operation.opcode {
                Opcode::Input => {
                    let Vector([a, b, c, d]) = p.code.load(at);
                    at += 1;
                    let (x, access) = (pick(p.inputs, third), second >> 16);
                    load(x, operation.dtype, access, [a, b, c, d, fourth], extents, (first, valid))
                }
                Opcode::Constant => [u64::from(third) | u64::from(fourth) << 32; 4],
                _ => {
                    let a = registers.get(second >> 16);
                    let b = if fourth > 1 { registers.get(third & 0xffff) } else { a };
                    let c = if fourth > 2 { registers.get(third >> 16) } else { a };
                    let mut values = [0; 4];
                    let mut i = 0;
                    while i < GROUP as usize {
                        values[i] = apply(R::WIDE, operation, [a[i], b[i], c[i]]);
                        i += 1;
                    }
                    values
                }
            };
            registers.set(target, values);
        }
        group += p.blocks * THREADS;
    }
}

entry!(
    /// 32-bit registers.
    NARROW = map_narrow(Params): run::<Narrow>, THREADS, with_shared(SHARED)
);
entry!(
    /// 64-bit registers.
    WIDE = map_wide(Params): run::<Wide>, THREADS, with_shared(SHARED)
);
