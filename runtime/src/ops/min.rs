//! # Min
//! The smallest of all inputs at each place, with broadcasting; NaN if one is. Opsets 6, 8, 12, 13.

use super::elementwise::{Entry, Fold, fold};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, NUMBERS};
use crate::loops::program::{Builder, Reg};
pub(super) const DEF: OpDef = fold::<Min>("Min", &[6, 8, 12, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Min;

impl Fold for Min {
    const DTYPES: &'static [DType] = NUMBERS;
    const ACCURACY: Accuracy = Accuracy::Exact;

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.min(p, q)
    }

    fn float(elements: &[f64]) -> f64 {
        let nan = elements.iter().any(|v| v.is_nan());
        if nan { f64::NAN } else { elements.iter().copied().fold(f64::INFINITY, f64::min) }
    }

    fn int(elements: &[i128]) -> i128 {
        elements.iter().copied().min().unwrap_or(0)
    }

    fn entry(a: &Entry, b: &Entry) -> Entry {
        match (a, b) {
            (Entry::Int(a), Entry::Int(b)) => Entry::Int(*a.min(b)),
            _ => Entry::symmetric("min", a, b),
        }
    }
}
