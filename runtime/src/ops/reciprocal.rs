//! # Reciprocal
//! `y = 1 / x`, elementwise. Opsets 6, 13.

use super::elementwise::{FloatMap, float_map};
use super::{Accuracy, OpDef};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Reciprocal>("Reciprocal", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Reciprocal;

impl FloatMap for Reciprocal {
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.recip(x)
    }

    fn formula(self, x: f64) -> f64 {
        1.0 / x
    }
}
