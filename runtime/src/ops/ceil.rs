//! # Ceil
//! `y = ⌈x⌉`, elementwise. Opsets 6, 13.

use super::elementwise::{FloatMap, float_map};
use super::{Accuracy, OpDef};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Ceil>("Ceil", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Ceil;

impl FloatMap for Ceil {
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.ceil(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.ceil()
    }
}
