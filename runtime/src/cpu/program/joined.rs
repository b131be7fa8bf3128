//! Two instructions in one loop, where nothing else reads what the first of them makes: softmax, variances,
//! normalisations and GELU save a pass over their rows by that. Some of these loops can add up what they make as well.

use super::functions as f;
use super::routines::two;
use crate::cpu::simd::{Fold, FoldLoop, Folding, Isa, Level, Routine, TileLoop};
use crate::cpu::vector_math::{LANES, Math, sum_of_lanes};
use crate::loops::program::{Instruction, Kind, Opcode, Program};
use bytemuck::{cast_slice, cast_slice_mut};
use smallvec::SmallVec;
use std::marker::PhantomData;

/// What a loop makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    /// `e^(a − b)`.
    ExpOfDifference,
    /// `(a − b)²`.
    SquareOfDifference,
    /// `(a − b) · c`, `b` and `c` one element for the whole tile.
    DifferenceTimes,
    /// `erf(a · b)`, `b` one element for the whole tile.
    ErfOfProduct,
}

/// Two instructions in one loop.
#[derive(Clone, Debug)]
pub(super) struct Joined {
    /// The instruction that the other takes in.
    pub(super) first: usize,
    pub(super) made: Made,
    /// The operands of the loop.
    pub(super) registers: SmallVec<[usize; 3]>,
}

/// For each instruction the one that its loop takes in, if there is one. `reads` counts the readers of each register,
/// and `one` tells which are one element for the whole tile.
pub(super) fn joined(program: &Program, reads: &[usize], one: &[bool]) -> Vec<Option<Joined>> {
    let instructions = program.instructions();
    let taken = |first: usize, opcode: Opcode, times: usize| {
        (instructions[first].opcode == opcode && reads[first] == times)
            .then(|| instructions[first].registers().collect::<SmallVec<[usize; 3]>>())
    };
    let of = |instruction: &Instruction| -> Option<Joined> {
        if !matches!(instruction.kind, Kind::F32 | Kind::F64) {
            return None;
        }
        let own: SmallVec<[usize; 3]> = instruction.registers().collect();
        match (instruction.opcode, own.as_slice()) {
            (Opcode::Exp, &[first]) => {
                let registers = taken(first, Opcode::Sub, 1)?;
                Some(Joined { first, made: Made::ExpOfDifference, registers })
            }
            (Opcode::Mul, &[first, second]) if first == second => {
                let registers = taken(first, Opcode::Sub, 2)?;
                Some(Joined { first, made: Made::SquareOfDifference, registers })
            }
            (Opcode::Mul, &[a, b]) => [(a, b), (b, a)].into_iter().find_map(|(first, factor)| {
                let mut registers = taken(first, Opcode::Sub, 1)?;
                let fits = !one[registers[0]] && one[registers[1]] && one[factor];
                registers.push(factor);
                fits.then_some(Joined { first, made: Made::DifferenceTimes, registers })
            }),
            (Opcode::Erf, &[first]) if instruction.kind == Kind::F32 => {
                let mut registers = taken(first, Opcode::Mul, 1)?;
                if one[registers[0]] {
                    registers.swap(0, 1);
                }
                let fits = !one[registers[0]] && one[registers[1]];
                fits.then_some(Joined { first, made: Made::ErfOfProduct, registers })
            }
            _ => None,
        }
    };
    let mut all: Vec<Option<Joined>> = instructions.iter().map(of).collect();
    // What another loop takes in takes nothing in itself.
    for i in (0..all.len()).rev() {
        if let Some(first) = all[i].as_ref().map(|joined| joined.first) {
            all[first] = None;
        }
    }
    all
}

/// The loop that makes this of operands of which `uniform` are one element.
pub(super) fn routine(level: Level, kind: Kind, made: Made, uniform: [bool; 3]) -> Option<Routine> {
    Some(match (made, kind) {
        (Made::ExpOfDifference, Kind::F32) if uniform[1] => level.routine::<Exps<true>>(),
        (Made::ExpOfDifference, Kind::F32) => two::<f::ExpDifference<f32>>(level, uniform),
        (Made::ExpOfDifference, Kind::F64) => two::<f::ExpDifference<f64>>(Level::PORTABLE, uniform),
        (Made::SquareOfDifference, Kind::F32) => two::<f::SquaredDifference<f32>>(level, uniform),
        (Made::SquareOfDifference, Kind::F64) => two::<f::SquaredDifference<f64>>(level, uniform),
        (Made::DifferenceTimes, Kind::F32) => level.routine::<DifferenceTimes<f32>>(),
        (Made::DifferenceTimes, Kind::F64) => level.routine::<DifferenceTimes<f64>>(),
        (Made::ErfOfProduct, Kind::F32) => level.routine::<Erfs<true>>(),
        _ => return None,
    })
}

/// The same loop where it can add up what it makes, in `f32` and a fixed order.
pub(super) fn folding(level: Level, kind: Kind, made: Made, uniform: [bool; 3]) -> Option<Folding> {
    match (made, kind) {
        (Made::ExpOfDifference, Kind::F32) if uniform == [false, true, false] => {
            Some(level.folding::<SumOfExps>())
        }
        (Made::SquareOfDifference, Kind::F32) if uniform == [false, true, false] => {
            Some(level.folding::<SumOfSquares>())
        }
        _ => None,
    }
}

/// `e^a`, or `e^(a − b)` with one `b` for the whole tile.
pub(super) struct Exps<const LESS: bool>;

impl<const LESS: bool> TileLoop for Exps<LESS> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [a, b, _]: [&[u8]; 3]) {
        let less = if LESS { cast_slice::<_, f32>(b)[0] } else { 0.0 };
        isa.exp(cast_slice_mut(to), cast_slice(a), less);
    }
}

/// `erf(a)`, or `erf(a · b)` with one `b` for the whole tile.
pub(super) struct Erfs<const TIMES: bool>;

impl<const TIMES: bool> TileLoop for Erfs<TIMES> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [a, b, _]: [&[u8]; 3]) {
        let scale = if TIMES { cast_slice::<_, f32>(b)[0] } else { 1.0 };
        isa.erf(cast_slice_mut(to), cast_slice(a), scale);
    }
}

struct DifferenceTimes<T>(PhantomData<T>);

impl<T: Math> TileLoop for DifferenceTimes<T> {
    #[inline(always)]
    fn run<I: Isa>(_: I, to: &mut [u8], [a, b, c]: [&[u8]; 3]) {
        let (to, a): (&mut [T], &[T]) = (cast_slice_mut(to), cast_slice(a));
        let (b, c) = (cast_slice::<_, T>(b)[0], cast_slice::<_, T>(c)[0]);
        for (y, a) in to.iter_mut().zip(a) {
            *y = a.sub(b).mul(c);
        }
    }
}

struct SumOfExps;

impl FoldLoop for SumOfExps {
    const WRITES: bool = true;

    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [a, b, _]: [&[u8]; 3]) -> f32 {
        isa.exp_sum(cast_slice_mut(to), cast_slice(a), cast_slice::<_, f32>(b)[0])
    }
}

/// The squares themselves are not written.
struct SumOfSquares;

impl FoldLoop for SumOfSquares {
    const WRITES: bool = false;

    #[inline(always)]
    fn run<I: Isa>(isa: I, _: &mut [u8], [a, b, _]: [&[u8]; 3]) -> f32 {
        let (a, b): (&[f32], f32) = (cast_slice(a), cast_slice(b)[0]);
        let mut lanes = [0.0; LANES];
        let (chunks, rest) = a.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                let away = chunk[i] - b;
                lanes[i] = isa.mul_add_f32(away, away, lanes[i]);
            }
        }
        for (lane, a) in lanes.iter_mut().zip(rest) {
            *lane = isa.mul_add_f32(a - b, a - b, *lane);
        }
        isa.fold(Fold::Sum, &lanes).unwrap_or_else(|| sum_of_lanes(lanes))
    }
}
