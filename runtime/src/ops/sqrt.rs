//! # Sqrt
//! `y = √x`, elementwise. NaN below zero. Opsets 6, 13.

use super::elementwise::{FloatMap, float_map};
use super::{Accuracy, OpDef};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Sqrt>("Sqrt", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Sqrt;

impl FloatMap for Sqrt {
    const ACCURACY: Accuracy = Accuracy::Exact;
    const DRAWN: (f64, f64) = (-0.5, 100.0);

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.sqrt(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.sqrt()
    }
}
