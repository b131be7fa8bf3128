//! Conversion between element types. Every float passes through `f64`, which holds all four kinds, and every
//! integer through 64 bits of its sign, so that each conversion rounds at most once (an integer beyond 2⁵³ to
//! a 16-bit float twice).

use super::io::Io;
use super::kernel::Kernel;
use super::narrow::{Rounding, packed_byte, unpack};
use super::number::dispatch;
use super::split::for_each_piece;
use crate::dtype::{Bool, DType, Element};
use crate::error::OpError;
use half::{bf16, f16};
use recurve_kernels::codes::Format;

/// Output 0 is input 0, of element type `from`, converted to element type `to`, one of which is narrow.
pub(crate) fn narrow_cast(from: DType, to: DType, rounding: Rounding) -> Result<Kernel, OpError> {
    if from == to {
        return Ok(Kernel::new(|io| {
            let x = io.tensor(0)?;
            io.copy(0, x)
        }));
    }
    match (Format::of(from), Format::of(to)) {
        (None, None) => Err(OpError::internal(format!("neither {from} nor {to} is narrow"))),
        (Some(of), None) => dispatch!(to, any, Y => Ok(Kernel::new(move |io| {
            let (x, context) = (io.tensor(0)?.bytes(), io.context);
            for_each_piece(context, io.output::<Y>(0)?, |start, piece| {
                for (i, y) in piece.iter_mut().enumerate() {
                    let value = of.decode(unpack(x, from.bits(), start + i));
                    *y = if of.holds_integers() { Y::from_signed(value as i64) } else { Y::from_real(value) };
                }
            })
        }))),
        (None, Some(made)) => dispatch!(from, any, X => Ok(Kernel::new(move |io| {
            let x = io.input::<X>(0)?;
            to_packed(io, x.len(), to.bits(), |i| made.encode(x[i].wide(), rounding))
        }))),
        (Some(of), Some(made)) => Ok(Kernel::new(move |io| {
            let x = io.tensor(0)?;
            to_packed(io, x.len(), to.bits(), |i| {
                let real = of.decode(unpack(x.bytes(), from.bits(), i));
                made.encode((real, real as i64), rounding)
            })
        })),
    }
}

/// Fills output 0 with `len` codes of `bits` bits.
fn to_packed(
    io: &mut Io<'_, '_>,
    len: usize,
    bits: usize,
    code: impl Fn(usize) -> u32 + Sync,
) -> Result<(), OpError> {
    let context = io.context;
    for_each_piece(context, io.output_bytes(0)?, |start, piece| {
        for (i, byte) in piece.iter_mut().enumerate() {
            *byte = packed_byte(bits, len, start + i, &code);
        }
    })
}

/// 1 or 0 in any element type.
pub(crate) fn truth_as<Y: Target>(truth: bool) -> Y {
    Y::from_unsigned(truth.into())
}

/// A type that converts to every other.
trait Source: Element {
    /// As a real number and as an integer: truncated toward zero, or modulo 2⁶⁴.
    fn wide(self) -> (f64, i64);
}

/// A type that can be made from every other.
pub(crate) trait Target: Element {
    fn from_real(value: f64) -> Self;
    fn from_signed(value: i64) -> Self;
    fn from_unsigned(value: u64) -> Self;
}

macro_rules! source {
    ($($t:ty: $wide:ty),*) => { $(
        impl Source for $t {
            fn wide(self) -> (f64, i64) { (<$wide>::from(self) as f64, <$wide>::from(self) as i64) }
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

source!(f32: f64, f64: f64, f16: f64, bf16: f64,
        i8: i64, i16: i64, i32: i64, i64: i64,
        u8: u64, u16: u64, u32: u64, u64: u64);
target!(f32, f64, i8, i16, i32, i64, u8, u16, u32, u64);
half_target!(f16, bf16);

impl Source for Bool {
    fn wide(self) -> (f64, i64) {
        (self.get().into(), self.get().into())
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
