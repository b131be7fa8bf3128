//! Element types of eight bits and fewer on the host, by the functions that GPU kernels have
//! ([`recurve_kernels::codes`]): floats of 8, 6 and 4 bits, powers of two in a byte, and integers of 4 and 2 bits.

use crate::dtype::DType;
use recurve_kernels::codes::{self, Format};
pub(crate) use recurve_kernels::codes::{PowerRounding, Rounding};

/// Whether `dtype` is one of these types.
pub(crate) fn is_narrow(dtype: DType) -> bool {
    Format::of(dtype).is_some()
}

/// Code `i` of packed codes of `bits` bits.
pub(crate) fn unpack(bytes: &[u8], bits: usize, i: usize) -> u32 {
    codes::unpack(|at| bytes[at], bits as u32, i)
}

/// Byte `at` of `len` packed codes of `bits` bits.
pub(crate) fn packed_byte(bits: usize, len: usize, at: usize, code: impl Fn(usize) -> u32) -> u8 {
    codes::packed_byte(bits as u32, len, at, code)
}
