//! # Asin
//! `y = arcsin x`, elementwise. Radians; NaN outside [−1, 1]. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Opcode, Reg};

pub(super) const DEF: OpDef = float_map::<Asin>("Asin", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Asin;

impl FloatMap for Asin {
    const DRAWN: (f64, f64) = (-1.1, 1.1);

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.unary(Opcode::Asin, x)
    }

    fn formula(self, x: f64) -> f64 {
        x.asin()
    }
}
