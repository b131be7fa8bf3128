//! # Or
//! `y = a ∨ b` on truth values, with broadcasting. Opset 7.

use super::OpDef;
use super::elementwise::{Logic, logic};

pub(super) const DEF: OpDef = logic::<Or>("Or", &[7]);

#[derive(Debug, Default)]
struct Or;

impl Logic for Or {
    const TRUE_OF: [bool; 3] = [false, true, true];

    fn at(a: bool, b: bool) -> bool {
        a | b
    }
}
