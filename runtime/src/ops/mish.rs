//! # Mish
//! `y = x · tanh(ln(1 + e^x))`, elementwise. Opsets 18, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Mish>("Mish", &[18, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Mish;

impl FloatMap for Mish {
    fn at<T: Float>(self, x: T) -> T {
        x.mul(x.softplus().tanh())
    }

    fn formula(self, x: f64) -> f64 {
        x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh()
    }
}
