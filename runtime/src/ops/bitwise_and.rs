//! # BitwiseAnd
//! `y = a ∧ b`, bit by bit, on integers of one type, with broadcasting. Opset 18.

use super::OpDef;
use super::elementwise::{Bitwise, bitwise};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = bitwise::<BitwiseAnd>("BitwiseAnd", &[18]);

#[derive(Debug, Default)]
struct BitwiseAnd;

impl Bitwise for BitwiseAnd {
    const SET_OF: [bool; 3] = [false, false, true];

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.and(p, q)
    }
}
