//! Conversion between element types. Every float passes through `f64`, which holds all four kinds, and every
//! integer through 64 bits of its sign, so that each conversion rounds at most once (an integer beyond 2⁵³ to
//! a 16-bit float twice).

use super::kernel::Kernel;
use super::map::map;
use super::number::dispatch;
use crate::dtype::{Bool, DType, Element};
use crate::error::OpError;
use half::{bf16, f16};

/// Output 0 is input 0, of element type `from`, converted to element type `to`.
pub(crate) fn cast(from: DType, to: DType) -> Result<Kernel, OpError> {
    if from == to {
        return Ok(Kernel::new(|io| {
            let x = io.tensor(0)?;
            io.copy(0, x)
        }));
    }
    dispatch!(from, any, X => dispatch!(to, any, Y => Ok(map(|x: X| x.convert::<Y>()))))
}

/// 1 or 0 in any element type.
pub(crate) fn truth_as<Y: Target>(truth: bool) -> Y {
    Y::from_unsigned(truth.into())
}

/// A type that converts to every other.
trait Source: Element {
    fn convert<Y: Target>(self) -> Y;
}

/// A type that can be made from every other.
pub(crate) trait Target: Element {
    fn from_real(value: f64) -> Self;
    fn from_signed(value: i64) -> Self;
    fn from_unsigned(value: u64) -> Self;
}

macro_rules! source {
    ($($t:ty: $via:ident $wide:ty),*) => { $(
        impl Source for $t {
            fn convert<Y: Target>(self) -> Y { Y::$via(<$wide>::from(self)) }
        }
    )* };
}

macro_rules! target {
    ($($t:ty),*) => { $(
        impl Target for $t {
            // Truncates toward zero and saturates where the type is an integer; NaN is 0 there.
            fn from_real(value: f64) -> Self { value as $t }
            fn from_signed(value: i64) -> Self { value as $t }
            fn from_unsigned(value: u64) -> Self { value as $t }
        }
    )* };
}

macro_rules! half_target {
    ($($t:ty),*) => { $(
        impl Target for $t {
            fn from_real(value: f64) -> Self { <$t>::from_f64(value) }
            fn from_signed(value: i64) -> Self { <$t>::from_f64(value as f64) }
            fn from_unsigned(value: u64) -> Self { <$t>::from_f64(value as f64) }
        }
    )* };
}

source!(f32: from_real f64, f64: from_real f64, f16: from_real f64, bf16: from_real f64,
        i8: from_signed i64, i16: from_signed i64, i32: from_signed i64, i64: from_signed i64,
        u8: from_unsigned u64, u16: from_unsigned u64, u32: from_unsigned u64, u64: from_unsigned u64);
target!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64);
half_target!(f16, bf16);

impl Source for Bool {
    fn convert<Y: Target>(self) -> Y {
        Y::from_unsigned(self.get().into())
    }
}

impl Target for Bool {
    fn from_real(value: f64) -> Self {
        Self::new(value != 0.0)
    }

    fn from_signed(value: i64) -> Self {
        Self::new(value != 0)
    }

    fn from_unsigned(value: u64) -> Self {
        Self::new(value != 0)
    }
}
