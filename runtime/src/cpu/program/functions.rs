//! The functions of instructions, one element at a time, for loops that the compiler makes vectors of. Truth
//! values are 0 or 1 in 32 bits.

use crate::cpu::number::{Compute, Float};
use crate::cpu::simd::Isa;
use crate::cpu::vector_math::Math;
use bytemuck::Pod;
use std::marker::PhantomData;

/// A function of one element.
pub(super) trait Single {
    type A: Pod;
    type Y: Pod;
    fn at<I: Isa>(isa: I, a: Self::A) -> Self::Y;
}

/// A function of two elements.
pub(super) trait Pair {
    type A: Pod;
    type Y: Pod;
    fn at<I: Isa>(isa: I, a: Self::A, b: Self::A) -> Self::Y;
}

/// `$name<T>`: a function of one `T`.
macro_rules! single {
    ($($name:ident($bound:ident) $isa:ident $x:ident => $body:expr;)*) => { $(
        pub(super) struct $name<T>(PhantomData<T>);
        impl<T: $bound> Single for $name<T> {
            type A = T;
            type Y = T;
            #[inline(always)]
            fn at<I: Isa>($isa: I, $x: T) -> T { $body }
        }
    )* };
}

/// `$name<T>`: a function of two `T`.
macro_rules! pair {
    ($($name:ident($bound:ident) -> $y:ty, $isa:ident $a:ident $b:ident => $body:expr;)*) => { $(
        pub(super) struct $name<T>(PhantomData<T>);
        impl<T: $bound> Pair for $name<T> {
            type A = T;
            type Y = $y;
            #[inline(always)]
            fn at<I: Isa>($isa: I, $a: T, $b: T) -> $y { $body }
        }
    )* };
}

/// Numbers that order and signs are asked of.
pub(super) trait Signed: Compute {
    fn sign(self) -> Self;
    fn smaller(self, other: Self) -> Self;
    fn larger(self, other: Self) -> Self;
}

macro_rules! signed_float {
    ($($t:ty),*) => { $(
        impl Signed for $t {
            #[inline(always)]
            fn sign(self) -> Self {
                if self > 0.0 { 1.0 } else if self < 0.0 { -1.0 } else { self }
            }
            // NaN where either is: an unordered pair takes the operand that is NaN.
            #[inline(always)]
            fn smaller(self, other: Self) -> Self {
                let least = if self < other { self } else { other };
                if self.is_nan() { self } else { least }
            }
            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                let most = if self > other { self } else { other };
                if self.is_nan() { self } else { most }
            }
        }
    )* };
}

macro_rules! signed_int {
    ($($t:ty, $x:ident => $sign:expr);*) => { $(
        impl Signed for $t {
            #[inline(always)]
            fn sign(self) -> Self {
                let $x = self;
                $sign
            }
            #[inline(always)]
            fn smaller(self, other: Self) -> Self { if self < other { self } else { other } }
            #[inline(always)]
            fn larger(self, other: Self) -> Self { if self > other { self } else { other } }
        }
    )* };
}

signed_float!(f32, f64);
signed_int!(i32, x => x.signum(); i64, x => x.signum(); u64, x => x.min(1));

/// Integers of registers, and truth values.
pub(super) trait Bits: Pod + Ord {
    fn not(self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn shl(self, by: Self) -> Self;
    fn shr(self, by: Self) -> Self;
}

macro_rules! bits {
    ($($t:ty),*) => { $(
        impl Bits for $t {
            #[inline(always)]
            fn not(self) -> Self { !self }
            #[inline(always)]
            fn and(self, other: Self) -> Self { self & other }
            #[inline(always)]
            fn or(self, other: Self) -> Self { self | other }
            #[inline(always)]
            fn xor(self, other: Self) -> Self { self ^ other }
            #[inline(always)]
            fn shl(self, by: Self) -> Self {
                u32::try_from(by).ok().and_then(|by| self.checked_shl(by)).unwrap_or(0)
            }
            #[inline(always)]
            fn shr(self, by: Self) -> Self {
                u32::try_from(by).ok().and_then(|by| self.checked_shr(by)).unwrap_or(0)
            }
        }
    )* };
}

bits!(u32, i32, i64, u64);

/// Integers that are raised to powers.
pub(super) trait Powers: Compute {
    /// `self` to the power `exponent`, wrapped; truncated toward zero where the exponent is negative.
    fn raised(self, exponent: Self) -> Self;
}

macro_rules! powers {
    ($($t:ty, $exponent:ident => $negative:expr);*) => { $(
        impl Powers for $t {
            fn raised(self, $exponent: Self) -> Self {
                let mut exponent = $exponent;
                if $negative {
                    let odd = exponent & 1 == 1;
                    let minus_one = (0 as $t).wrapping_sub(1);
                    return if self == 1 || (self == minus_one && !odd) {
                        1
                    } else if self == minus_one {
                        minus_one
                    } else {
                        0
                    };
                }
                let (mut base, mut product) = (self, 1 as $t);
                while exponent > 0 {
                    if exponent & 1 == 1 {
                        product = product.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    exponent >>= 1;
                }
                product
            }
        }
    )* };
}

powers!(i32, exponent => exponent < 0; i64, exponent => exponent < 0; u64, exponent => { let _ = exponent; false });

single! {
    Neg(Compute) _isa x => x.neg();
    Abs(Compute) _isa x => x.abs();
    Sign(Signed) _isa x => x.sign();
    Not(Bits) _isa x => x.not();
    Sqrt(Float) _isa x => x.sqrt();
    Floor(Float) _isa x => x.floor();
    Ceil(Float) _isa x => x.ceil();
    Round(Float) _isa x => x.round_even();
    Exp(Math) isa x => Math::exp(x, isa);
    ExpM1(Math) isa x => Math::exp_m1(x, isa);
    Log(Math) isa x => Math::log(x, isa);
    Log1p(Math) isa x => Math::log1p(x, isa);
    Sigmoid(Math) isa x => Math::sigmoid(x, isa);
    Tanh(Math) isa x => Math::tanh(x, isa);
    Erf(Math) isa x => Math::erf(x, isa);
    Softplus(Math) isa x => Math::softplus(x, isa);
    Sin(Math) isa x => Math::sin(x, isa);
    Cos(Math) isa x => Math::cos(x, isa);
    LibrarySin(Float) _isa x => Float::sin(x);
    LibraryCos(Float) _isa x => Float::cos(x);
    Tan(Float) _isa x => x.tan();
    Asin(Float) _isa x => x.asin();
    Acos(Float) _isa x => x.acos();
    Atan(Float) _isa x => x.atan();
    Sinh(Float) _isa x => x.sinh();
    Cosh(Float) _isa x => x.cosh();
    Asinh(Float) _isa x => x.asinh();
    Acosh(Float) _isa x => x.acosh();
    Atanh(Float) _isa x => x.atanh();
    Same(Pod) _isa x => x;
}

/// The complement of a truth value.
pub(super) struct Untrue;
impl Single for Untrue {
    type A = u32;
    type Y = u32;
    #[inline(always)]
    fn at<I: Isa>(_: I, a: u32) -> u32 {
        a ^ 1
    }
}

pair! {
    Add(Compute) -> T, _isa a b => a.add(b);
    Sub(Compute) -> T, _isa a b => a.sub(b);
    Mul(Compute) -> T, _isa a b => a.mul(b);
    Div(Compute) -> T, _isa a b => a.div(b);
    Rem(Compute) -> T, _isa a b => a.rem(b);
    Min(Signed) -> T, _isa a b => a.smaller(b);
    Max(Signed) -> T, _isa a b => a.larger(b);
    ExpDifference(Math) -> T, isa a b => Math::exp(a.sub(b), isa);
    SquaredDifference(Math) -> T, _isa a b => a.sub(b).mul(a.sub(b));
    Larger(Signed) -> T, _isa a b => if a > b { a } else { b };
    Pow(Float) -> T, _isa a b => if b == T::from_f64(2.0) { a.mul(a) } else { a.powf(b) };
    Raised(Powers) -> T, _isa a b => a.raised(b);
    And(Bits) -> T, _isa a b => a.and(b);
    Or(Bits) -> T, _isa a b => a.or(b);
    Xor(Bits) -> T, _isa a b => a.xor(b);
    Shl(Bits) -> T, _isa a b => a.shl(b);
    Shr(Bits) -> T, _isa a b => a.shr(b);
}

/// A comparison: `Eq`, `Lt`, `Le` of [`Compared`].
macro_rules! compared {
    ($($name:ident $op:tt),*) => { $(
        pub(super) struct $name<T>(PhantomData<T>);
        impl<T: Pod + PartialOrd> Pair for $name<T> {
            type A = T;
            type Y = u32;
            #[inline(always)]
            fn at<I: Isa>(_: I, a: T, b: T) -> u32 { u32::from(a $op b) }
        }
    )* };
}

compared!(Eq ==, Lt <, Le <=);
