//! # HardSwish
//! `y = x · max(0, min(1, x / 6 + 1 / 2))`, elementwise; NaN stays NaN. Opsets 14, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<HardSwish>("HardSwish", &[14, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct HardSwish;

impl FloatMap for HardSwish {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        let (six, half) = (b.constant_as(x, 6.0), b.constant_as(x, 0.5));
        let (zero, one) = (b.constant_as(x, 0.0), b.constant_as(x, 1.0));
        let scaled = b.div(x, six);
        let line = b.add(scaled, half);
        let below = b.min(line, one);
        let gate = b.max(below, zero);
        b.mul(x, gate)
    }

    fn formula(self, x: f64) -> f64 {
        x * (x / 6.0 + 0.5).clamp(0.0, 1.0)
    }
}
