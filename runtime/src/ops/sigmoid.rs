//! # Sigmoid
//! `y = 1 / (1 + e^−x)`, elementwise. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use super::recurrence::{Activation, Function};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Sigmoid>("Sigmoid", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Sigmoid;

impl FloatMap for Sigmoid {
    fn activation(self) -> Option<Activation> {
        Some(Activation { function: Function::Sigmoid, alpha: 0.0, beta: 0.0 })
    }

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.sigmoid(x)
    }

    fn formula(self, x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }
}
