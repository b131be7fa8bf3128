//! # Softsign
//! `y = x / (1 + |x|)`, elementwise. Opsets 1, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Softsign>("Softsign", &[1, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Softsign;

impl FloatMap for Softsign {
    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::Softsign, alpha: 0.0, beta: 0.0 })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (one, size) = (b.constant_as(x, 1.0), b.abs(x));
        let divisor = b.add(one, size);
        b.div(x, divisor)
    }

    fn formula(self, x: f64) -> f64 {
        x / (1.0 + x.abs())
    }
}
