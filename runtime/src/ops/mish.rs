//! # Mish
//! `y = x · tanh(ln(1 + e^x))`, elementwise. Opsets 18, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Mish>("Mish", &[18, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Mish;

impl FloatMap for Mish {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let grown = b.softplus(x);
        let gate = b.tanh(grown);
        b.mul(x, gate)
    }

    fn formula(self, x: f64) -> f64 {
        x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh()
    }
}
