//! # Sign
//! `y = −1`, `0` or `1` by the sign of `x`, elementwise; NaN stays NaN. Opsets 9, 13.

use super::OpDef;
use super::elementwise::{NumberMap, number_map};
use crate::cpu::number::Compute;

pub(super) const DEF: OpDef = number_map::<Sign>("Sign", &[9, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Sign;

impl NumberMap for Sign {
    fn at<T: Compute>(self, x: T) -> T {
        if x > T::zero() {
            T::one()
        } else if x < T::zero() {
            T::one().neg()
        } else {
            x
        }
    }

    fn float(self, x: f64) -> f64 {
        if x == 0.0 || x.is_nan() { x } else { x.signum() }
    }

    fn int(self, x: i128) -> i128 {
        x.signum()
    }
}
