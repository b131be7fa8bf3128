//! Element types of ONNX tensors.

use core::fmt;

/// Element type of a tensor. Every type of the ONNX specification has a variant; which operators compute
/// on which is listed by the operator table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[non_exhaustive]
#[repr(u8)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    BF16,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 64-bit integer.
    U64,
    /// Truth value, one byte.
    Bool,
    /// UTF-8 text.
    String,
    /// Complex number of two binary32.
    Complex64,
    /// Complex number of two binary64.
    Complex128,
    /// 8-bit float, 4 exponent bits, no infinities.
    F8E4M3FN,
    /// 8-bit float, 4 exponent bits, no infinities, no negative zero.
    F8E4M3FNUZ,
    /// 8-bit float, 5 exponent bits.
    F8E5M2,
    /// 8-bit float, 5 exponent bits, no infinities, no negative zero.
    F8E5M2FNUZ,
    /// 8-bit power-of-two scale.
    F8E8M0,
    /// 4-bit float, two per byte.
    F4E2M1,
    /// 6-bit float, 2 exponent bits, four in three bytes.
    F6E2M3,
    /// 6-bit float, 3 exponent bits, four in three bytes.
    F6E3M2,
    /// Unsigned 4-bit integer, two per byte.
    U4,
    /// Signed 4-bit integer, two per byte.
    I4,
    /// Unsigned 2-bit integer, four per byte.
    U2,
    /// Signed 2-bit integer, four per byte.
    I2,
}

impl DType {
    /// Bits that one element occupies; 0 for [`DType::String`].
    pub const fn bits(self) -> usize {
        match self {
            Self::String => 0,
            Self::U2 | Self::I2 => 2,
            Self::F4E2M1 | Self::U4 | Self::I4 => 4,
            Self::F6E2M3 | Self::F6E3M2 => 6,
            Self::I8
            | Self::U8
            | Self::Bool
            | Self::F8E4M3FN
            | Self::F8E4M3FNUZ
            | Self::F8E5M2
            | Self::F8E5M2FNUZ
            | Self::F8E8M0 => 8,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 16,
            Self::F32 | Self::I32 | Self::U32 => 32,
            Self::F64 | Self::I64 | Self::U64 | Self::Complex64 => 64,
            Self::Complex128 => 128,
        }
    }

    /// Bytes of `count` packed elements, or `None` when the number overflows.
    pub const fn bytes(self, count: usize) -> Option<usize> {
        match count.checked_mul(self.bits()) {
            Some(bits) => Some(bits.div_ceil(8)),
            None => None,
        }
    }

    /// Whether the type is one of `f16`, `bf16`, `f32`, `f64`.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }

    /// Whether the type is an integer of 8 to 64 bits.
    pub const fn is_int(self) -> bool {
        self.is_signed_int() || matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::U64)
    }

    /// Whether the type is a signed integer of 8 to 64 bits.
    pub const fn is_signed_int(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    /// Name as written in the specification, such as `float32` or `int64`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Complex64 => "complex64",
            Self::Complex128 => "complex128",
            Self::F8E4M3FN => "float8e4m3fn",
            Self::F8E4M3FNUZ => "float8e4m3fnuz",
            Self::F8E5M2 => "float8e5m2",
            Self::F8E5M2FNUZ => "float8e5m2fnuz",
            Self::F8E8M0 => "float8e8m0",
            Self::F4E2M1 => "float4e2m1",
            Self::F6E2M3 => "float6e2m3",
            Self::F6E3M2 => "float6e3m2",
            Self::U4 => "uint4",
            Self::I4 => "int4",
            Self::U2 => "uint2",
            Self::I2 => "int2",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
