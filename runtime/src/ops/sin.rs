//! # Sin
//! `y = sin x`, elementwise. Radians. Opsets 7, 22.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Sin>("Sin", &[7, 22]);

#[derive(Clone, Copy, Debug, Default)]
struct Sin;

impl FloatMap for Sin {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.sin(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.sin()
    }
}
