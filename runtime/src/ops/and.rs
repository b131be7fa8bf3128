//! # And
//! `y = a ∧ b` on truth values, with broadcasting. Opset 7.

use super::OpDef;
use super::elementwise::{Logic, logic};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = logic::<And>("And", &[7]);

#[derive(Debug, Default)]
struct And;

impl Logic for And {
    const TRUE_OF: [bool; 3] = [false, false, true];

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.and(p, q)
    }
}
