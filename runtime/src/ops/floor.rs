//! # Floor
//! `y = ⌊x⌋`, elementwise. Opsets 6, 13.

use super::elementwise::{FloatMap, float_map};
use super::{Accuracy, OpDef};
use crate::cpu::number::Float;

pub(super) const DEF: OpDef = float_map::<Floor>("Floor", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Floor;

impl FloatMap for Floor {
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn at<T: Float>(self, x: T) -> T {
        x.floor()
    }

    fn formula(self, x: f64) -> f64 {
        x.floor()
    }
}
