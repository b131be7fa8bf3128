//! # Loop nests
//! What is neither a map nor one of the families with a kernel of their own: for every point of the outer axes, stages in
//! order, each inside loops over its own axes. A fold combines the values of a scalar program into one that later stages
//! read; a store writes them. Operands are read at affine functions of the axes; where such a place is outside its operand
//! it has a value, or the point is left out of the fold (windows at the edge of an image).
//!
//! A team takes a point of the outer axes: a thread by itself where the loops inside are short, else a warp, whose lanes
//! take the points inside in turn and combine their folds by shuffles at the end. Programs are interpreted, as those of
//! `map` are: coordinates and registers lie in shared memory, a row of one value per thread, and a thread touches nothing
//! but its own values, so that there are no barriers. `nest.*_narrow` has 32-bit registers, `nest.*_wide` 64-bit ones.
//!
//! Folds are of the program's kind: f32 sums of `n` terms are off by at most `⌈n / 32⌉ + 5` roundings in a warp, by `n` in
//! a thread.
//!
//! Grid `min(⌈points · team / 128⌉, 32 per multiprocessor)`, block 128, shared memory `axes · 512 + slots · 512` bytes, the
//! latter doubled for 64-bit registers.

#[cfg(not(target_arch = "nvptx64"))]
mod code;
#[cfg(not(target_arch = "nvptx64"))]
mod family;
#[cfg(not(target_arch = "nvptx64"))]
mod place;

#[cfg(not(target_arch = "nvptx64"))]
pub use code::{Code, Effect, Fold, From, Nest, Outside, Read, Stage, Target};
#[cfg(not(target_arch = "nvptx64"))]
pub use family::{Buffers, VARIANTS, Variant};
#[cfg(not(target_arch = "nvptx64"))]
pub use place::Affine;

use crate::device::math::divide;
use crate::device::{Global, Shared, Vector, shared, thread, warp};
use crate::dtype::DType;
use crate::entry;
use crate::launch::Geometry;
use crate::map::arithmetic::{Kinds, Operation, apply, store, widen};
use crate::map::functions::{is_rare, rare};
use crate::map::interpreter::{decode, load_one, pick, size, store_one};
use crate::program::Opcode;

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
    /// Points of the outer axes.
    points: u32,
    /// Outer axes, whose words come first.
    outer: u32,
    stages: u32,
    /// All axes.
    axes: u32,
    slots: u32,
    /// Teams of the grid.
    teams: u32,
}

const _: () = assert!(size_of::<Params>() == 128);

/// Threads of a block.
pub const THREADS: u32 = 128;
/// Shared memory of a block.
const SHARED: u32 = 48 * 1024;
/// Bytes of a row of coordinates, and of 32-bit registers.
const ROW: u32 = 4 * THREADS;

/// In the place of an opcode: a register is stored, or a stage stores.
const STORE: u32 = 0xff;
/// What becomes of a read outside its operand.
const SKIPPED: u32 = 2;

/// The launch for so many points.
pub const fn geometry(
    points: u32,
    team: u32,
    (axes, slots): (u32, u32),
    wide: bool,
    multiprocessors: u32,
) -> Geometry {
    let (blocks, most) = (points.div_ceil(THREADS / team), 32 * multiprocessors);
    let bytes = axes * ROW + slots * ROW * if wide { 2 } else { 1 };
    Geometry::linear(if blocks < most { blocks } else { most }, THREADS).with_shared(bytes)
}

/// Registers of a thread.
trait Registers: Copy {
    /// Whether they hold 64 bits.
    const WIDE: bool;
    fn new(from: u32, slots: u32) -> Self;
    fn get(self, slot: u32) -> u64;
    fn set(self, slot: u32, value: u64);
}

#[derive(Clone, Copy)]
struct Narrow(Shared<u32>);

impl Registers for Narrow {
    const WIDE: bool = false;

    #[inline(always)]
    fn new(from: u32, slots: u32) -> Self {
        Self(shared::array(from, slots * THREADS))
    }

    #[inline(always)]
    fn get(self, slot: u32) -> u64 {
        self.0.load((slot * THREADS + thread::thread_idx_x()) as usize).into()
    }

    #[inline(always)]
    fn set(self, slot: u32, value: u64) {
        self.0.store((slot * THREADS + thread::thread_idx_x()) as usize, value as u32);
    }
}

#[derive(Clone, Copy)]
struct Wide(Shared<u64>);

impl Registers for Wide {
    const WIDE: bool = true;

    #[inline(always)]
    fn new(from: u32, slots: u32) -> Self {
        Self(shared::array(from, slots * THREADS))
    }

    #[inline(always)]
    fn get(self, slot: u32) -> u64 {
        self.0.load((slot * THREADS + thread::thread_idx_x()) as usize)
    }

    #[inline(always)]
    fn set(self, slot: u32, value: u64) {
        self.0.store((slot * THREADS + thread::thread_idx_x()) as usize, value);
    }
}

/// A thread at its point: where it is along each axis, its registers, and the code.
#[derive(Clone, Copy)]
struct Walker<R> {
    coordinates: Shared<u32>,
    registers: R,
    code: Global<Vector<u32, 4>>,
}

impl<R: Registers> Walker<R> {
    /// Goes to point `number` of the `axes` whose words begin at `at`, the last axis first.
    #[inline(always)]
    fn go(self, number: u32, at: u32, axes: u32) {
        let (mut rest, mut word) = (number, at);
        while word < at + axes {
            let Vector([axis, extent, ..]) = self.code.load(word as usize);
            let (quotient, here) = divide(rest, extent);
            self.coordinates.store((axis * THREADS + thread::thread_idx_x()) as usize, here);
            rest = quotient;
            word += 1;
        }
    }

    /// The affine function at `at`: its value here, the extent that it must stay below, and the word behind it.
    #[inline(always)]
    fn affine(self, at: u32) -> (u32, u32, u32) {
        let Vector([offset, terms, extent, _]) = self.code.load(at as usize);
        let (mut value, mut word, mut term) = (offset, at + 1, 0);
        while term < terms {
            let Vector([a, of_a, b, of_b]) = self.code.load(word as usize);
            let coordinate =
                |axis: u32| self.coordinates.load((axis * THREADS + thread::thread_idx_x()) as usize);
            value = value.wrapping_add(coordinate(a).wrapping_mul(of_a));
            if term + 1 < terms {
                value = value.wrapping_add(coordinate(b).wrapping_mul(of_b));
            }
            (word, term) = (word + 1, term + 2);
        }
        (value, extent, word)
    }

    /// Carries out the words from `at` to `end`; gives the slot of the value that a fold combines, and whether the point
    /// counts.
    #[inline(always)]
    fn step(self, p: &Params, at: u32, end: u32) -> (u32, bool) {
        let (mut at, mut last, mut counts) = (at, 0, true);
        while at < end {
            let Vector([head, second, third, fourth]) = self.code.load(at as usize);
            at += 1;
            let target = second & 0xffff;
            if head & 0xff == STORE {
                let dtype = DType::from_code(head >> 24);
                let (place, _, next) = self.affine(at);
                at = next;
                let value = store(dtype, self.registers.get(target));
                store_one(pick(p.outputs, third), size(dtype), place as usize, value);
                continue;
            }
            let operation: Operation = decode(head);
            let value = match operation.opcode {
                Opcode::Input => {
                    let Vector([low, high, ..]) = self.code.load(at as usize);
                    let (place, _, next) = self.affine(at + 1);
                    at = next;
                    let (mut inside, mut check) = (true, second >> 16);
                    while check > 0 {
                        let (index, extent, next) = self.affine(at);
                        inside &= index < extent;
                        at = next;
                        check -= 1;
                    }
                    if inside {
                        let x = pick(p.inputs, third);
                        widen(operation.dtype, load_one(x, size(operation.dtype), place as usize))
                    } else {
                        counts &= fourth != SKIPPED;
                        u64::from(low) | u64::from(high) << 32
                    }
                }
                Opcode::Constant => u64::from(third) | u64::from(fourth) << 32,
                _ if is_rare(operation.opcode, operation.operands) => {
                    let other = if fourth > 1 { third & 0xffff } else { second >> 16 };
                    let [x, y] = [second >> 16, other].map(|slot| self.registers.get(slot));
                    rare(R::WIDE, operation.opcode, operation.operands, x, y)
                }
                _ => {
                    let a = self.registers.get(second >> 16);
                    let b = if fourth > 1 { self.registers.get(third & 0xffff) } else { a };
                    let c = if fourth > 2 { self.registers.get(third >> 16) } else { a };
                    apply(Kinds::all(R::WIDE), operation, [a, b, c])
                }
            };
            self.registers.set(target, value);
            last = target;
        }
        (last, counts)
    }
}

/// What lane `distance` away has.
#[inline(always)]
fn exchange<R: Registers>(value: u64, distance: u32) -> u64 {
    if R::WIDE {
        warp::shuffle_wide(warp::ALL, warp::Source::Xor, value, distance)
    } else {
        warp::shuffle_xor(warp::ALL, value as u32, distance).into()
    }
}

/// Every thread; `TEAM` of them take a point.
#[inline(always)]
fn run<R: Registers, const TEAM: u32>(p: Params) {
    let coordinates = shared::array::<u32>(0, p.axes * THREADS);
    let walker = Walker { coordinates, registers: R::new(p.axes * ROW, p.slots), code: p.code };
    let own = thread::index_1d();
    let (lane, mut point) = (own % TEAM, own / TEAM);
    while point < p.points {
        walker.go(point, 0, p.outer);
        let (mut at, mut stage) = (p.outer, 0);
        while stage < p.stages {
            let Vector([what, second, words, count]) = p.code.load(at as usize);
            let Vector([low, high, result, _]) = p.code.load(at as usize + 1);
            let (axes, first) = (second, at + 2);
            let body = first + axes;
            let mut folded = u64::from(low) | u64::from(high) << 32;
            let fold = decode(what);
            let mut number = lane;
            while number < count {
                walker.go(number, first, axes);
                let (slot, counts) = walker.step(&p, body, body + words);
                if counts && what & 0xff != STORE {
                    folded = apply(Kinds::combined(R::WIDE), fold, [folded, walker.registers.get(slot), 0]);
                }
                number += TEAM;
            }
            if what & 0xff != STORE {
                let mut distance = TEAM / 2;
                while distance > 0 {
                    folded =
                        apply(Kinds::combined(R::WIDE), fold, [folded, exchange::<R>(folded, distance), 0]);
                    distance /= 2;
                }
                walker.registers.set(result, folded);
            }
            at = body + words;
            stage += 1;
        }
        point += p.teams;
    }
}

entry!(
    /// A thread for each point, 32-bit registers.
    THREAD_NARROW = nest_thread_narrow(Params): run::<Narrow, 1>, THREADS, with_shared(SHARED), with_spills(512)
);
entry!(
    /// A thread for each point, 64-bit registers.
    THREAD_WIDE = nest_thread_wide(Params): run::<Wide, 1>, THREADS, with_shared(SHARED), with_spills(512)
);
entry!(
    /// A warp for each point, 32-bit registers.
    WARP_NARROW = nest_warp_narrow(Params): run::<Narrow, 32>, THREADS, with_shared(SHARED), with_spills(512)
);
entry!(
    /// A warp for each point, 64-bit registers.
    WARP_WIDE = nest_warp_wide(Params): run::<Wide, 32>, THREADS, with_shared(SHARED), with_spills(512)
);
