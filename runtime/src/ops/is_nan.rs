//! # IsNaN
//! `y` is whether `x` is NaN, elementwise. Opsets 9, 13, 20.

use super::OpDef;
use super::elementwise::{FloatTest, float_test};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_test::<IsNan>("IsNaN", &[9, 13, 20]);

#[derive(Clone, Copy, Debug, Default)]
struct IsNan;

impl FloatTest for IsNan {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let number = b.eq(x, x);
        b.not(number)
    }

    fn formula(self, x: f64) -> bool {
        x.is_nan()
    }
}
