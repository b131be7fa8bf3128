//! # GreaterOrEqual
//! `y = a ≥ b` with broadcasting; false where one is NaN. Opsets 12, 16.

use super::OpDef;
use super::elementwise::{Comparison, comparison};
use crate::loops::program::{Builder, Reg};
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<GreaterOrEqual>("GreaterOrEqual", &[12, 16]);

#[derive(Clone, Copy, Debug, Default)]
struct GreaterOrEqual;

impl Comparison for GreaterOrEqual {
    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.ge(p, q)
    }

    fn holds(order: Option<Ordering>) -> bool {
        matches!(order, Some(Ordering::Greater | Ordering::Equal))
    }
}
