//! # Mean
//! `y = Σ inputs / n` with broadcasting, from the first to the last in the compute type. Opsets 6, 8, 13.

use super::elementwise::{Fold, fold};
use super::{Accuracy, OpDef};
use crate::cpu::number::Compute;
use crate::dtype::{DType, FLOATS};
pub(super) const DEF: OpDef = fold::<Mean>("Mean", &[6, 8, 13]);

#[derive(Clone, Copy, Debug, Default)]
struct Mean;

impl Fold for Mean {
    const DTYPES: &'static [DType] = FLOATS;
    const ACCURACY: Accuracy = Accuracy::Reduction;

    fn at<T: Compute>(a: T, b: T) -> T {
        a.add(b)
    }

    fn finish<T: Compute>(folded: T, count: usize) -> T {
        folded.div(T::from_f64(count as f64))
    }

    fn float(elements: &[f64]) -> f64 {
        elements.iter().sum::<f64>() / elements.len() as f64
    }

    fn int(elements: &[i128]) -> i128 {
        elements.iter().sum()
    }
}
