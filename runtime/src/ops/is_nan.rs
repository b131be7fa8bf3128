//! # IsNaN
//! `y` is whether `x` is NaN, elementwise. Opsets 9, 13, 20.

use super::OpDef;
use super::elementwise::{FloatTest, float_test};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_test::<IsNan>("IsNaN", &[9, 13, 20]);

#[derive(Clone, Copy, Debug, Default)]
struct IsNan;

impl FloatTest for IsNan {
    fn at<T: Float>(self, x: T) -> bool {
        x.is_nan()
    }

    fn formula(self, x: f64) -> bool {
        x.is_nan()
    }
}
