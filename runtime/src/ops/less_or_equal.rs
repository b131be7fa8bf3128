//! # LessOrEqual
//! `y = a ≤ b` with broadcasting; false where one is NaN. Opsets 12, 16.

use super::OpDef;
use super::elementwise::{Comparison, comparison};
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<LessOrEqual>("LessOrEqual", &[12, 16]);

#[derive(Clone, Copy, Debug, Default)]
struct LessOrEqual;

impl Comparison for LessOrEqual {
    fn at<T: PartialOrd>(a: &T, b: &T) -> bool {
        a <= b
    }

    fn holds(order: Option<Ordering>) -> bool {
        matches!(order, Some(Ordering::Less | Ordering::Equal))
    }
}
