//! # BitwiseXor
//! `y = a ⊕ b`, bit by bit, on integers of one type, with broadcasting. Opset 18.

use super::OpDef;
use super::elementwise::{Bitwise, bitwise};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = bitwise::<BitwiseXor>("BitwiseXor", &[18]);

#[derive(Debug, Default)]
struct BitwiseXor;

impl Bitwise for BitwiseXor {
    const SET_OF: [bool; 3] = [false, true, false];

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.xor(p, q)
    }
}
