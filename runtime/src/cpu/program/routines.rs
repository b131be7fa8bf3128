//! Which loop runs an instruction: by opcode, kind, which operands are one element for the whole tile, and
//! instruction set.
//!
//! Loops that call the standard library or divide integers gain nothing from wider vectors and are compiled for
//! the portable set alone.

use super::conversions::{
    As, LoadBf16, LoadF16, RoundBf16, RoundF16, RoundToOdd, StoreBf16, StoreF16, Truth, Wrapped,
};
use super::functions::{self as f, Pair, Single};
use super::joined::{Erfs, Exps};
use crate::cpu::number::Compute;
use crate::cpu::simd::{Isa, Level, Routine, TileLoop};
use crate::cpu::vector_math::TURNS;
use crate::dtype::DType;
use crate::loops::program::{Instruction, Kind, Opcode};
use bytemuck::{Pod, cast_slice, cast_slice_mut};
use std::marker::PhantomData;

struct One<F>(PhantomData<F>);

impl<F: Single> TileLoop for One<F> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [a, ..]: [&[u8]; 3]) {
        let (to, a): (&mut [F::Y], &[F::A]) = (cast_slice_mut(to), cast_slice(a));
        for (y, &a) in to.iter_mut().zip(a) {
            *y = F::at(isa, a);
        }
    }
}

/// Sine or cosine: what the vectors do not reduce is taken from the standard library.
struct Turning<F, L>(PhantomData<(F, L)>);

impl<F: Single<A = f32, Y = f32>, L: Single<A = f32, Y = f32>> TileLoop for Turning<F, L> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], from: [&[u8]; 3]) {
        One::<F>::run(isa, to, from);
        let (to, a): (&mut [f32], &[f32]) = (cast_slice_mut(to), cast_slice(from[0]));
        if a.iter().fold(false, |any, x| any | (x.abs() > TURNS)) {
            for (y, &a) in to.iter_mut().zip(a).filter(|(_, a)| a.abs() > TURNS) {
                *y = L::at(isa, a);
            }
        }
    }
}

/// `to` is one element everywhere.
struct Spread<T>(PhantomData<T>);

impl<T: Pod> TileLoop for Spread<T> {
    #[inline(always)]
    fn run<I: Isa>(_: I, to: &mut [u8], [a, ..]: [&[u8]; 3]) {
        cast_slice_mut::<_, T>(to).fill(cast_slice::<_, T>(a)[0]);
    }
}

/// What lies in `to` times one element.
struct Scaled<T>(PhantomData<T>);

impl<T: Compute> TileLoop for Scaled<T> {
    #[inline(always)]
    fn run<I: Isa>(_: I, to: &mut [u8], [a, ..]: [&[u8]; 3]) {
        let (to, a): (&mut [T], T) = (cast_slice_mut(to), cast_slice(a)[0]);
        for y in to {
            *y = y.mul(a);
        }
    }
}

/// The first or the second operand may be one element for the whole tile.
struct Two<F, const A: bool, const B: bool>(PhantomData<F>);

impl<F: Pair, const A: bool, const B: bool> TileLoop for Two<F, A, B> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [a, b, _]: [&[u8]; 3]) {
        let to: &mut [F::Y] = cast_slice_mut(to);
        let (a, b): (&[F::A], &[F::A]) = (cast_slice(a), cast_slice(b));
        if A {
            let a = a[0];
            for (y, &b) in to.iter_mut().zip(b) {
                *y = F::at(isa, a, b);
            }
        } else if B {
            let b = b[0];
            for (y, &a) in to.iter_mut().zip(a) {
                *y = F::at(isa, a, b);
            }
        } else {
            for (y, (&a, &b)) in to.iter_mut().zip(a.iter().zip(b)) {
                *y = F::at(isa, a, b);
            }
        }
    }
}

/// Selection; either branch may be one element for the whole tile.
struct Select<T, const A: bool, const B: bool>(PhantomData<T>);

impl<T: Pod, const A: bool, const B: bool> TileLoop for Select<T, A, B> {
    #[inline(always)]
    fn run<I: Isa>(_: I, to: &mut [u8], [condition, a, b]: [&[u8]; 3]) {
        let (to, condition): (&mut [T], &[u32]) = (cast_slice_mut(to), cast_slice(condition));
        let (a, b): (&[T], &[T]) = (cast_slice(a), cast_slice(b));
        let n = to.len().min(condition.len());
        let (a, b) = (if A { &a[..1] } else { &a[..n] }, if B { &b[..1] } else { &b[..n] });
        for i in 0..n {
            let (a, b) = (a[if A { 0 } else { i }], b[if B { 0 } else { i }]);
            to[i] = if condition[i] != 0 { a } else { b };
        }
    }
}

/// `a · b + c`; `b` and `c` may be one element for the whole tile.
struct MulAdd<T, const B: bool, const C: bool>(PhantomData<T>);

impl<T: crate::cpu::vector_math::Math, const B: bool, const C: bool> TileLoop for MulAdd<T, B, C> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [a, b, c]: [&[u8]; 3]) {
        let (to, a): (&mut [T], &[T]) = (cast_slice_mut(to), cast_slice(a));
        let (b, c): (&[T], &[T]) = (cast_slice(b), cast_slice(c));
        let n = to.len().min(a.len());
        let (b, c) = (if B { &b[..1] } else { &b[..n] }, if C { &c[..1] } else { &c[..n] });
        for i in 0..n {
            to[i] = a[i].mul_add(isa, b[if B { 0 } else { i }], c[if C { 0 } else { i }]);
        }
    }
}

fn one<F: Single>(level: Level) -> Routine {
    level.routine::<One<F>>()
}

pub(super) fn two<F: Pair>(level: Level, uniform: [bool; 3]) -> Routine {
    match uniform {
        [true, false, _] => level.routine::<Two<F, true, false>>(),
        [false, true, _] => level.routine::<Two<F, false, true>>(),
        _ => level.routine::<Two<F, false, false>>(),
    }
}

/// The routine with its type parameter bound to the Rust type of `$kind`, one of those listed.
macro_rules! of_kind {
    ($kind:expr, $($variant:ident $type:ty),* => $T:ident $body:expr) => {
        match $kind {
            $(Kind::$variant => { type $T = $type; Some($body) })*
            _ => None,
        }
    };
}
macro_rules! floats { ($kind:expr, $T:ident => $body:expr) => { of_kind!($kind, F32 f32, F64 f64 => $T $body) } }
macro_rules! ints { ($kind:expr, $T:ident => $body:expr) => { of_kind!($kind, I32 i32, I64 i64, U64 u64 => $T $body) } }
macro_rules! numbers {
    ($kind:expr, $T:ident => $body:expr) => { of_kind!($kind, F32 f32, F64 f64, I32 i32, I64 i64, U64 u64 => $T $body) };
}
macro_rules! any {
    ($kind:expr, $T:ident => $body:expr) => {
        match $kind {
            Kind::Bool => Some({ type $T = u32; $body }),
            other => numbers!(other, $T => $body),
        }
    };
}
macro_rules! bits {
    ($kind:expr, $T:ident => $body:expr) => { of_kind!($kind, I32 i32, I64 i64, U64 u64, Bool u32 => $T $body) };
}
/// A function that only `f32` has a vector algorithm for.
macro_rules! vector_f32 {
    ($level:expr, $kind:expr, $name:ident) => {
        match $kind {
            Kind::F32 => Some(one::<f::$name<f32>>($level)),
            Kind::F64 => Some(one::<f::$name<f64>>(Level::PORTABLE)),
            _ => None,
        }
    };
}
/// A function of the standard library.
macro_rules! standard {
    ($kind:expr, $name:ident) => { floats!($kind, T => one::<f::$name<T>>(Level::PORTABLE)) };
}

/// The loop for `instruction` on registers; `uniform` says which operands are one element.
pub(super) fn compute(level: Level, instruction: &Instruction, uniform: [bool; 3]) -> Option<Routine> {
    let Instruction { kind, operands, dtype, .. } = *instruction;
    let scalar = Level::PORTABLE;
    match instruction.opcode {
        Opcode::Input | Opcode::Constant => None,
        Opcode::Narrow => narrow(level, kind, dtype),
        Opcode::Convert => convert(level, operands, kind),
        Opcode::RoundToOdd => Some(one::<RoundToOdd>(level)),
        Opcode::Neg => numbers!(kind, T => one::<f::Neg<T>>(level)),
        Opcode::Abs => numbers!(kind, T => one::<f::Abs<T>>(level)),
        Opcode::Sign => numbers!(kind, T => one::<f::Sign<T>>(level)),
        Opcode::Not if kind == Kind::Bool => Some(one::<f::Untrue>(level)),
        Opcode::Not => ints!(kind, T => one::<f::Not<T>>(level)),
        Opcode::Sqrt => floats!(kind, T => one::<f::Sqrt<T>>(level)),
        Opcode::Floor => floats!(kind, T => one::<f::Floor<T>>(level)),
        Opcode::Ceil => floats!(kind, T => one::<f::Ceil<T>>(level)),
        Opcode::Round => floats!(kind, T => one::<f::Round<T>>(level)),
        Opcode::Exp if kind == Kind::F32 => Some(level.routine::<Exps<false>>()),
        Opcode::Erf if kind == Kind::F32 => Some(level.routine::<Erfs<false>>()),
        Opcode::Exp => standard!(kind, Exp),
        Opcode::ExpM1 => vector_f32!(level, kind, ExpM1),
        Opcode::Log => vector_f32!(level, kind, Log),
        Opcode::Log1p => vector_f32!(level, kind, Log1p),
        Opcode::Sigmoid => vector_f32!(level, kind, Sigmoid),
        Opcode::Tanh => vector_f32!(level, kind, Tanh),
        Opcode::Erf => standard!(kind, Erf),
        Opcode::Softplus => vector_f32!(level, kind, Softplus),
        Opcode::Sin if kind == Kind::F32 => Some(level.routine::<Turning<f::Sin<f32>, f::LibrarySin<f32>>>()),
        Opcode::Cos if kind == Kind::F32 => Some(level.routine::<Turning<f::Cos<f32>, f::LibraryCos<f32>>>()),
        Opcode::Sin => standard!(kind, LibrarySin),
        Opcode::Cos => standard!(kind, LibraryCos),
        Opcode::Tan => standard!(kind, Tan),
        Opcode::Asin => standard!(kind, Asin),
        Opcode::Acos => standard!(kind, Acos),
        Opcode::Atan => standard!(kind, Atan),
        Opcode::Sinh => standard!(kind, Sinh),
        Opcode::Cosh => standard!(kind, Cosh),
        Opcode::Asinh => standard!(kind, Asinh),
        Opcode::Acosh => standard!(kind, Acosh),
        Opcode::Atanh => standard!(kind, Atanh),
        Opcode::Add => numbers!(kind, T => two::<f::Add<T>>(level, uniform)),
        Opcode::Sub => numbers!(kind, T => two::<f::Sub<T>>(level, uniform)),
        Opcode::Mul => numbers!(kind, T => two::<f::Mul<T>>(level, uniform)),
        Opcode::Div if kind.is_int() => ints!(kind, T => two::<f::Div<T>>(scalar, uniform)),
        Opcode::Div => floats!(kind, T => two::<f::Div<T>>(level, uniform)),
        Opcode::Rem => numbers!(kind, T => two::<f::Rem<T>>(scalar, uniform)),
        Opcode::Min => numbers!(kind, T => two::<f::Min<T>>(level, uniform)),
        Opcode::Max => numbers!(kind, T => two::<f::Max<T>>(level, uniform)),
        Opcode::Pow if kind.is_int() => ints!(kind, T => two::<f::Raised<T>>(scalar, uniform)),
        Opcode::Pow => floats!(kind, T => two::<f::Pow<T>>(scalar, uniform)),
        Opcode::And => bits!(kind, T => two::<f::And<T>>(level, uniform)),
        Opcode::Or => bits!(kind, T => two::<f::Or<T>>(level, uniform)),
        Opcode::Xor => bits!(kind, T => two::<f::Xor<T>>(level, uniform)),
        Opcode::Shl => ints!(kind, T => two::<f::Shl<T>>(scalar, uniform)),
        Opcode::Shr => ints!(kind, T => two::<f::Shr<T>>(scalar, uniform)),
        Opcode::Eq => any!(operands, T => two::<f::Eq<T>>(level, uniform)),
        Opcode::Lt => any!(operands, T => two::<f::Lt<T>>(level, uniform)),
        Opcode::Le => any!(operands, T => two::<f::Le<T>>(level, uniform)),
        Opcode::Select => any!(kind, T => select::<T>(level, uniform)),
        Opcode::MulAdd => floats!(kind, T => match uniform {
            [_, true, true] => level.routine::<MulAdd<T, true, true>>(),
            [_, true, false] => level.routine::<MulAdd<T, true, false>>(),
            [_, false, true] => level.routine::<MulAdd<T, false, true>>(),
            _ => level.routine::<MulAdd<T, false, false>>(),
        }),
    }
}

fn select<T: Pod>(level: Level, uniform: [bool; 3]) -> Routine {
    match uniform {
        [_, true, true] => level.routine::<Select<T, true, true>>(),
        [_, true, false] => level.routine::<Select<T, true, false>>(),
        [_, false, true] => level.routine::<Select<T, false, true>>(),
        _ => level.routine::<Select<T, false, false>>(),
    }
}

fn narrow(level: Level, kind: Kind, dtype: DType) -> Option<Routine> {
    Some(match (kind, dtype) {
        (Kind::F32, DType::F16) => one::<RoundF16>(level),
        (Kind::F32, DType::BF16) => one::<RoundBf16>(level),
        (Kind::I32, DType::I8) => one::<Wrapped<i32, i8>>(level),
        (Kind::I32, DType::U8) => one::<Wrapped<i32, u8>>(level),
        (Kind::I32, DType::I16) => one::<Wrapped<i32, i16>>(level),
        (Kind::I32, DType::U16) => one::<Wrapped<i32, u16>>(level),
        (Kind::I64, DType::U32) => one::<Wrapped<i64, u32>>(level),
        _ => return None,
    })
}

fn convert(level: Level, from: Kind, to: Kind) -> Option<Routine> {
    use Kind::{Bool, F32, F64, I32, I64, U64};
    Some(match (from, to) {
        (F32, F64) => one::<As<f32, f64>>(level),
        (F32, I32) => one::<As<f32, i32>>(level),
        (F32, I64) => one::<As<f32, i64>>(level),
        (F32, U64) => one::<As<f32, u64>>(level),
        (F64, F32) => one::<As<f64, f32>>(level),
        (F64, I32) => one::<As<f64, i32>>(level),
        (F64, I64) => one::<As<f64, i64>>(level),
        (F64, U64) => one::<As<f64, u64>>(level),
        (I32, F32) => one::<As<i32, f32>>(level),
        (I32, F64) => one::<As<i32, f64>>(level),
        (I32, I64) => one::<As<i32, i64>>(level),
        (I32, U64) => one::<As<i32, u64>>(level),
        (I64, F32) => one::<As<i64, f32>>(level),
        (I64, F64) => one::<As<i64, f64>>(level),
        (I64, I32) => one::<As<i64, i32>>(level),
        (I64, U64) => one::<As<i64, u64>>(level),
        (U64, F32) => one::<As<u64, f32>>(level),
        (U64, F64) => one::<As<u64, f64>>(level),
        (U64, I32) => one::<As<u64, i32>>(level),
        (U64, I64) => one::<As<u64, i64>>(level),
        (Bool, F32) => one::<As<u32, f32>>(level),
        (Bool, F64) => one::<As<u32, f64>>(level),
        (Bool, I32) => one::<As<u32, i32>>(level),
        (Bool, I64) => one::<As<u32, i64>>(level),
        (Bool, U64) => one::<As<u32, u64>>(level),
        (F32, Bool) => one::<Truth<f32>>(level),
        (F64, Bool) => one::<Truth<f64>>(level),
        (I32, Bool) => one::<Truth<i32>>(level),
        (I64, Bool) => one::<Truth<i64>>(level),
        (U64, Bool) => one::<Truth<u64>>(level),
        (F32, F32) | (F64, F64) | (I32, I32) | (I64, I64) | (U64, U64) | (Bool, Bool) => return None,
    })
}

/// Whether elements of `dtype` lie in memory as in a register.
pub(super) fn is_direct(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::I32 | DType::I64 | DType::U64)
}

/// From storage to a register.
pub(super) fn load(level: Level, dtype: DType) -> Option<Routine> {
    Some(match dtype {
        DType::F16 => Level::PORTABLE.routine::<LoadF16>(),
        DType::BF16 => one::<LoadBf16>(level),
        DType::I8 => one::<As<i8, i32>>(level),
        DType::U8 => one::<As<u8, i32>>(level),
        DType::I16 => one::<As<i16, i32>>(level),
        DType::U16 => one::<As<u16, i32>>(level),
        DType::U32 => one::<As<u32, i64>>(level),
        DType::Bool => one::<Truth<u8>>(level),
        _ => return None,
    })
}

/// From a register to storage.
pub(super) fn store(level: Level, dtype: DType) -> Option<Routine> {
    Some(match dtype {
        DType::F16 => Level::PORTABLE.routine::<StoreF16>(),
        DType::BF16 => one::<StoreBf16>(level),
        DType::I8 => one::<As<i32, i8>>(level),
        DType::U8 => one::<As<i32, u8>>(level),
        DType::I16 => one::<As<i32, i16>>(level),
        DType::U16 => one::<As<i32, u16>>(level),
        DType::U32 => one::<As<i64, u32>>(level),
        DType::Bool => one::<As<u32, u8>>(level),
        DType::F32 | DType::I32 => one::<f::Same<u32>>(level),
        DType::F64 | DType::I64 | DType::U64 => one::<f::Same<u64>>(level),
        _ => return None,
    })
}

/// What lies where it is written times one element.
pub(super) fn scale(level: Level, kind: Kind) -> Option<Routine> {
    floats!(kind, T => level.routine::<Scaled<T>>())
}

/// One stored element for a whole run of `bytes` wide elements.
pub(super) fn spread(bytes: usize) -> Option<Routine> {
    Some(match bytes {
        1 => Level::PORTABLE.routine::<Spread<u8>>(),
        2 => Level::PORTABLE.routine::<Spread<u16>>(),
        4 => Level::PORTABLE.routine::<Spread<u32>>(),
        8 => Level::PORTABLE.routine::<Spread<u64>>(),
        _ => return None,
    })
}
