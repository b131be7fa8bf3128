//! # Atan
//! `y = arctan x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Atan>("Atan", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Atan;

impl FloatMap for Atan {
    fn at<T: Float>(self, x: T) -> T {
        x.atan()
    }

    fn formula(self, x: f64) -> f64 {
        x.atan()
    }
}
