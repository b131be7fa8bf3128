//! The steps of chains in AVX-512, one function each: eight vectors come in registers and go on in registers.
//!
//! The convention of calls is named, since it is what keeps them there; a compiler makes a jump of the call at the end.
#![allow(
    improper_ctypes_definitions,
    reason = "nothing but this file calls steps, and vectors go in registers"
)]

use super::super::{Avx512, Routine};
use super::{BLOCK_BYTES, Pair, Single, Step};
use crate::cpu::vector_math::wide::{ErrorFunction, Exponential};
use std::arch::x86_64::{
    __m512, _CMP_EQ_OQ, _CMP_LE_OQ, _CMP_LT_OQ, _CMP_UNORD_Q, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT,
    _MM_FROUND_TO_NEG_INF, _MM_FROUND_TO_POS_INF, _MM_HINT_T0, _mm_prefetch, _mm512_abs_ps, _mm512_add_ps,
    _mm512_and_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_div_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_maskz_set1_epi32, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_or_ps, _mm512_roundscale_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_sqrt_ps, _mm512_storeu_ps, _mm512_stream_ps, _mm512_sub_ps,
    _mm512_test_epi32_mask, _mm512_xor_ps,
};

/// A step: the code from it on, the spots, the byte at which the block begins in what moves, and the block.
type Run = unsafe extern "sysv64" fn(
    *const Code,
    *const Spot,
    usize,
    __m512,
    __m512,
    __m512,
    __m512,
    __m512,
    __m512,
    __m512,
    __m512,
);

/// A step with its operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    run: Run,
    /// Places; [`NONE`] where a loop has fewer operands.
    at: [usize; 4],
    routine: Option<Routine>,
}

const NONE: usize = usize::MAX;

/// Where a place is in memory.
#[derive(Debug)]
pub(super) struct Spot {
    base: *mut u8,
    /// All bits where the place moves from block to block, none where it stays.
    moves: usize,
    /// Whether it is written past the caches.
    streams: bool,
}

impl Spot {
    pub(super) fn input(bytes: &[u8]) -> Self {
        Self { base: bytes.as_ptr().cast_mut(), moves: usize::MAX, streams: false }
    }

    pub(super) fn output(bytes: &mut [u8], streamed: bool) -> Self {
        let base = bytes.as_mut_ptr();
        Self { base, moves: usize::MAX, streams: streamed && base.addr().is_multiple_of(64) }
    }

    pub(super) fn slot(bytes: &mut [u8]) -> Self {
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
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe extern "sysv64" fn $name(
            code: *const Code,
            spots: *const Spot,
            at: usize,
            z0: __m512,
            z1: __m512,
            z2: __m512,
            z3: __m512,
            z4: __m512,
            z5: __m512,
            z6: __m512,
            z7: __m512,
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
    };
}

/// Two steps: registers as the first operand, and as the second.
macro_rules! pair {
    ($name:ident, $turned:ident, |$a:ident, $b:ident| $body:expr) => {
        step!($name, |here, z| {
            let p = here.of(0);
            each!(i => { let ($a, $b) = (z[i], _mm512_loadu_ps(p.add(16 * i))); $body })
        });
        step!($turned, |here, z| {
            let p = here.of(0);
            each!(i => { let ($a, $b) = (_mm512_loadu_ps(p.add(16 * i)), z[i]); $body })
        });
    };
}

macro_rules! single {
    ($name:ident, |$a:ident| $body:expr) => {
        step!($name, |_here, z| each!(i => { let $a = z[i]; $body }));
    };
}

/// `$a` where it is NaN, else `$most`, an instruction that takes the second operand where either is.
macro_rules! nan_of {
    ($a:ident, $most:expr) => {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>($a, $a), $most, $a)
    };
}

macro_rules! truth {
    ($mask:expr) => {
        _mm512_castsi512_ps(_mm512_maskz_set1_epi32($mask, 1))
    };
}

macro_rules! rounded {
    ($a:ident, $mode:ident) => {
        _mm512_roundscale_ps::<{ $mode | _MM_FROUND_NO_EXC }>($a)
    };
}

pair!(add, add_turned, |a, b| _mm512_add_ps(a, b));
pair!(sub, sub_turned, |a, b| _mm512_sub_ps(a, b));
pair!(mul, mul_turned, |a, b| _mm512_mul_ps(a, b));
pair!(div, div_turned, |a, b| _mm512_div_ps(a, b));
pair!(min, min_turned, |a, b| nan_of!(a, _mm512_min_ps(a, b)));
pair!(max, max_turned, |a, b| nan_of!(a, _mm512_max_ps(a, b)));
pair!(equal, equal_turned, |a, b| truth!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b)));
pair!(less, less_turned, |a, b| truth!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b)));
pair!(less_or_equal, less_or_equal_turned, |a, b| truth!(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b)));
pair!(and, and_turned, |a, b| _mm512_and_ps(a, b));
pair!(or, or_turned, |a, b| _mm512_or_ps(a, b));
pair!(xor, xor_turned, |a, b| _mm512_xor_ps(a, b));

single!(neg, |a| _mm512_xor_ps(a, _mm512_set1_ps(-0.0)));
single!(abs, |a| _mm512_abs_ps(a));
single!(sqrt, |a| _mm512_sqrt_ps(a));
single!(floor, |a| rounded!(a, _MM_FROUND_TO_NEG_INF));
single!(ceil, |a| rounded!(a, _MM_FROUND_TO_POS_INF));
single!(round, |a| rounded!(a, _MM_FROUND_TO_NEAREST_INT));
single!(square, |a| _mm512_mul_ps(a, a));
single!(not, |a| _mm512_xor_ps(a, _mm512_castsi512_ps(_mm512_set1_epi32(1))));

step!(exp, |_here, z| {
    let constants = Exponential::new(0.0);
    each!(i => constants.at(z[i]))
});

step!(erf, |_here, z| {
    let constants = ErrorFunction::new();
    each!(i => constants.at(z[i]))
});

step!(mul_add, |here, z| {
    let (p, q) = (here.of(0), here.of(1));
    each!(i => _mm512_fmadd_ps(z[i], _mm512_loadu_ps(p.add(16 * i)), _mm512_loadu_ps(q.add(16 * i))))
});

step!(add_product, |here, z| {
    let (p, q) = (here.of(0), here.of(1));
    each!(i => _mm512_fmadd_ps(_mm512_loadu_ps(p.add(16 * i)), _mm512_loadu_ps(q.add(16 * i)), z[i]))
});

step!(select, |here, z| {
    let (p, q) = (here.of(0), here.of(1));
    each!(i => {
        let condition = _mm512_castps_si512(z[i]);
        let mask = _mm512_test_epi32_mask(condition, condition);
        _mm512_mask_blend_ps(mask, _mm512_loadu_ps(q.add(16 * i)), _mm512_loadu_ps(p.add(16 * i)))
    })
});

step!(fetch, |here, z| {
    // What lies beyond the input is asked for in vain, and nothing else.
    let p = here.of(0).wrapping_byte_add(AHEAD);
    let _ = each!(i => _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(16 * i).cast()));
    z
});

step!(load, |here, _z| {
    let p = here.of(0);
    each!(i => _mm512_loadu_ps(p.add(16 * i)))
});

step!(keep, |here, z| {
    let p = here.of(0);
    let _ = each!(i => _mm512_storeu_ps(p.add(16 * i), z[i]));
    z
});

// An output that is streamed begins on a line, as all its blocks do.
step!(put, |here, z| {
    let p = here.of(0);
    let _ = if here.spot(0).streams {
        each!(i => _mm512_stream_ps(p.add(16 * i), z[i]))
    } else {
        each!(i => _mm512_storeu_ps(p.add(16 * i), z[i]))
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
            _ => std::slice::from_raw_parts(here.of(k).cast::<u8>(), BLOCK_BYTES),
        });
        let to = std::slice::from_raw_parts_mut(here.of(0).cast::<u8>(), BLOCK_BYTES);
        if let Some(routine) = here.code.routine {
            routine.call(to, from);
        }
    }
}

step!(run_loop, |here, _z| {
    loop_block(here);
    let p = here.of(0);
    each!(i => _mm512_loadu_ps(p.add(16 * i)))
});

/// Ends a block.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe extern "sysv64" fn end(
    _: *const Code,
    _: *const Spot,
    _: usize,
    _: __m512,
    _: __m512,
    _: __m512,
    _: __m512,
    _: __m512,
    _: __m512,
    _: __m512,
    _: __m512,
) {
}

/// The code of `steps`.
pub(super) fn code(_: Avx512, steps: &[Step]) -> Vec<Code> {
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
pub(super) unsafe fn run(code: &[Code], spots: &[Spot], bytes: usize) {
    // SAFETY: the code was made for a token, which exists only where the processor has the instructions; the rest is what
    // the caller promises.
    unsafe { blocks(code, spots, bytes) }
}

/// # Safety
/// - As for `run`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn blocks(code: &[Code], spots: &[Spot], bytes: usize) {
    let z = _mm512_setzero_ps();
    for at in (0..bytes).step_by(BLOCK_BYTES) {
        // SAFETY: as the caller promises; `code` has its end at least.
        unsafe { (code[0].run)(code.as_ptr(), spots.as_ptr(), at, z, z, z, z, z, z, z, z) }
    }
}
