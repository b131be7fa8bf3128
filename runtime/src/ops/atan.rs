//! # Atan
//! `y = arctan x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Atan>("Atan", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Atan;

impl FloatMap for Atan {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Atan, x)
    }

    fn formula(self, x: f64) -> f64 {
        x.atan()
    }
}
