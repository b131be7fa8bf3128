//! # Atanh
//! `y = artanh x`, elementwise. NaN outside [−1, 1]. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Atanh>("Atanh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Atanh;

impl FloatMap for Atanh {
    const DRAWN: (f64, f64) = (-1.1, 1.1);

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Atanh, x)
    }

    fn formula(self, x: f64) -> f64 {
        libm::atanh(x)
    }
}
