//! # Pow
//! `y = x ^ e` with broadcasting, in the type of `x`; the exponent may have another type from opset 12 on.
//! Opsets 7, 12, 13, 15.
//!
//! Integer powers of integers wrap; those with a negative exponent truncate toward zero: 0 unless `x` is 1 or
//! −1 (0 to a negative power gives 0). An integer to a floating power is computed in f64, truncated and
//! saturated.

use super::attributes::NodeSpec;
use super::elementwise::{Zip, draw_pair, zip};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::loops::program::{Builder, Kind, Reg};
use crate::reference::{RefData, RefTensor};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = zip::<Pow>("Pow", &[7, 12, 13, 15]);

/// First version whose exponent may have another type.
const MIXED: i64 = 12;
const BASES: &[DType] = &[DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::I64];

#[derive(Debug)]
struct Pow {
    mixed: bool,
}

impl Zip for Pow {
    const DTYPES: &'static [DType] = BASES;
    const ACCURACY: Accuracy = Accuracy::Elementwise;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { mixed: spec.opset >= MIXED })
    }

    fn output(&self, a: DType, b: DType) -> Result<DType, OpError> {
        let fits = if self.mixed { NUMBERS.contains(&b) } else { a == b };
        if fits { Ok(a) } else { Err(OpError::DType { index: 1, got: b }) }
    }

    fn scalar(&self, b: &mut Builder, x: Reg, e: Reg, [base, exponent]: [DType; 2]) -> Option<Reg> {
        let kind = b.kind(x);
        if base == exponent && kind.is_float() {
            return Some(b.pow(x, e));
        }
        if base.is_int() && exponent.is_int() {
            let (x, e) = (b.convert(x, Kind::I64), whole_exponent(b, e));
            let power = b.pow(x, e);
            return Some(b.convert(power, kind));
        }
        let (x, e) = (b.convert(x, Kind::F64), b.convert(e, Kind::F64));
        let power = b.pow(x, e);
        Some(b.cast(power, DType::F64, base))
    }

    fn reference(&self, x: &RefTensor, e: &RefTensor) -> Result<RefTensor, OpError> {
        let exponents: Vec<f64> = match &e.data {
            RefData::Int(v) => v.iter().map(|&v| v as f64).collect(),
            _ => e.as_floats()?.to_vec(),
        };
        let data = match (&x.data, &e.data) {
            (RefData::Float(x), _) => {
                RefData::Float(x.iter().zip(&exponents).map(|(x, e)| x.powf(*e)).collect())
            }
            (RefData::Int(v), RefData::Int(e)) => {
                let data = v.iter().zip(e).map(|(&x, &e)| whole_power(x, e)).collect();
                return Ok(RefTensor::wrapped(x.dtype, &x.shape, data));
            }
            (RefData::Int(v), _) => {
                let (low, high) = match x.dtype {
                    DType::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
                    _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
                };
                let power = |(&x, &e): (&i128, &f64)| ((x as f64).powf(e) as i128).clamp(low, high);
                RefData::Int(v.iter().zip(&exponents).map(power).collect())
            }
            _ => return Err(OpError::internal("power of another type")),
        };
        Ok(x.with_data(data))
    }

    fn case(g: &mut Gen) -> Case {
        let base = *g.pick(BASES);
        let mixed = g.chance(0.6);
        let exponent = if mixed { *g.pick(NUMBERS) } else { base };
        let (x, e) = draw_pair(g, (base, exponent), ((0.0, 4.0), (-3.0, 4.0)));
        Case::new([x, e]).opset(if mixed { *g.pick(&[12, 13, 15]) } else { *g.pick(&[7, 12, 15]) })
    }
}

/// An exponent of a power modulo 2^64. Those repeat: from 2^62 on, 2^62 less is the same for odd bases, and 0 for even
/// ones still.
fn whole_exponent(b: &mut Builder, e: Reg) -> Reg {
    if b.kind(e) != Kind::U64 {
        return b.convert(e, Kind::I64);
    }
    let (period, low) = (b.integer(Kind::U64, 1 << 62), b.integer(Kind::U64, (1 << 62) - 1));
    let rest = b.and(e, low);
    let (repeated, small) = (b.or(rest, period), b.lt(e, period));
    let reduced = b.select(small, e, repeated);
    b.convert(reduced, Kind::I64)
}

/// Powers modulo 2^64, bit by bit of the exponent from the highest.
fn whole_power(x: i128, e: i128) -> i128 {
    match (x, e) {
        (1, _) => 1,
        (-1, _) => {
            if e % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (_, e) if e < 0 => 0,
        _ => (0..64)
            .rev()
            .fold(1i64, |y, bit| {
                let square = y.wrapping_mul(y);
                if e >> bit & 1 == 1 { square.wrapping_mul(x as i64) } else { square }
            })
            .into(),
    }
}
