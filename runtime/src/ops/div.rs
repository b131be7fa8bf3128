//! # Div
//! `y = a / b` with broadcasting. Integer division truncates toward zero; by zero it gives 0, and the smallest
//! integer by −1 wraps. Opsets 7, 13, 14.

use super::OpDef;
use super::elementwise::{Arithmetic, Entry, arithmetic};
use crate::graph::Dim;
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = arithmetic::<Div>("Div", &[7, 13, 14]);

#[derive(Clone, Copy, Debug, Default)]
struct Div;

impl Arithmetic for Div {
    fn scalar(self, b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.div(p, q)
    }

    fn float(self, a: f64, b: f64) -> f64 {
        a / b
    }

    fn int(self, a: i128, b: i128) -> i128 {
        if b == 0 { 0 } else { a / b }
    }

    fn entry(self, a: &Entry, b: &Entry) -> Entry {
        match (a, b) {
            (Entry::Int(a), Entry::Int(b)) => Entry::number(a.checked_div(*b)),
            // Extents are not negative, so truncation is the floor.
            (Entry::Dim(d), Entry::Int(k)) => {
                Entry::Dim(usize::try_from(*k).map_or(Dim::Unknown, |k| d.floor_div(k)))
            }
            _ => Entry::Dim(a.dim().exact_div(&b.dim()).unwrap_or(Dim::Unknown)),
        }
    }
}
