//! # Cos
//! `y = cos x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Cos>("Cos", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Cos;

impl FloatMap for Cos {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.cos(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.cos()
    }
}
