//! # Cosh
//! `y = cosh x`, elementwise. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Cosh>("Cosh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Cosh;

impl FloatMap for Cosh {
    fn at<T: Float>(self, x: T) -> T {
        x.cosh()
    }

    fn formula(self, x: f64) -> f64 {
        x.cosh()
    }
}
