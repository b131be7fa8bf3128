//! # Sub
//! `y = a − b` with broadcasting; integers wrap. Opsets 7, 13, 14.

use super::OpDef;
use super::elementwise::{Arithmetic, Entry, arithmetic};
use crate::graph::Dim;
use crate::loops::program::{Builder, Reg};

pub(super) const DEF: OpDef = arithmetic::<Sub>("Sub", &[7, 13, 14]);

#[derive(Clone, Copy, Debug, Default)]
struct Sub;

impl Arithmetic for Sub {
    fn scalar(self, b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.sub(p, q)
    }

    fn float(self, a: f64, b: f64) -> f64 {
        a - b
    }

    fn int(self, a: i128, b: i128) -> i128 {
        a - b
    }

    fn entry(self, a: &Entry, b: &Entry) -> Entry {
        match (a, b) {
            (Entry::Int(a), Entry::Int(b)) => Entry::number(a.checked_sub(*b)),
            (Entry::Dim(d), Entry::Int(k)) => {
                Entry::Dim(k.checked_neg().map_or(Dim::Unknown, |k| d.affine(1, k)))
            }
            (Entry::Int(k), Entry::Dim(d)) => Entry::Dim(d.affine(-1, *k)),
            (Entry::Dim(a), Entry::Dim(b)) => Entry::Dim(a - b),
        }
    }
}
