//! # Round
//! The nearest integer, halves to the even one, elementwise. Opsets 11, 22.

use super::elementwise::{FloatMap, float_map};
use super::{Accuracy, OpDef};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Round>("Round", &[11, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Round;

impl FloatMap for Round {
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.round(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.round_ties_even()
    }
}
