//! Values of registers and of elements in memory: floats in f64, integers in i128.

use crate::cases::draw::Draw;
use crate::device::{BF16, F16, Float16};
use crate::dtype::DType;
use crate::program::Kind;

/// A register's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cases) enum Value {
    Float(f64),
    Int(i128),
    Bool(bool),
}

pub(in crate::cases) use Value::{Bool, Float, Int};

pub(in crate::cases) const DTYPES: [DType; 13] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::Bool,
];

pub(in crate::cases) const KINDS: [Kind; 6] =
    [Kind::F32, Kind::F64, Kind::I32, Kind::I64, Kind::U64, Kind::Bool];

/// The low bits of an integer.
pub(in crate::cases) fn wrap(value: i128, bits: u32, signed: bool) -> i128 {
    let low = value & ((1 << bits) - 1);
    if signed && low >> (bits - 1) != 0 { low - (1 << bits) } else { low }
}

/// A value as an element of `dtype` holds it.
pub(in crate::cases) fn held(dtype: DType, value: Value) -> Value {
    match (dtype, value) {
        (DType::F32, Float(v)) => Float(f64::from(v as f32)),
        (DType::F16, Float(v)) => Float(F16::from_f32(v as f32).to_f32().into()),
        (DType::BF16, Float(v)) => Float(BF16::from_f32(v as f32).to_f32().into()),
        (_, Int(v)) => Int(wrap(v, dtype.bits() as u32, dtype.is_signed_int())),
        _ => value,
    }
}

/// A value as a register of `kind` holds it.
pub(in crate::cases) fn rounded(kind: Kind, value: Value) -> Value {
    held(kind.dtype(), value)
}

/// The bytes of an element.
pub(in crate::cases) fn bytes(dtype: DType, value: Value) -> Vec<u8> {
    match (dtype, value) {
        (DType::F32, Float(v)) => (v as f32).to_le_bytes().to_vec(),
        (DType::F64, Float(v)) => v.to_le_bytes().to_vec(),
        (DType::F16, Float(v)) => F16::from_f32(v as f32).bits16().to_le_bytes().to_vec(),
        (DType::BF16, Float(v)) => BF16::from_f32(v as f32).bits16().to_le_bytes().to_vec(),
        (_, Int(v)) => v.to_le_bytes()[..dtype.bits() / 8].to_vec(),
        (_, Bool(v)) => vec![v.into()],
        (dtype, value) => panic!("{value:?} as {dtype}"),
    }
}

/// The element of bytes.
pub(in crate::cases) fn parse(dtype: DType, bytes: &[u8]) -> Value {
    let mut all = [0; 16];
    all[..bytes.len()].copy_from_slice(bytes);
    let raw = i128::from_le_bytes(all);
    match dtype {
        DType::F32 => Float(f32::from_bits(raw as u32).into()),
        DType::F64 => Float(f64::from_bits(raw as u64)),
        DType::F16 => Float(F16::from_bits(raw as u16).to_f32().into()),
        DType::BF16 => Float(BF16::from_bits(raw as u16).to_f32().into()),
        DType::Bool => Bool(raw != 0),
        _ => Int(wrap(raw, dtype.bits() as u32, dtype.is_signed_int())),
    }
}

/// A value that `dtype` holds.
pub(in crate::cases) fn draw(r: &mut Draw, dtype: DType) -> Value {
    let value = if dtype == DType::Bool {
        Bool(r.bool())
    } else if dtype.is_float() {
        let edge = r.pick(&[0.0, -0.0, 1.0, -1.0, 2.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        let scale = r.pick(&[1.0, 1.0, 6.0, 100.0]);
        Float(if r.within(0..=7) == 0 { edge } else { f64::from(r.unit()) * scale })
    } else if r.bool() {
        Int(i128::from(r.within(0..=40)) - if dtype.is_signed_int() { 20 } else { 0 })
    } else {
        Int(i128::from(r.bits()))
    };
    held(dtype, value)
}

/// The bits of a constant.
pub(in crate::cases) fn bits(kind: Kind, value: Value) -> u64 {
    let mut all = [0; 8];
    let bytes = bytes(kind.dtype(), value);
    all[..bytes.len()].copy_from_slice(&bytes);
    u64::from_le_bytes(all)
}

/// Whether a result is that of the definition: exactly, or within `units` of the type's ε.
pub(in crate::cases) fn near(dtype: DType, got: Value, want: Value, units: f64) -> bool {
    let (Float(got), Float(want)) = (got, want) else { return got == want };
    let ulp = match dtype {
        DType::F64 => f64::EPSILON,
        DType::F16 => 1.0 / 1024.0,
        DType::BF16 => 1.0 / 128.0,
        _ => f32::EPSILON.into(),
    };
    if got == want || (got.is_nan() && want.is_nan()) {
        return got != 0.0 || units > 0.0 || got.is_sign_negative() == want.is_sign_negative();
    }
    (got - want).abs() <= units * ulp * want.abs() + units / 4.0 * ulp * f64::from(u8::from(units > 0.0))
}
