//! # Equal
//! `y = (a = b)` with broadcasting; false where one is NaN. Opsets 7, 11, 13, 19.
//!
//! An extent never equals a negative number: exporters ask `shape = −1` to fill in a target shape.

use super::OpDef;
use super::elementwise::{Comparison, Entry, comparison, entries};
use crate::dtype::{Bool, DType, NUMBERS_AND_BOOL};
use crate::graph::fact::{Content, TensorFact};
use crate::tensor::Tensor;
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<Equal>("Equal", &[7, 11, 13, 19]);

#[derive(Clone, Copy, Debug, Default)]
struct Equal;

impl Comparison for Equal {
    const DTYPES: &'static [DType] = NUMBERS_AND_BOOL;

    fn at<T: PartialOrd>(a: &T, b: &T) -> bool {
        a == b
    }

    fn holds(order: Option<Ordering>) -> bool {
        order == Some(Ordering::Equal)
    }

    fn content(a: &TensorFact, b: &TensorFact) -> Content {
        known(a, b).map_or(Content::Unknown, Content::Constant)
    }
}

/// The comparison of shape arithmetic, when every element of it is decided.
fn known(a: &TensorFact, b: &TensorFact) -> Option<Tensor> {
    let (left, right) = (entries(a)?, entries(b)?);
    let shape: &[usize] = if a.rank()?.max(b.rank()?) == 0 { &[] } else { &[left.len().max(right.len())] };
    let at = |column: &[Entry], i: usize| column.get(if column.len() == 1 { 0 } else { i }).cloned();
    let len = left.len().max(right.len());
    let equal: Option<Vec<Bool>> = (0..len).map(|i| equal(&at(&left, i)?, &at(&right, i)?)).collect();
    Tensor::new(shape, equal?).ok()
}

fn equal(a: &Entry, b: &Entry) -> Option<Bool> {
    match (a, b) {
        (Entry::Int(a), Entry::Int(b)) => Some(Bool::new(a == b)),
        (Entry::Dim(d), Entry::Int(k)) | (Entry::Int(k), Entry::Dim(d)) => {
            (*k < 0 && d.is_sum_of_symbols()).then_some(Bool::new(false))
        }
        (Entry::Dim(a), Entry::Dim(b)) => (a == b && a.is_sum_of_symbols()).then_some(Bool::new(true)),
    }
}
