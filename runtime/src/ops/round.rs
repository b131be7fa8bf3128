//! # Round
//! The nearest integer, halves to the even one, elementwise. Opsets 11, 22.

use super::elementwise::{FloatMap, float_map};
use super::{Accuracy, OpDef};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Round>("Round", &[11, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Round;

impl FloatMap for Round {
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn at<T: Float>(self, x: T) -> T {
        x.round_even()
    }

    fn formula(self, x: f64) -> f64 {
        x.round_ties_even()
    }
}
