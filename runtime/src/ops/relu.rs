//! # Relu
//! `y = max(x, 0)`, elementwise; NaN stays NaN. Opsets 6, 13, 14.

use super::OpDef;
use super::elementwise::{NumberMap, number_map};
use super::recurrence::{Activation, Function};
use crate::dtype::{DType, SIGNED};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = number_map::<Relu>("Relu", &[6, 13, 14]);

#[derive(Clone, Copy, Debug, Default)]
struct Relu;

impl NumberMap for Relu {
    const DTYPES: &'static [DType] = SIGNED;

    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::Relu, alpha: 0.0, beta: 0.0 })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let zero = b.constant_as(x, 0.0);
        let negative = b.lt(x, zero);
        b.select(negative, zero, x)
    }

    fn float(self, x: f64) -> f64 {
        if x < 0.0 { 0.0 } else { x }
    }

    fn int(self, x: i128) -> i128 {
        x.max(0)
    }
}
