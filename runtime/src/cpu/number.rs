//! Element arithmetic for kernels: how each storage type is computed with, and dispatch from a dtype to a
//! Rust type.
//!
//! `f16` and `bf16` are stored in 16 bits and computed in `f32`. Integers wrap, as ONNX Runtime's and numpy's
//! do.

use crate::dtype::{Element, nearest_bf16, nearest_f16};
use half::{bf16, f16};

/// A storage type that holds numbers, and the type that arithmetic on it is done in.
pub(crate) trait Number: Element {
    /// `f32` for `f16` and `bf16`, the type itself otherwise.
    type Compute: Compute;
    /// To the compute type.
    fn load(self) -> Self::Compute;
    /// From the compute type, rounding to nearest even.
    fn store(value: Self::Compute) -> Self;
    /// From `f64`: floats round, integers truncate toward zero and saturate.
    fn from_f64(value: f64) -> Self;
    /// To `f64`, rounding where it must.
    fn to_f64(self) -> f64;
    /// The smallest value; minus infinity for floats.
    fn lowest() -> Self;
    /// The largest value; infinity for floats.
    fn highest() -> Self;
}

/// A type that arithmetic is done in. Integer operations wrap; division by zero gives zero.
pub(crate) trait Compute: Element + Number<Compute = Self> {
    fn zero() -> Self;
    fn one() -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// What truncating division leaves; it has the sign of `self`.
    fn rem(self, other: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
}

/// A floating compute type.
pub(crate) trait Float: Compute {
    fn exp(self) -> Self;
    fn sqrt(self) -> Self;
    fn erf(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    /// To the nearest integer, halves to the even one.
    fn round_even(self) -> Self;
    /// `ln(1 + x)` without cancellation near zero.
    fn ln_1p(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tan(self) -> Self;
    fn asin(self) -> Self;
    fn acos(self) -> Self;
    fn atan(self) -> Self;
    fn sinh(self) -> Self;
    fn tanh(self) -> Self;
    fn cosh(self) -> Self;
    fn asinh(self) -> Self;
    fn acosh(self) -> Self;
    fn atanh(self) -> Self;
    fn is_nan(self) -> bool;
    /// `self` or `other`, the larger; NaN if either is.
    fn maximum(self, other: Self) -> Self {
        if self.is_nan() || other.is_nan() {
            self.add(other)
        } else if self > other {
            self
        } else {
            other
        }
    }
    /// `ln(1 + e^x)`, without overflow.
    fn softplus(self) -> Self {
        self.maximum(Self::zero()).add(self.abs().neg().exp().ln_1p())
    }
    /// `1 / (1 + e^-x)`.
    fn sigmoid(self) -> Self {
        Self::one().div(Self::one().add(self.neg().exp()))
    }
}

/// A floating storage type: `f32`, `f64`, `f16`, `bf16`.
pub(crate) trait Real: Number<Compute: Float> {}

impl Real for f32 {}
impl Real for f64 {}
impl Real for f16 {}
impl Real for bf16 {}

macro_rules! float {
    ($($t:ty, $erf:path);*) => { $(
        impl Number for $t {
            type Compute = $t;
            fn load(self) -> $t { self }
            fn store(value: $t) -> Self { value }
            fn from_f64(value: f64) -> Self { value as $t }
            fn to_f64(self) -> f64 { self.into() }
            fn lowest() -> Self { <$t>::NEG_INFINITY }
            fn highest() -> Self { <$t>::INFINITY }
        }
        impl Float for $t {
            inherent!($t: exp ln_1p sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh
                floor ceil);
            // Of the magnitude: the logarithm that it is taken by cancels near −1.
            fn atanh(self) -> Self { <$t>::atanh(self.abs()).copysign(self) }
            fn erf(self) -> Self { $erf(self) }
            fn powf(self, exponent: Self) -> Self { <$t>::powf(self, exponent) }
            fn round_even(self) -> Self { <$t>::round_ties_even(self) }
            fn is_nan(self) -> bool { <$t>::is_nan(self) }
        }
    )* };
}

/// Functions of one argument that the type has itself.
macro_rules! inherent {
    ($t:ty: $($name:ident)*) => { $( fn $name(self) -> Self { <$t>::$name(self) } )* };
}

macro_rules! float_compute {
    ($($t:ty),*) => { $(
        impl Compute for $t {
            fn zero() -> Self { 0.0 }
            fn one() -> Self { 1.0 }
            fn add(self, other: Self) -> Self { self + other }
            fn sub(self, other: Self) -> Self { self - other }
            fn mul(self, other: Self) -> Self { self * other }
            fn div(self, other: Self) -> Self { self / other }
            fn rem(self, other: Self) -> Self { self % other }
            fn neg(self) -> Self { -self }
            fn abs(self) -> Self { <$t>::abs(self) }
        }
    )* };
}

macro_rules! half_float {
    ($($t:ty, $nearest:path);*) => { $(
        impl Number for $t {
            type Compute = f32;
            fn load(self) -> f32 { self.to_f32() }
            fn store(value: f32) -> Self { <$t>::from_f32(value) }
            fn from_f64(value: f64) -> Self { $nearest(value) }
            fn to_f64(self) -> f64 { <$t>::to_f64(self) }
            fn lowest() -> Self { <$t>::NEG_INFINITY }
            fn highest() -> Self { <$t>::INFINITY }
        }
    )* };
}

macro_rules! integer {
    ($($t:ty: $abs:ident),*) => { $(
        impl Number for $t {
            type Compute = $t;
            fn load(self) -> $t { self }
            fn store(value: $t) -> Self { value }
            fn from_f64(value: f64) -> Self { value as $t }
            fn to_f64(self) -> f64 { self as f64 }
            fn lowest() -> Self { <$t>::MIN }
            fn highest() -> Self { <$t>::MAX }
        }
        impl Compute for $t {
            fn zero() -> Self { 0 }
            fn one() -> Self { 1 }
            fn add(self, other: Self) -> Self { self.wrapping_add(other) }
            fn sub(self, other: Self) -> Self { self.wrapping_sub(other) }
            fn mul(self, other: Self) -> Self { self.wrapping_mul(other) }
            fn div(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_div(other) } }
            fn rem(self, other: Self) -> Self { if other == 0 { 0 } else { self.wrapping_rem(other) } }
            fn neg(self) -> Self { self.wrapping_neg() }
            fn abs(self) -> Self { $abs!(self) }
        }
    )* };
}

macro_rules! signed_abs {
    ($x:expr) => {
        $x.wrapping_abs()
    };
}
macro_rules! unsigned_abs {
    ($x:expr) => {
        $x
    };
}

float!(f32, libm::erff; f64, libm::erf);
float_compute!(f32, f64);
half_float!(f16, nearest_f16; bf16, nearest_bf16);
integer!(i8: signed_abs, i16: signed_abs, i32: signed_abs, i64: signed_abs,
         u8: unsigned_abs, u16: unsigned_abs, u32: unsigned_abs, u64: unsigned_abs);

/// Whether `x` is a NaN, for generic code over all element types.
pub(crate) fn is_nan<T: PartialOrd + Copy>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

/// Runs `$body` with `$T` bound to the Rust type of `$dtype`, one of the named class: `floats`, `singles` (floats
/// that are computed in f32), `ints`, `numbers`, or `any` (numbers and `bool`). Another dtype is an [`OpError::Internal`]: `infer` refuses it
/// before a kernel is made.
///
/// [`OpError::Internal`]: crate::error::OpError::Internal
macro_rules! dispatch {
    ($dtype:expr, floats, $T:ident => $body:expr) => {
        $crate::cpu::number::dispatch!(@ $dtype, $T, $body, F32 f32, F64 f64, F16 half::f16, BF16 half::bf16)
    };
    ($dtype:expr, singles, $T:ident => $body:expr) => {
        $crate::cpu::number::dispatch!(@ $dtype, $T, $body, F32 f32, F16 half::f16, BF16 half::bf16)
    };
    ($dtype:expr, ints, $T:ident => $body:expr) => {
        $crate::cpu::number::dispatch!(@ $dtype, $T, $body, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16,
            U32 u32, U64 u64)
    };
    ($dtype:expr, numbers, $T:ident => $body:expr) => {
        $crate::cpu::number::dispatch!(@ $dtype, $T, $body, F32 f32, F64 f64, F16 half::f16, BF16 half::bf16,
            I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64)
    };
    ($dtype:expr, any, $T:ident => $body:expr) => {
        $crate::cpu::number::dispatch!(@ $dtype, $T, $body, F32 f32, F64 f64, F16 half::f16, BF16 half::bf16,
            I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, Bool $crate::dtype::Bool)
    };
    (@ $dtype:expr, $T:ident, $body:expr, $($variant:ident $type:ty),*) => {
        match $dtype {
            $($crate::dtype::DType::$variant => { type $T = $type; $body })*
            other => Err($crate::error::OpError::internal(format!("no kernel for {other}"))),
        }
    };
}
pub(crate) use dispatch;
