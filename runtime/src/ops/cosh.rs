//! # Cosh
//! `y = cosh x`, elementwise. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Cosh>("Cosh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Cosh;

impl FloatMap for Cosh {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Cosh, x)
    }

    fn formula(self, x: f64) -> f64 {
        x.cosh()
    }
}
