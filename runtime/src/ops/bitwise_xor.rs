//! # BitwiseXor
//! `y = a ⊕ b`, bit by bit, on integers of one type, with broadcasting. Opset 18.

use super::OpDef;
use super::elementwise::{Bits, Bitwise, bitwise};

pub(super) const DEF: OpDef = bitwise::<BitwiseXor>("BitwiseXor", &[18]);

#[derive(Debug, Default)]
struct BitwiseXor;

impl Bitwise for BitwiseXor {
    const SET_OF: [bool; 3] = [false, true, false];

    fn at<T: Bits>(a: T, b: T) -> T {
        a ^ b
    }
}
