//! # Tan
//! `y = tan x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Tan>("Tan", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Tan;

impl FloatMap for Tan {
    fn at<T: Float>(self, x: T) -> T {
        x.tan()
    }

    fn formula(self, x: f64) -> f64 {
        x.tan()
    }
}
