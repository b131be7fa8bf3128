//! # Acosh
//! `y = arcosh x`, elementwise. NaN below 1. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Acosh>("Acosh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Acosh;

impl FloatMap for Acosh {
    const DRAWN: (f64, f64) = (0.9, 10.0);

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Acosh, x)
    }

    fn formula(self, x: f64) -> f64 {
        if x < 1.0 { f64::NAN } else { libm::acosh(x) }
    }
}
