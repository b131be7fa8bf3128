//! # Relu
//! `y = max(x, 0)`, elementwise; NaN stays NaN. Opsets 6, 13, 14.

use super::OpDef;
use super::elementwise::{NumberMap, number_map};
use super::recurrence::{Activation, Function};
use crate::cpu::number::Compute;
use crate::dtype::{DType, SIGNED};

pub(super) const DEF: OpDef = number_map::<Relu>("Relu", &[6, 13, 14]);

#[derive(Clone, Copy, Debug, Default)]
struct Relu;

impl NumberMap for Relu {
    const DTYPES: &'static [DType] = SIGNED;

    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::Relu, alpha: 0.0, beta: 0.0 })
    }

    fn at<T: Compute>(self, x: T) -> T {
        if x < T::zero() { T::zero() } else { x }
    }

    fn float(self, x: f64) -> f64 {
        if x < 0.0 { 0.0 } else { x }
    }

    fn int(self, x: i128) -> i128 {
        x.max(0)
    }
}
