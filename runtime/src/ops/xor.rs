//! # Xor
//! `y = a ⊕ b` on truth values, with broadcasting. Opset 7.

use super::OpDef;
use super::elementwise::{Logic, logic};

pub(super) const DEF: OpDef = logic::<Xor>("Xor", &[7]);

#[derive(Debug, Default)]
struct Xor;

impl Logic for Xor {
    const TRUE_OF: [bool; 3] = [false, true, false];

    fn at(a: bool, b: bool) -> bool {
        a ^ b
    }
}
