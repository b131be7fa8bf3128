//! # Sign
//! `y = −1`, `0` or `1` by the sign of `x`, elementwise; NaN stays NaN. Opsets 9, 13.

use super::OpDef;
use super::elementwise::{NumberMap, number_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = number_map::<Sign>("Sign", &[9, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Sign;

impl NumberMap for Sign {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.sign(x)
    }

    fn float(self, x: f64) -> f64 {
        if x == 0.0 || x.is_nan() { x } else { x.signum() }
    }

    fn int(self, x: i128) -> i128 {
        x.signum()
    }
}
