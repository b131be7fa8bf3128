//! # Asinh
//! `y = arsinh x`, elementwise. Opsets 9, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Asinh>("Asinh", &[9, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Asinh;

impl FloatMap for Asinh {
    fn at<T: Float>(self, x: T) -> T {
        x.asinh()
    }

    fn formula(self, x: f64) -> f64 {
        libm::asinh(x)
    }
}
