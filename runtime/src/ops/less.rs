//! # Less
//! `y = a < b` with broadcasting; false where one is NaN. Opsets 7, 9, 13.

use super::OpDef;
use super::elementwise::{Comparison, comparison};
use crate::loops::program::{Builder, Reg};
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<Less>("Less", &[7, 9, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Less;

impl Comparison for Less {
    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.lt(p, q)
    }

    fn holds(order: Option<Ordering>) -> bool {
        order == Some(Ordering::Less)
    }
}
