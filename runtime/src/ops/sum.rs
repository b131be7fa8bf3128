//! # Sum
//! `y = Σ inputs` with broadcasting, from the first to the last in the compute type. Opsets 6, 8, 13.

use super::elementwise::{Fold, fold};
use super::{Accuracy, OpDef};
use crate::dtype::{DType, FLOATS};
use crate::loops::program::{Builder, Reg};
pub(super) const DEF: OpDef = fold::<Sum>("Sum", &[6, 8, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Sum;

impl Fold for Sum {
    const DTYPES: &'static [DType] = FLOATS;
    const ACCURACY: Accuracy = Accuracy::Reduction;

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.add(p, q)
    }

    fn float(elements: &[f64]) -> f64 {
        elements.iter().sum()
    }

    fn int(elements: &[i128]) -> i128 {
        elements.iter().sum()
    }
}
