//! # Shrink
//! `y = x + bias` where `x < −lambd`, `x − bias` where `x > lambd`, and 0 between and for NaN. Opset 9.
//!
//! Computed in f64; for integers the result is truncated toward zero and saturated.

use super::attributes::NodeSpec;
use super::elementwise::{Map, draw_numbers, draw_shape, map};
use super::{Accuracy, OpDef};
use crate::cpu::Kernel;
use crate::cpu::map::map as map_kernel;
use crate::cpu::number::{Number, dispatch};
use crate::dtype::{DType, NUMBERS};
use crate::error::OpError;
use crate::reference::{RefData, RefTensor};
use crate::testing::{Case, Gen};

pub(super) const DEF: OpDef = map::<Shrink>("Shrink", &[9]);

#[derive(Clone, Copy, Debug)]
struct Shrink {
    bias: f32,
    lambd: f32,
}

impl Shrink {
    fn at(self, x: f64) -> f64 {
        let (bias, lambd) = (f64::from(self.bias), f64::from(self.lambd));
        if x < -lambd {
            x + bias
        } else if x > lambd {
            x - bias
        } else {
            0.0
        }
    }
}

impl Map for Shrink {
    const DTYPES: &'static [DType] = NUMBERS;
    const ACCURACY: Accuracy = Accuracy::Elementwise;

    fn parse(spec: &NodeSpec) -> Result<Self, OpError> {
        Ok(Self { bias: spec.float_or("bias", 0.0)?, lambd: spec.float_or("lambd", 0.5)? })
    }

    fn kernel(&self, input: DType) -> Result<Kernel, OpError> {
        let f = *self;
        dispatch!(input, numbers, T => Ok(map_kernel(move |x: T| T::from_f64(f.at(x.to_f64())))))
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
