//! # Or
//! `y = a ∨ b` on truth values, with broadcasting. Opset 7.

use super::OpDef;
use super::elementwise::{Logic, logic};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = logic::<Or>("Or", &[7]);

#[derive(Debug, Default)]
struct Or;

impl Logic for Or {
    const TRUE_OF: [bool; 3] = [false, true, true];

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.or(p, q)
    }
}
