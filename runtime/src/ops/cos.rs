//! # Cos
//! `y = cos x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Cos>("Cos", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Cos;

impl FloatMap for Cos {
    fn at<T: Float>(self, x: T) -> T {
        x.cos()
    }

    fn formula(self, x: f64) -> f64 {
        x.cos()
    }
}
