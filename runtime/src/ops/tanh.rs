//! # Tanh
//! `y = tanh x`, elementwise. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Tanh>("Tanh", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Tanh;

impl FloatMap for Tanh {
    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::Tanh, alpha: 0.0, beta: 0.0 })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.tanh(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.tanh()
    }
}
