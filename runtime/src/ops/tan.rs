//! # Tan
//! `y = tan x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Tan>("Tan", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Tan;

impl FloatMap for Tan {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Tan, x)
    }

    fn formula(self, x: f64) -> f64 {
        x.tan()
    }
}
