//! # Abs
//! `y = |x|`, elementwise; the smallest signed integer stays as it is. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{NumberMap, number_map};
use crate::cpu::number::Compute;

pub(super) const DEF: OpDef = number_map::<Abs>("Abs", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Abs;

impl NumberMap for Abs {
    fn at<T: Compute>(self, x: T) -> T {
        x.abs()
    }

    fn float(self, x: f64) -> f64 {
        x.abs()
    }

    fn int(self, x: i128) -> i128 {
        x.abs()
    }
}
