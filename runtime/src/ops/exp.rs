//! # Exp
//! `y = e^x`, elementwise. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Exp>("Exp", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Exp;

impl FloatMap for Exp {
    fn at<T: Float>(self, x: T) -> T {
        x.exp()
    }

    fn formula(self, x: f64) -> f64 {
        x.exp()
    }
}
