//! # ReduceMean
//! Mean over the axes; NaN over nothing. That of integers is exact and truncated toward zero, 0 over nothing.
//! Opsets 1, 11, 13, 18.

use super::OpDef;
use super::integer_reduction::Integers;
use super::reduction::{self, Form, Kind, fold};
use crate::cpu::number::{Real, dispatch};
use crate::cpu::reduce::Fold;
use crate::cpu::reduce::Whole;
use crate::loops::program::Builder;
use recurve_kernels::reduce as gpu;

pub(super) const DEF: OpDef = OpDef {
    name: "ReduceMean",
    domain: "",
    since: &[1, 11, 13, 18],
    until: None,
    dtypes: reduction::DTYPES,
    accuracy: reduction::ACCURACY,
    parse: |node| reduction::parse(node, &KIND),
    case: |g| reduction::case(g, &KIND, DEF.since, (-2.0, 2.0)),
};

static KIND: Kind = Kind {
    axes_input_from: 18,
    dtypes: reduction::DTYPES,
    folder: |dtype| {
        if dtype.is_float() {
            return dispatch!(dtype, floats, T => Ok(fold::<T, Floats>));
        }
        dispatch!(dtype, ints, T => Ok(fold::<T, Ints>))
    },
    floats: |v| v.iter().sum::<f64>() / v.len() as f64,
    ints: |_, v| v.iter().sum::<i128>() / (v.len() as i128).max(1),
    bools: reduction::no_bools,
    gpu: Some(gpu::Fold::Mean),
    form: Form::Sum(|_, x| x, Builder::div),
    integers: Integers::Mean,
};

/// The fold of floats.
pub(super) struct Floats;

impl<T: Real> Fold<T> for Floats {
    type State = f64;
    fn empty() -> f64 {
        0.0
    }
    fn add(state: f64, x: T) -> f64 {
        state + x.to_f64()
    }
    fn join(a: f64, b: f64) -> f64 {
        a + b
    }
    fn finish(state: f64, count: usize) -> T {
        T::from_f64(state / count as f64)
    }
}

struct Ints;

impl<T: Whole> Fold<T> for Ints {
    type State = i128;
    fn empty() -> i128 {
        0
    }
    fn add(state: i128, x: T) -> i128 {
        state + x.widen()
    }
    fn join(a: i128, b: i128) -> i128 {
        a + b
    }
    fn finish(state: i128, count: usize) -> T {
        T::narrow(state / (count as i128).max(1))
    }
}
