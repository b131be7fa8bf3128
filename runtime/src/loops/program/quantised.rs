//! Scalar programs of quantisation, back again, and of what sums of quantised products become: quotients and factors are
//! rounded as the operators say, so that results are exact.

use super::{Builder, Kind, Opcode, Program, Reg};
use crate::dtype::DType;

/// The least and largest value of an integer type of up to 16 bits.
fn range(dtype: DType) -> Option<(f64, f64)> {
    match dtype {
        DType::U8 => Some((0.0, 255.0)),
        DType::I8 => Some((-128.0, 127.0)),
        DType::U16 => Some((0.0, 65535.0)),
        DType::I16 => Some((-32768.0, 32767.0)),
        _ => None,
    }
}

/// `x` divided by `scale`, rounded, moved by `zero`, saturated to `result`; the quotient is rounded to `precision`.
/// Operands come with the types that they are stored as.
pub(crate) fn quantised(
    b: &mut Builder,
    [x, scale]: [(Reg, DType); 2],
    zero: Option<Reg>,
    precision: DType,
    result: DType,
) -> Option<Reg> {
    let (least, most) = range(result)?;
    let [x, scale] = [x, scale].map(|(register, stored)| {
        let number = b.cast(register, stored, DType::F32);
        b.narrow(number, precision)
    });
    let quotient = b.div(x, scale);
    let quotient = b.narrow(quotient, precision);
    let whole = b.round(quotient);
    // Far beyond any type, and far within 32 bits.
    let (low, high) = (b.constant_as(whole, -1e6), b.constant_as(whole, 1e6));
    let (above, nan) = (b.max(whole, low), b.constant_as(whole, 0.0));
    let below = b.min(above, high);
    let is_number = b.binary(Opcode::Eq, whole, whole);
    let kept = b.select(is_number, below, nan);
    let mut y = b.convert(kept, Kind::I32);
    if let Some(zero) = zero {
        let zero = b.convert(zero, Kind::I32);
        y = b.add(y, zero);
    }
    let (low, high) = (b.constant_as(y, least), b.constant_as(y, most));
    let y = b.max(y, low);
    Some(b.min(y, high))
}

/// `x`, stored as `from`, less `zero`, times `scale`.
pub(crate) fn dequantised(b: &mut Builder, (x, from): (Reg, DType), scale: Reg, zero: Option<Reg>) -> Reg {
    // 32-bit integers less a zero point need more bits.
    let kind = if from.bits() < 32 { Kind::I32 } else { Kind::I64 };
    let mut x = b.convert(x, kind);
    if let Some(zero) = zero {
        let zero = b.convert(zero, kind);
        x = b.sub(x, zero);
    }
    let (x, scale) = (b.convert(x, Kind::F32), b.convert(scale, Kind::F32));
    b.mul(x, scale)
}

/// The program of `round((sum + bias) · (a · b / y)) + zero`, in f64, of a sum, two scales, that of the result, its zero point
/// and perhaps a bias, which are stored as `types`.
pub(crate) fn requantised(types: &[DType], result: DType, biased: bool) -> Option<Program> {
    let (least, most) = range(result)?;
    let mut p = Builder::new(types);
    let given: Vec<Reg> = (0..types.len()).map(|at| p.input(at)).collect();
    let real = |p: &mut Builder, x: Reg| p.convert(x, Kind::F64);
    let mut sum = p.convert(given[0], Kind::I64);
    if biased {
        let bias = p.convert(given[5], Kind::I64);
        sum = p.add(sum, bias);
    }
    let (a, b, y) = (real(&mut p, given[1]), real(&mut p, given[2]), real(&mut p, given[3]));
    let both = p.mul(a, b);
    let factor = p.div(both, y);
    let sum = real(&mut p, sum);
    let scaled = p.mul(sum, factor);
    let whole = p.round(scaled);
    let zero = real(&mut p, given[4]);
    let moved = p.add(whole, zero);
    let (low, high) = (p.constant_as(moved, least), p.constant_as(moved, most));
    let moved = p.max(moved, low);
    let moved = p.min(moved, high);
    let y = p.convert(moved, Kind::I32);
    p.finish(&[(y, result)]).ok()
}
