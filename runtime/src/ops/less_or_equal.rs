//! # LessOrEqual
//! `y = a ≤ b` with broadcasting; false where one is NaN. Opsets 12, 16.

use super::OpDef;
use super::elementwise::{Comparison, comparison};
use crate::loops::program::{Builder, Reg};
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<LessOrEqual>("LessOrEqual", &[12, 16]);

#[derive(Clone, Copy, Debug, Default)]
struct LessOrEqual;

impl Comparison for LessOrEqual {
    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.le(p, q)
    }

    fn holds(order: Option<Ordering>) -> bool {
        matches!(order, Some(Ordering::Less | Ordering::Equal))
    }
}
