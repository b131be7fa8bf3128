//! # Sinh
//! `y = sinh x`, elementwise. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Sinh>("Sinh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Sinh;

impl FloatMap for Sinh {
    fn at<T: Float>(self, x: T) -> T {
        x.sinh()
    }

    fn formula(self, x: f64) -> f64 {
        x.sinh()
    }
}
