//! # HardSwish
//! `y = x · max(0, min(1, x / 6 + 1 / 2))`, elementwise; NaN stays NaN. Opsets 14, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<HardSwish>("HardSwish", &[14, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct HardSwish;

impl FloatMap for HardSwish {
    fn at<T: Float>(self, x: T) -> T {
        let gate = x.div(T::from_f64(6.0)).add(T::from_f64(0.5));
        x.mul(gate.minimum(T::one()).maximum(T::zero()))
    }

    fn formula(self, x: f64) -> f64 {
        x * (x / 6.0 + 0.5).clamp(0.0, 1.0)
    }
}
