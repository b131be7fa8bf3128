//! # Sinh
//! `y = sinh x`, elementwise. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Sinh>("Sinh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Sinh;

impl FloatMap for Sinh {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Sinh, x)
    }

    fn formula(self, x: f64) -> f64 {
        x.sinh()
    }
}
