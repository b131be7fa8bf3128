//! What each instruction makes of its operands; registers are the bits of their kinds.

use crate::device::math::{
    ceil_f32, ceil_f64, floor_f32, floor_f64, fma_f32, fma_f64, round_f32, round_f64, sqrt_f32, sqrt_f64,
};
use crate::device::{BF16, F16, Float16};
use crate::dtype::DType;
use crate::elementary;
use crate::program::{Kind, Opcode};

/// One instruction without its registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) opcode: Opcode,
    /// Of the result.
    pub(crate) kind: Kind,
    /// Of the operands.
    pub(crate) operands: Kind,
    pub(crate) dtype: DType,
}

/// What registers hold, and what is computed of it; known when a kernel is compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kinds {
    /// Kinds of 64 bits may occur.
    pub(crate) wide: bool,
    /// Integers may occur.
    pub(crate) integers: bool,
    /// The common functions are computed here, not by [`super::functions::function32`].
    pub(crate) functions: bool,
}

impl Kinds {
    /// All that programs have, but what [`super::functions::is_rare`]; of 64 bits where `wide`.
    pub(crate) const fn all(wide: bool) -> Self {
        Self { wide, integers: true, functions: true }
    }

    /// The same without functions, for what only combines values.
    pub(crate) const fn combined(wide: bool) -> Self {
        Self { wide, integers: true, functions: false }
    }
}

/// The kinds of 32 bits and less, whose registers are 32 bits wide.
#[cfg(not(target_arch = "nvptx64"))]
pub(crate) const fn is_narrow(kind: Kind) -> bool {
    matches!(kind, Kind::F32 | Kind::I32 | Kind::Bool)
}

/// The result of an operation.
#[inline(always)]
pub(crate) fn apply(kinds: Kinds, op: Operation, [a, b, c]: [u64; 3]) -> u64 {
    match op.opcode {
        Opcode::Select => return if a != 0 { b } else { c },
        Opcode::Convert => return convert(kinds, op.operands, op.kind, a),
        Opcode::Narrow => return narrow(op.dtype, a),
        Opcode::RoundToOdd if kinds.wide => return round_to_odd(f64::from_bits(a)).to_bits().into(),
        _ => {}
    }
    match op.operands {
        Kind::F32 => {
            let [x, y, z] = [a, b, c].map(|bits| f32::from_bits(bits as u32));
            if op.opcode.is_comparison() {
                return compare(op.opcode, x < y, x == y);
            }
            float32(kinds.functions, op.opcode, x, y, z).to_bits().into()
        }
        Kind::I32 if kinds.integers => {
            let (x, y) = (a as i32, b as i32);
            if op.opcode.is_comparison() {
                return compare(op.opcode, x < y, x == y);
            }
            u64::from(int32(op.opcode, x, y) as u32)
        }
        Kind::Bool => {
            if op.opcode.is_comparison() {
                return compare(op.opcode, a < b, a == b);
            }
            match op.opcode {
                Opcode::And => a & b,
                Opcode::Or => a | b,
                Opcode::Xor => a ^ b,
                _ => a ^ 1,
            }
        }
        Kind::F64 if kinds.wide => {
            let [x, y, z] = [a, b, c].map(f64::from_bits);
            if op.opcode.is_comparison() {
                return compare(op.opcode, x < y, x == y);
            }
            float64(op.opcode, x, y, z).to_bits()
        }
        Kind::I64 if kinds.wide => {
            let (x, y) = (a as i64, b as i64);
            if op.opcode.is_comparison() {
                return compare(op.opcode, x < y, x == y);
            }
            int64(op.opcode, x, y) as u64
        }
        Kind::U64 if kinds.wide => {
            if op.opcode.is_comparison() {
                return compare(op.opcode, a < b, a == b);
            }
            unsigned64(op.opcode, a, b)
        }
        _ => a,
    }
}

#[inline(always)]
fn compare(opcode: Opcode, less: bool, equal: bool) -> u64 {
    let result = match opcode {
        Opcode::Eq => equal,
        Opcode::Lt => less,
        _ => less || equal,
    };
    result.into()
}

#[inline(always)]
fn float32(functions: bool, opcode: Opcode, a: f32, b: f32, c: f32) -> f32 {
    match opcode {
        Opcode::Neg => -a,
        Opcode::Abs => a.abs(),
        Opcode::Sign if a == 0.0 || a.is_nan() => a,
        Opcode::Sign => 1f32.copysign(a),
        Opcode::Sqrt => sqrt_f32(a),
        Opcode::Floor => floor_f32(a),
        Opcode::Ceil => ceil_f32(a),
        Opcode::Round => round_f32(a),
        Opcode::Exp if functions => elementary::exp(a),
        Opcode::Log if functions => elementary::log(a),
        Opcode::Sigmoid if functions => elementary::sigmoid(a),
        Opcode::Tanh if functions => elementary::tanh(a),
        Opcode::Erf if functions => elementary::erf(a),
        Opcode::Softplus if functions => elementary::softplus(a),
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        Opcode::Mul => a * b,
        Opcode::Div => a / b,
        Opcode::Min | Opcode::Max if a.is_nan() || b.is_nan() => f32::NAN,
        Opcode::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
        Opcode::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Opcode::MulAdd => fma_f32(a, b, c),
        _ => a,
    }
}

#[inline(always)]
fn float64(opcode: Opcode, a: f64, b: f64, c: f64) -> f64 {
    match opcode {
        Opcode::Neg => -a,
        Opcode::Abs => a.abs(),
        Opcode::Sign if a == 0.0 || a.is_nan() => a,
        Opcode::Sign => 1f64.copysign(a),
        Opcode::Sqrt => sqrt_f64(a),
        Opcode::Floor => floor_f64(a),
        Opcode::Ceil => ceil_f64(a),
        Opcode::Round => round_f64(a),
        Opcode::Add => a + b,
        Opcode::Sub => a - b,
        Opcode::Mul => a * b,
        Opcode::Div => a / b,
        Opcode::Min | Opcode::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Opcode::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
        Opcode::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Opcode::MulAdd => fma_f64(a, b, c),
        _ => a,
    }
}

/// Integer arithmetic that wraps; division and remainder by zero are zero, shifts by the width or more, too.
macro_rules! integer {
    ($name:ident $power:ident $t:ty, $negative:expr, $sign:expr) => {
        #[inline(always)]
        fn $name(opcode: Opcode, a: $t, b: $t) -> $t {
            let inside = !$negative(b) && b < <$t>::BITS as $t;
            match opcode {
                Opcode::Neg => a.wrapping_neg(),
                Opcode::Abs if $negative(a) => a.wrapping_neg(),
                Opcode::Sign => $sign(a),
                Opcode::Not => !a,
                Opcode::Add => a.wrapping_add(b),
                Opcode::Sub => a.wrapping_sub(b),
                Opcode::Mul => a.wrapping_mul(b),
                Opcode::Div | Opcode::Rem if b == 0 => 0,
                Opcode::Div => a.wrapping_div(b),
                Opcode::Rem => a.wrapping_rem(b),
                Opcode::Min => a.min(b),
                Opcode::Max => a.max(b),
                Opcode::Pow => $power(a, b),
                Opcode::And => a & b,
                Opcode::Or => a | b,
                Opcode::Xor => a ^ b,
                Opcode::Shl if inside => a.wrapping_shl(b as u32),
                Opcode::Shr if inside => a.wrapping_shr(b as u32),
                Opcode::Shl | Opcode::Shr => 0,
                _ => a,
            }
        }
    };
}

integer!(int32 power32 i32, |x: i32| x < 0, i32::signum);
integer!(int64 power64 i64, |x: i64| x < 0, i64::signum);
integer!(unsigned64 power_unsigned64 u64, |_: u64| false, |x: u64| u64::from(x != 0));

/// `base^exponent`, wrapped; what is not whole is truncated toward zero, and `0⁻ⁿ` is 0.
macro_rules! power {
    ($name:ident $t:ty, $negative:expr) => {
        #[inline(always)]
        fn $name(base: $t, exponent: $t) -> $t {
            if $negative(exponent) {
                return match base {
                    1 => 1,
                    _ if base == (0 as $t).wrapping_sub(1) => {
                        if exponent & 1 == 0 {
                            1
                        } else {
                            base
                        }
                    }
                    _ => 0,
                };
            }
            let (mut base, mut exponent, mut product): ($t, $t, $t) = (base, exponent, 1);
            while exponent > 0 {
                if exponent & 1 == 1 {
                    product = product.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                exponent >>= 1;
            }
            product
        }
    };
}

power!(power32 i32, |x: i32| x < 0);
power!(power64 i64, |x: i64| x < 0);
power!(power_unsigned64 u64, |_: u64| false);

/// A register in another kind: floats to integers truncate and saturate, NaN is 0; integers wrap.
#[inline(always)]
fn convert(kinds: Kinds, from: Kind, to: Kind, bits: u64) -> u64 {
    match from {
        Kind::F32 => {
            let x = f32::from_bits(bits as u32);
            match to {
                Kind::I32 if kinds.integers => u64::from(x as i32 as u32),
                Kind::Bool => u64::from(x != 0.0),
                Kind::F64 if kinds.wide => f64::from(x).to_bits(),
                Kind::I64 if kinds.wide => x as i64 as u64,
                Kind::U64 if kinds.wide => x as u64,
                _ => bits,
            }
        }
        Kind::I32 if kinds.integers => from_integer(kinds.wide, bits as i32, to, bits),
        Kind::Bool => match to {
            Kind::F32 => u64::from((bits as u32 as f32).to_bits()),
            Kind::F64 if kinds.wide => (bits as f64).to_bits(),
            _ => bits,
        },
        Kind::F64 if kinds.wide => {
            let x = f64::from_bits(bits);
            match to {
                Kind::F32 => u64::from((x as f32).to_bits()),
                Kind::I32 => u64::from(x as i32 as u32),
                Kind::Bool => u64::from(x != 0.0),
                Kind::I64 => x as i64 as u64,
                Kind::U64 => x as u64,
                Kind::F64 => bits,
            }
        }
        Kind::I64 if kinds.wide => match to {
            Kind::F32 => u64::from((bits as i64 as f32).to_bits()),
            Kind::F64 => (bits as i64 as f64).to_bits(),
            Kind::I32 => u64::from(bits as u32),
            Kind::Bool => u64::from(bits != 0),
            Kind::I64 | Kind::U64 => bits,
        },
        Kind::U64 if kinds.wide => match to {
            Kind::F32 => u64::from((bits as f32).to_bits()),
            Kind::F64 => (bits as f64).to_bits(),
            Kind::I32 => u64::from(bits as u32),
            Kind::Bool => u64::from(bits != 0),
            Kind::I64 | Kind::U64 => bits,
        },
        _ => bits,
    }
}

#[inline(always)]
fn from_integer(wide: bool, x: i32, to: Kind, bits: u64) -> u64 {
    match to {
        Kind::F32 => u64::from((x as f32).to_bits()),
        Kind::Bool => u64::from(x != 0),
        Kind::F64 if wide => f64::from(x).to_bits(),
        Kind::I64 | Kind::U64 if wide => i64::from(x) as u64,
        _ => bits,
    }
}

/// A register with the value that an element of `dtype` holds.
#[inline(always)]
pub(super) fn narrow(dtype: DType, bits: u64) -> u64 {
    match dtype {
        DType::F16 | DType::BF16 => widen(dtype, store(dtype, bits)),
        DType::I8 | DType::I16 | DType::U8 | DType::U16 | DType::U32 => widen(dtype, bits),
        _ => bits,
    }
}

/// The register of an element whose bytes are the low ones of `raw`.
#[inline(always)]
pub(crate) fn widen(dtype: DType, raw: u64) -> u64 {
    match dtype {
        DType::F16 => u64::from(F16::from_bits(raw as u16).to_f32().to_bits()),
        DType::BF16 => u64::from(BF16::from_bits(raw as u16).to_f32().to_bits()),
        DType::I8 => u64::from(raw as i8 as i32 as u32),
        DType::I16 => u64::from(raw as i16 as i32 as u32),
        DType::U8 => raw & 0xff,
        DType::U16 => raw & 0xffff,
        DType::U32 | DType::F32 | DType::I32 => raw & 0xffff_ffff,
        DType::Bool => u64::from(raw & 0xff != 0),
        _ => raw,
    }
}

/// The bytes of the element that a register becomes.
#[inline(always)]
pub(crate) fn store(dtype: DType, bits: u64) -> u64 {
    let real = f32::from_bits(bits as u32);
    match dtype {
        DType::F16 => u64::from(F16::from_f32(real).bits16()),
        DType::BF16 => u64::from(BF16::from_f32(real).bits16()),
        _ => bits,
    }
}

/// The nearest f32 toward zero, with its last bit set where that is not exact.
#[inline(always)]
fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) == x || x.is_nan() || x.is_infinite() {
        return nearest;
    }
    let beyond = f64::from(nearest).abs() > x.abs();
    let toward_zero = if beyond { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f32::from_bits(toward_zero | 1)
}
