//! # Shrink
//! `y = x + bias` where `x < −lambd`, `x − bias` where `x > lambd`, and 0 between and for NaN. Opset 9.
//!
//! Computed in f64; for integers the result is truncated toward zero and saturated.

use super::attributes::NodeSpec;
use super::elementwise::{Map, draw_numbers, draw_shape, map};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::loops::program::{Builder, Kind, Reg};
use crate::reference::{RefData, RefTensor};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = map::<Shrink>("Shrink", &[9]);

#[derive(Debug)]
struct Shrink {
    bias: f32,
    lambd: f32,
}

impl Map for Shrink {
    const DTYPES: &'static [DType] = NUMBERS;
    const ACCURACY: Accuracy = Accuracy::Elementwise;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { bias: spec.float_or("bias", 0.0)?, lambd: spec.float_or("lambd", 0.5)? })
    }

    fn scalar(&self, b: &mut Builder, x: Reg, input: DType) -> Option<Reg> {
        let x = b.convert(x, Kind::F64);
        let (bias, lambd) = (b.constant_as(x, self.bias.into()), b.constant_as(x, self.lambd.into()));
        let (zero, minus) = (b.constant_as(x, 0.0), b.neg(lambd));
        let (low, high) = (b.lt(x, minus), b.gt(x, lambd));
        let (raised, lowered) = (b.add(x, bias), b.sub(x, bias));
        let above = b.select(high, lowered, zero);
        let y = b.select(low, raised, above);
        Some(b.cast(y, DType::F64, input))
    }

    fn reference(&self, x: &RefTensor) -> Result<RefTensor, OpError> {
        let (bias, lambd) = (f64::from(self.bias), f64::from(self.lambd));
        let real = x.cast(DType::F64)?;
        let shrunk = real.as_floats()?.iter().map(|&x| match x.abs() {
            // A negative threshold is below every magnitude; the sign then decides.
            size if size <= lambd || x.is_nan() => 0.0,
            _ if x < -lambd => x + bias,
            _ => x - bias,
        });
        real.with_data(RefData::Float(shrunk.collect())).cast(x.dtype)
    }

    fn case(g: &mut Gen) -> Case {
        let (dtype, shape) = (*g.pick(NUMBERS), draw_shape(g));
        let mut case = Case::new([draw_numbers(g, dtype, &shape, (-10.0, 10.0))]);
        if g.chance(0.7) {
            case = case.float("lambd", g.float(0.0, 6.0) as f32);
        }
        if g.chance(0.7) { case.float("bias", g.float(-3.0, 3.0) as f32) } else { case }
    }
}
