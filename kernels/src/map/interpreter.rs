//! The interpretation of a program for four consecutive elements of Y at a time.
//!
//! Each word of code is read by all threads alike. Registers lie in shared memory, a slot of four values for each thread;
//! a thread touches nothing but its own slots, so that nobody waits for anybody.

use super::arithmetic::{Kinds, Operation, apply, store, widen};
use super::functions::{function32, is_rare, rare};
use crate::device::math::{divide, opaque};
use crate::device::{Global, Shared, Vector, thread};
use crate::dtype::DType;
use crate::program::{Kind, Opcode};

/// Elements that a thread makes at a time.
pub(crate) const GROUP: u32 = 4;

/// In the place of an opcode: a register is stored.
pub(super) const STORE: u32 = 0xff;
/// In the place of an opcode: a register is what was computed before the program.
pub(super) const RESULT: u32 = 0xfe;

/// How four consecutive elements of an operand are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum Access {
    /// They lie side by side, as those of the outputs do.
    Dense,
    /// They are one and the same everywhere.
    Scalar,
    /// They differ in the last axis alone, along which the operand is dense or does not change.
    Row,
    /// One by one; what the device takes every other number for.
    #[cfg(not(target_arch = "nvptx64"))]
    Gather,
}

/// The memory of a program.
pub(crate) trait Operands {
    /// Input `number`.
    fn input(&self, number: u32) -> Global<u8>;
    /// Output `number`.
    fn output(&self, number: u32) -> Global<u8>;
    /// What was computed before, as registers.
    fn result(&self) -> [u64; 4];
}

/// Bytes of an element of each type, four bits each: as a list it would be a table in memory.
const SIZES: u64 = {
    let types = [
        DType::F32,
        DType::F64,
        DType::F16,
        DType::BF16,
        DType::I8,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::U8,
        DType::U16,
        DType::U32,
        DType::U64,
        DType::Bool,
    ];
    let (mut sizes, mut i) = (0, 0);
    while i < types.len() {
        sizes |= (types[i].bits() as u64 / 8) << (4 * types[i] as u64);
        i += 1;
    }
    sizes
};

/// Bytes of an element.
#[inline(always)]
pub(crate) fn size(dtype: DType) -> u32 {
    (SIZES >> (4 * dtype as u64)) as u32 & 15
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
pub(crate) trait Registers: Copy {
    /// What they hold.
    const KINDS: Kinds;
    /// The values of a slot.
    fn get(self, slot: u32) -> [u64; 4];
    /// Sets them.
    fn set(self, slot: u32, values: [u64; 4]);
    /// One value of a slot.
    fn get_one(self, slot: u32, lane: u32) -> u64;
    /// Sets it.
    fn set_one(self, slot: u32, lane: u32, value: u64);
}

/// 32 bits each. With `INTEGERS`, all that there is; without, floats and truth values, in short code.
#[derive(Clone, Copy)]
pub(crate) struct Narrow<const INTEGERS: bool> {
    /// The slots.
    pub(crate) memory: Shared<Vector<u32, 4>>,
    /// Threads of a block.
    pub(crate) threads: u32,
}

impl<const INTEGERS: bool> Narrow<INTEGERS> {
    #[inline(always)]
    fn index(self, slot: u32) -> usize {
        (slot * self.threads + thread::thread_idx_x()) as usize
    }
}

impl<const INTEGERS: bool> Registers for Narrow<INTEGERS> {
    const KINDS: Kinds = Kinds { wide: false, integers: INTEGERS, functions: INTEGERS };

    #[inline(always)]
    fn get(self, slot: u32) -> [u64; 4] {
        self.memory.load(self.index(slot)).0.map(u64::from)
    }

    #[inline(always)]
    fn set(self, slot: u32, values: [u64; 4]) {
        self.memory.store(self.index(slot), Vector(values.map(|value| value as u32)));
    }

    #[inline(always)]
    fn get_one(self, slot: u32, lane: u32) -> u64 {
        self.memory.cast::<u32>().load(4 * self.index(slot) + lane as usize).into()
    }

    #[inline(always)]
    fn set_one(self, slot: u32, lane: u32, value: u64) {
        self.memory.cast::<u32>().store(4 * self.index(slot) + lane as usize, value as u32);
    }
}

/// 64 bits each.
#[derive(Clone, Copy)]
pub(crate) struct Wide {
    /// The slots.
    pub(crate) memory: Shared<Vector<u64, 2>>,
    /// Threads of a block.
    pub(crate) threads: u32,
}

impl Registers for Wide {
    const KINDS: Kinds = Kinds { wide: true, integers: true, functions: true };

    #[inline(always)]
    fn get(self, slot: u32) -> [u64; 4] {
        let index = (2 * slot * self.threads + thread::thread_idx_x()) as usize;
        let (Vector([a, b]), Vector([c, d])) =
            (self.memory.load(index), self.memory.load(index + self.threads as usize));
        [a, b, c, d]
    }

    #[inline(always)]
    fn set(self, slot: u32, [a, b, c, d]: [u64; 4]) {
        let index = (2 * slot * self.threads + thread::thread_idx_x()) as usize;
        self.memory.store(index, Vector([a, b]));
        self.memory.store(index + self.threads as usize, Vector([c, d]));
    }

    #[inline(always)]
    fn get_one(self, slot: u32, lane: u32) -> u64 {
        let place = (2 * slot + lane / 2) * self.threads + thread::thread_idx_x();
        self.memory.cast::<u64>().load((2 * place + lane % 2) as usize)
    }

    #[inline(always)]
    fn set_one(self, slot: u32, lane: u32, value: u64) {
        let place = (2 * slot + lane / 2) * self.threads + thread::thread_idx_x();
        self.memory.cast::<u64>().store((2 * place + lane % 2) as usize, value);
    }
}

/// One element, its bytes in the low ones.
#[inline(always)]
#[track_caller]
pub(crate) fn load_one(x: Global<u8>, size: u32, index: usize) -> u64 {
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
fn load_four(x: Global<u8>, size: u32, index: usize) -> [u64; 4] {
    let group = index / GROUP as usize;
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
pub(crate) fn store_one(y: Global<u8>, size: u32, index: usize, value: u64) {
    match size {
        1 => y.store(index, value as u8),
        2 => y.cast::<u16>().store(index, value as u16),
        4 => y.cast::<u32>().store(index, value as u32),
        _ => y.cast::<u64>().store(index, value),
    }
}

#[inline(always)]
#[track_caller]
fn store_four(y: Global<u8>, size: u32, index: usize, [a, b, c, d]: [u64; 4]) {
    let group = index / GROUP as usize;
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

/// Stores the first `valid` of four elements from element `first` on; all at once where `whole`.
#[inline(always)]
#[track_caller]
pub(crate) fn store_group(
    y: Global<u8>,
    dtype: DType,
    first: usize,
    valid: u32,
    whole: bool,
    values: [u64; 4],
) {
    if whole {
        return store_four(y, size(dtype), first, values);
    }
    let mut i = 0;
    while i < GROUP {
        if i < valid {
            store_one(y, size(dtype), first + i as usize, values[i as usize]);
        }
        i += 1;
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

/// Consecutive elements that a thread makes.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    /// The first one's number.
    pub(crate) first: u32,
    /// How many, at most four.
    pub(crate) valid: u32,
}

impl Span {
    /// Whether they are four that begin at a multiple of four, so that they lie in one piece of memory.
    #[inline(always)]
    pub(crate) fn is_whole(self) -> bool {
        self.valid == GROUP && self.first.is_multiple_of(GROUP)
    }
}

/// The elements of an input beside those of `span`, as registers.
#[inline(always)]
fn load(
    x: Global<u8>,
    dtype: DType,
    access: u32,
    strides: [u32; 5],
    extents: [u32; 4],
    span: Span,
) -> [u64; 4] {
    let Span { first, valid } = span;
    let (size, whole) = (size(dtype), span.is_whole());
    let raw = if access == Access::Scalar as u32 {
        [load_one(x, size, 0); 4]
    } else if access == Access::Row as u32 && whole {
        let offset = place(first, extents, strides) as usize;
        if strides[0] == 1 { load_four(x, size, offset) } else { [load_one(x, size, offset); 4] }
    } else if access == Access::Dense as u32 && whole {
        load_four(x, size, first as usize)
    } else {
        let mut raw = [0; 4];
        let mut i = 0;
        while i < GROUP {
            if i < valid {
                let dense = access == Access::Dense as u32;
                let offset = if dense { first + i } else { place(first + i, extents, strides) };
                raw[i as usize] = load_one(x, size, offset as usize);
            }
            i += 1;
        }
        raw
    };
    raw.map(|raw| widen(dtype, raw))
}

/// Carries out the code, whose word 0 are the extents, for the elements of `span`.
#[inline(always)]
pub(crate) fn interpret<R: Registers>(
    registers: R,
    (code, words): (Global<Vector<u32, 4>>, u32),
    span: Span,
    operands: &impl Operands,
) {
    let Vector(extents) = code.load(0);
    let mut at = 1;
    while at < words as usize {
        let Vector([head, second, third, fourth]) = code.load(at);
        at += 1;
        let target = second & 0xffff;
        if head & 0xff == STORE {
            let dtype = DType::from_code(head >> 24);
            let values = registers.get(target).map(|bits| store(dtype, bits));
            let y = operands.output(third);
            store_group(y, dtype, span.first as usize, span.valid, span.is_whole(), values);
            continue;
        }
        let operation = decode(head);
        let values = match operation.opcode {
            _ if head & 0xff == RESULT => operands.result(),
            Opcode::Input => {
                let Vector([a, b, c, d]) = code.load(at);
                at += 1;
                let (x, access) = (operands.input(third), second >> 16);
                load(x, operation.dtype, access, [a, b, c, d, fourth], extents, span)
            }
            Opcode::Constant => [u64::from(third) | u64::from(fourth) << 32; 4],
            _ if !R::KINDS.functions && operation.opcode.is_function() => {
                // One after the other: behind a product the code's length counts more than its speed.
                let (mut lane, lanes) = (0, opaque(GROUP));
                while lane < lanes {
                    let x = f32::from_bits(registers.get_one(second >> 16, lane) as u32);
                    registers.set_one(target, lane, function32(operation.opcode, x).to_bits().into());
                    lane += 1;
                }
                continue;
            }
            _ if R::KINDS.functions && is_rare(operation.opcode, operation.operands) => {
                let (mut lane, lanes) = (0, opaque(GROUP));
                let other = if fourth > 1 { third & 0xffff } else { second >> 16 };
                while lane < lanes {
                    let [x, y] = [second >> 16, other].map(|slot| registers.get_one(slot, lane));
                    let y = rare(R::KINDS.wide, operation.opcode, operation.operands, x, y);
                    registers.set_one(target, lane, y);
                    lane += 1;
                }
                continue;
            }
            _ => {
                let a = registers.get(second >> 16);
                let b = if fourth > 1 { registers.get(third & 0xffff) } else { a };
                let c = if fourth > 2 { registers.get(third >> 16) } else { a };
                let mut values = [0; 4];
                let mut i = 0;
                while i < GROUP as usize {
                    values[i] = apply(R::KINDS, operation, [a[i], b[i], c[i]]);
                    i += 1;
                }
                values
            }
        };
        registers.set(target, values);
    }
}
