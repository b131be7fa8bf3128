//! # Equal
//! `y = (a = b)` with broadcasting; false where one is NaN. Opsets 7, 11, 13, 19.
//!
//! An extent never equals a negative number: exporters ask `shape = −1` to fill in a target shape.

use super::OpDef;
use super::elementwise::{Comparison, Entry, broadcast_at, comparison, entries};
use crate::dtype::{Bool, DType, MOVABLE};
use crate::graph::fact::{Content, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::tensor::Tensor;
use std::cmp::Ordering;

pub(super) const DEF: OpDef = comparison::<Equal>("Equal", &[7, 11, 13, 19]);

#[derive(Clone, Copy, Debug, Default)]
struct Equal;

impl Comparison for Equal {
    const DTYPES: &'static [DType] = MOVABLE;

    fn scalar(b: &mut Builder, p: Reg, q: Reg) -> Reg {
        b.eq(p, q)
    }

    fn holds(order: Option<Ordering>) -> bool {
        order == Some(Ordering::Equal)
    }

    fn with_content(fact: TensorFact, a: &TensorFact, b: &TensorFact) -> TensorFact {
        match known(&fact, a, b) {
            Some(tensor) => fact.with_content(Content::Constant(tensor)),
            None => fact,
        }
    }
}

/// The comparison of shape arithmetic, when every element of it is decided.
fn known(fact: &TensorFact, a: &TensorFact, b: &TensorFact) -> Option<Tensor> {
    let (left, right) = (entries(a)?, entries(b)?);
    let len = fact.element_count().filter(|&n| n <= left.len().max(right.len()))?;
    let element = |i| equal(broadcast_at(&left, i)?, broadcast_at(&right, i)?);
    Tensor::new(&fact.known_shape()?, (0..len).map(element).collect::<Option<Vec<Bool>>>()?).ok()
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
