//! # Exp
//! `y = e^x`, elementwise. Opsets 6, 13.

use super::OpDef;
use super::elementwise::{FloatMap, float_map};
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = float_map::<Exp>("Exp", &[6, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Exp;

impl FloatMap for Exp {
    fn scalar(self, b: &mut Builder, x: Reg) -> Reg {
        b.exp(x)
    }

    fn formula(self, x: f64) -> f64 {
        x.exp()
    }
}
