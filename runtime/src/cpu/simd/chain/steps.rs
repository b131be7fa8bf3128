//! The steps of chains, one function each: eight vectors come in registers and go on in registers. Compiled for each
//! instruction set, whose vectors and operations are `of`.
//!
//! The convention of calls is named, since it is what keeps them there; a compiler makes a jump of the call at the end.
#![allow(
    improper_ctypes_definitions,
    reason = "nothing but this file calls steps, and vectors go in registers"
)]

use super::super::super::Routine;
use super::super::{Pair, Single, Step};
use super::of;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// A step: the code from it on, the spots, the byte at which the block begins in what moves, and the block.
type Run = unsafe extern "sysv64" fn(
    *const Code,
    *const Spot,
    usize,
    of::V,
    of::V,
    of::V,
    of::V,
    of::V,
    of::V,
    of::V,
    of::V,
);

/// A step with its operands.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Code {
    run: Run,
    /// Places; [`NONE`] where a loop has fewer operands.
    at: [usize; 4],
    routine: Option<Routine>,
}

const NONE: usize = usize::MAX;

/// Where a place is in memory.
#[derive(Debug)]
pub(in super::super) struct Spot {
    base: *mut u8,
    /// All bits where the place moves from block to block, none where it stays.
    moves: usize,
    /// Whether it is written past the caches.
    streams: bool,
}

impl Spot {
    pub(in super::super) fn input(bytes: &[u8]) -> Self {
        Self { base: bytes.as_ptr().cast_mut(), moves: usize::MAX, streams: false }
    }

    pub(in super::super) fn output(bytes: &mut [u8], streamed: bool) -> Self {
        let base = bytes.as_mut_ptr();
        Self { base, moves: usize::MAX, streams: streamed && base.addr().is_multiple_of(64) }
    }

    pub(in super::super) fn slot(bytes: &mut [u8]) -> Self {
        Self { base: bytes.as_mut_ptr(), moves: 0, streams: false }
    }
}

/// Bytes by which inputs are asked for ahead of their use.
const AHEAD: usize = 4096;

/// What a step works on.
#[derive(Clone, Copy)]
struct Here<'c> {
    code: &'c Code,
    spots: *const Spot,
    /// The byte at which the block begins in what moves.
    at: usize,
}

impl Here<'_> {
    /// # Safety
    /// - The code names a place as its operand `k`, and there is such a spot.
    #[inline(always)]
    unsafe fn spot(&self, k: usize) -> &Spot {
        // SAFETY: as the caller promises.
        unsafe { &*self.spots.add(self.code.at[k]) }
    }

    /// Where operand `k` has the block.
    ///
    /// # Safety
    /// - As for `spot`, and the spot has a block there.
    #[inline(always)]
    unsafe fn of(&self, k: usize) -> *mut f32 {
        // SAFETY: as the caller promises.
        unsafe {
            let spot = self.spot(k);
            spot.base.add(self.at & spot.moves).cast()
        }
    }
}

/// An array of what `$body` is for each of the eight vectors.
macro_rules! each {
    ($i:ident => $body:expr) => {
        each!(@ $i $body; 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident $body:expr; $($n:literal)*) => {
        [$({ let $i: usize = $n; $body }),*]
    };
}

/// `$name`: a step that makes `$body` of the vectors `$z`, `$here`.
macro_rules! step {
    ($name:ident, |$here:ident, $z:ident| $body:expr) => {
        featured! {
        unsafe extern "sysv64" fn $name(
            code: *const Code,
            spots: *const Spot,
            at: usize,
            z0: of::V,
            z1: of::V,
            z2: of::V,
            z3: of::V,
            z4: of::V,
            z5: of::V,
            z6: of::V,
            z7: of::V,
        ) {
            // SAFETY: whoever calls a step promises what `run` asks for, and `code` is not the last one, `end`: what a
            // step reads and writes are blocks of places that its code names.
            unsafe {
                let $here = Here { code: &*code, spots, at };
                let $z = [z0, z1, z2, z3, z4, z5, z6, z7];
                let [z0, z1, z2, z3, z4, z5, z6, z7] = $body;
                let next = code.add(1);
                ((*next).run)(next, spots, at, z0, z1, z2, z3, z4, z5, z6, z7)
            }
        }
        }
    };
}

/// Two steps: registers as the first operand, and as the second.
macro_rules! pair {
    ($name:ident, $turned:ident, |$a:ident, $b:ident| $body:expr) => {
        step!($name, |here, z| {
            let p = here.of(0);
            each!(i => { let ($a, $b) = (z[i], of::load(p.add(of::LANES * i))); $body })
        });
        step!($turned, |here, z| {
            let p = here.of(0);
            each!(i => { let ($a, $b) = (of::load(p.add(of::LANES * i)), z[i]); $body })
        });
    };
}

macro_rules! single {
    ($name:ident, |$a:ident| $body:expr) => {
        step!($name, |_here, z| each!(i => { let $a = z[i]; $body }));
    };
}

pair!(add, add_turned, |a, b| of::add(a, b));
pair!(sub, sub_turned, |a, b| of::sub(a, b));
pair!(mul, mul_turned, |a, b| of::mul(a, b));
pair!(div, div_turned, |a, b| of::div(a, b));
pair!(min, min_turned, |a, b| of::min(a, b));
pair!(max, max_turned, |a, b| of::max(a, b));
pair!(equal, equal_turned, |a, b| of::equal(a, b));
pair!(less, less_turned, |a, b| of::less(a, b));
pair!(less_or_equal, less_or_equal_turned, |a, b| of::less_or_equal(a, b));
pair!(and, and_turned, |a, b| of::and(a, b));
pair!(or, or_turned, |a, b| of::or(a, b));
pair!(xor, xor_turned, |a, b| of::xor(a, b));

single!(neg, |a| of::neg(a));
single!(abs, |a| of::abs(a));
single!(sqrt, |a| of::sqrt(a));
single!(floor, |a| of::floor(a));
single!(ceil, |a| of::ceil(a));
single!(round, |a| of::round(a));
single!(square, |a| of::mul(a, a));
single!(not, |a| of::not(a));

step!(exp, |_here, z| of::exp(&z));
step!(erf, |_here, z| of::erf(&z));

step!(mul_add, |here, z| {
    let (p, q) = (here.of(0), here.of(1));
    each!(i => of::mul_add(z[i], of::load(p.add(of::LANES * i)), of::load(q.add(of::LANES * i))))
});

step!(add_product, |here, z| {
    let (p, q) = (here.of(0), here.of(1));
    each!(i => of::mul_add(of::load(p.add(of::LANES * i)), of::load(q.add(of::LANES * i)), z[i]))
});

step!(select, |here, z| {
    let (p, q) = (here.of(0), here.of(1));
    each!(i => of::select(z[i], of::load(p.add(of::LANES * i)), of::load(q.add(of::LANES * i))))
});

step!(fetch, |here, z| {
    // What lies beyond the input is asked for in vain, and nothing else.
    let p = here.of(0).wrapping_byte_add(AHEAD);
    for line in (0..of::BLOCK).step_by(LINE) {
        _mm_prefetch::<_MM_HINT_T0>(p.wrapping_byte_add(line).cast());
    }
    z
});

step!(load, |here, _z| {
    let p = here.of(0);
    each!(i => of::load(p.add(of::LANES * i)))
});

step!(keep, |here, z| {
    let p = here.of(0);
    let _ = each!(i => of::store(p.add(of::LANES * i), z[i]));
    z
});

// An output that is streamed begins on a line, as all its blocks do.
step!(put, |here, z| {
    let p = here.of(0);
    let _ = if here.spot(0).streams {
        each!(i => of::stream(p.add(of::LANES * i), z[i]))
    } else {
        each!(i => of::store(p.add(of::LANES * i), z[i]))
    };
    z
});

/// Runs the loop of a step on its block.
///
/// # Safety
/// - As for a step.
#[inline(never)]
unsafe fn loop_block(here: Here<'_>) {
    // SAFETY: the spots that the code names have a block there; the one that is written is a slot, which is none of those
    // that are read.
    unsafe {
        let from = [1, 2, 3].map(|k| match here.code.at[k] {
            NONE => &[][..],
            _ => std::slice::from_raw_parts(here.of(k).cast::<u8>(), of::BLOCK),
        });
        let to = std::slice::from_raw_parts_mut(here.of(0).cast::<u8>(), of::BLOCK);
        if let Some(routine) = here.code.routine {
            routine.call(to, from);
        }
    }
}

step!(run_loop, |here, _z| {
    loop_block(here);
    let p = here.of(0);
    each!(i => of::load(p.add(of::LANES * i)))
});

featured! {
/// Ends a block.
unsafe extern "sysv64" fn end(
    _: *const Code,
    _: *const Spot,
    _: usize,
    _: of::V,
    _: of::V,
    _: of::V,
    _: of::V,
    _: of::V,
    _: of::V,
    _: of::V,
    _: of::V,
) {
}
}

/// The code of `steps`.
pub(in super::super) fn code(_: of::Token, steps: &[Step]) -> Vec<Code> {
    let plain = |run: Run, at: &[usize]| {
        let at = std::array::from_fn(|k| at.get(k).copied().unwrap_or(NONE));
        Code { run, at, routine: None }
    };
    let mut all: Vec<Code> = steps
        .iter()
        .map(|step| match *step {
            Step::Fetch(input) => plain(fetch, &[input]),
            Step::Load(place) => plain(load, &[place]),
            Step::Keep(slot) => plain(keep, &[slot]),
            Step::Put(output) => plain(put, &[output]),
            Step::Pair(pair, place) => plain(first(pair), &[place]),
            Step::Turned(pair, place) => plain(second(pair), &[place]),
            Step::Single(single) => plain(of_one(single), &[]),
            Step::MulAdd(factor, addend) => plain(mul_add, &[factor, addend]),
            Step::AddProduct(a, b) => plain(add_product, &[a, b]),
            Step::Select(yes, no) => plain(select, &[yes, no]),
            Step::Loop { routine, to, from } => {
                let [a, b, c] = from.map(|place| place.unwrap_or(NONE));
                Code { run: run_loop, at: [to, a, b, c], routine: Some(routine) }
            }
        })
        .collect();
    all.push(plain(end, &[]));
    all
}

fn first(pair: Pair) -> Run {
    match pair {
        Pair::Add => add,
        Pair::Sub => sub,
        Pair::Mul => mul,
        Pair::Div => div,
        Pair::Min => min,
        Pair::Max => max,
        Pair::Equal => equal,
        Pair::Less => less,
        Pair::LessOrEqual => less_or_equal,
        Pair::And => and,
        Pair::Or => or,
        Pair::Xor => xor,
    }
}

fn second(pair: Pair) -> Run {
    match pair {
        Pair::Add => add_turned,
        Pair::Sub => sub_turned,
        Pair::Mul => mul_turned,
        Pair::Div => div_turned,
        Pair::Min => min_turned,
        Pair::Max => max_turned,
        Pair::Equal => equal_turned,
        Pair::Less => less_turned,
        Pair::LessOrEqual => less_or_equal_turned,
        Pair::And => and_turned,
        Pair::Or => or_turned,
        Pair::Xor => xor_turned,
    }
}

fn of_one(single: Single) -> Run {
    match single {
        Single::Neg => neg,
        Single::Abs => abs,
        Single::Sqrt => sqrt,
        Single::Floor => floor,
        Single::Ceil => ceil,
        Single::Round => round,
        Single::Square => square,
        Single::Exp => exp,
        Single::Erf => erf,
        Single::Not => not,
    }
}

/// Takes the blocks of the first `bytes` bytes of what moves through the steps of `code`.
///
/// # Safety
/// - `code` was made by `code` of steps whose places are numbers of `spots`; those that they write may be written.
/// - Spots that move have `bytes` bytes, a multiple of a block's, and the others a block.
pub(in super::super) unsafe fn run(code: &[Code], spots: &[Spot], bytes: usize) {
    // SAFETY: the code was made for a token, which exists only where the processor has the instructions; the rest is what
    // the caller promises.
    unsafe { blocks(code, spots, bytes) }
}

featured! {
/// # Safety
/// - As for `run`.
unsafe fn blocks(code: &[Code], spots: &[Spot], bytes: usize) {
    let z = of::zero();
    for at in (0..bytes).step_by(of::BLOCK) {
        // SAFETY: as the caller promises; `code` has its end at least.
        unsafe { (code[0].run)(code.as_ptr(), spots.as_ptr(), at, z, z, z, z, z, z, z, z) }
    }
}
}
