//! # Softplus
//! `y = ln(1 + e^x)`, elementwise, as `max(x, 0) + ln(1 + e^−|x|)`, which does not overflow. Opsets 1, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Softplus>("Softplus", &[1, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Softplus;

impl FloatMap for Softplus {
    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::Softplus, alpha: 0.0, beta: 0.0 })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.softplus(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }
}
