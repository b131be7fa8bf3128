//! # Sin
//! `y = sin x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Sin>("Sin", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Sin;

impl FloatMap for Sin {
    fn at<T: Float>(self, x: T) -> T {
        x.sin()
    }

    fn formula(self, x: f64) -> f64 {
        x.sin()
    }
}
