//! # Neg
//! `y = −x`, elementwise; the smallest signed integer stays as it is. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{NumberMap, number_map};
use crate::dtype::{DType, SIGNED};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = number_map::<Neg>("Neg", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Neg;

impl NumberMap for Neg {
    const DTYPES: &'static [DType] = SIGNED;

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.neg(x)
    }

    fn float(self, x: f64) -> f64 {
        -x
    }

    fn int(self, x: i128) -> i128 {
        -x
    }
}
