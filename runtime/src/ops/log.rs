//! # Log
//! `y = ln x`, elementwise. NaN below zero, minus infinity at zero. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Log>("Log", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Log;

impl FloatMap for Log {
    const DRAWN: (f64, f64) = (-0.5, 10.0);

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.log(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.ln()
    }
}
