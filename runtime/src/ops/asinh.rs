//! # Asinh
//! `y = arsinh x`, elementwise. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Asinh>("Asinh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Asinh;

impl FloatMap for Asinh {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Asinh, x)
    }

    fn formula(self, x: f64) -> f64 {
        libm::asinh(x)
    }
}
