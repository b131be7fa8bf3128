//! # Less
//! `y = a < b` with broadcasting; false where one is NaN. Opsets 7, 9, 13.

use super::OpDef;
use super::elementwise::{Comparison, comparison};
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<Less>("Less", &[7, 9, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Less;

impl Comparison for Less {
    fn at<T: PartialOrd>(a: &T, b: &T) -> bool {
        a < b
    }

    fn holds(order: Option<Ordering>) -> bool {
        order == Some(Ordering::Less)
    }
}
