//! # Xor
//! `y = a ⊕ b` on truth values, with broadcasting. Opset 7.

use super::OpDef;
use super::elementwise::{Logic, logic};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = logic::<Xor>("Xor", &[7]);

#[derive(Debug, Default)]
struct Xor;

impl Logic for Xor {
    const TRUE_OF: [bool; 3] = [false, true, false];

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.xor(p, q)
    }
}
