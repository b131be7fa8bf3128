//! # Mean
//! `y = Σ inputs / n` with broadcasting, from the first to the last in the compute type. Opsets 6, 8, 13.

use super::elementwise::{Fold, fold};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, FLOATS};
use crate::loops::program::{Builder, Reg};
pub(super) const DEF: OpDef = fold::<Mean>("Mean", &[6, 8, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Mean;

impl Fold for Mean {
    const DTYPES: &'static [DType] = FLOATS;
    const ACCURACY: Accuracy = Accuracy::Reduction;

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.add(p, q)
    }

    fn finish(b: &mut Builder, folded: Reg, count: usize) -> Reg {
        let count = b.constant_as(folded, count as f64);
        b.div(folded, count)
    }

    fn float(elements: &[f64]) -> f64 {
        elements.iter().sum::<f64>() / elements.len() as f64
    }

    fn int(elements: &[i128]) -> i128 {
        elements.iter().sum()
    }
}
