//! # Greater
//! `y = a > b` with broadcasting; false where one is NaN. Opsets 7, 9, 13.

use super::OpDef;
use super::elementwise::{Comparison, comparison};
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<Greater>("Greater", &[7, 9, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Greater;

impl Comparison for Greater {
    fn at<T: PartialOrd>(a: &T, b: &T) -> bool {
        a > b
    }

    fn holds(order: Option<Ordering>) -> bool {
        order == Some(Ordering::Greater)
    }
}
