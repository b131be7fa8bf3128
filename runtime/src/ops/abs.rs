//! # Abs
//! `y = |x|`, elementwise; the smallest signed integer stays as it is. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{NumberMap, number_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = number_map::<Abs>("Abs", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Abs;

impl NumberMap for Abs {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.abs(x)
    }

    fn float(self, x: f64) -> f64 {
        x.abs()
    }

    fn int(self, x: i128) -> i128 {
        x.abs()
    }
}
