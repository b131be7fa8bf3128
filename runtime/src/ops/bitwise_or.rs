//! # BitwiseOr
//! `y = a ∨ b`, bit by bit, on integers of one type, with broadcasting. Opset 18.

use super::OpDef;
use super::elementwise::{Bitwise, bitwise};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = bitwise::<BitwiseOr>("BitwiseOr", &[18]);

#[derive(Debug, Default)]
struct BitwiseOr;

impl Bitwise for BitwiseOr {
    const SET_OF: [bool; 3] = [false, true, true];

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.or(p, q)
    }
}
