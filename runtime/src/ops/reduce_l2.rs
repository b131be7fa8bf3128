//! # ReduceL2
//! Square root of the sum of squares over the axes; 0 over nothing. That of integers is exact and truncated.
//! Opsets 1, 11, 13, 18.

use super::OpDef;
use super::integer_reduction::Integers;
use super::reduction::{self, Form, Kind, fold};
use crate::cpu::number::{Real, dispatch};
use crate::cpu::reduce::Fold;
use crate::cpu::reduce::Whole;
use recurve_kernels::reduce as gpu;

pub(super) const DEF: OpDef = OpDef {
    name: "ReduceL2",
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
    floats: |v| v.iter().map(|x| x * x).sum::<f64>().sqrt(),
    ints: |_, v| v.iter().fold(0i128, |s, x| s.saturating_add(x.saturating_mul(*x))).isqrt(),
    bools: reduction::no_bools,
    gpu: Some(gpu::Fold::Norm),
    form: Form::Sum(|p, x| p.mul(x, x), |p, sum, _| p.sqrt(sum)),
    integers: Integers::Root,
};

struct Floats;

impl<T: Real> Fold<T> for Floats {
    type State = f64;
    fn empty() -> f64 {
        0.0
    }
    fn add(state: f64, x: T) -> f64 {
        let x = x.to_f64();
        state + x * x
    }
    fn join(a: f64, b: f64) -> f64 {
        a + b
    }
    fn finish(state: f64, _count: usize) -> T {
        T::from_f64(state.sqrt())
    }
}

struct Ints;

impl<T: Whole> Fold<T> for Ints {
    type State = i128;
    fn empty() -> i128 {
        0
    }
    fn add(state: i128, x: T) -> i128 {
        state.saturating_add(x.widen().saturating_mul(x.widen()))
    }
    fn join(a: i128, b: i128) -> i128 {
        a.saturating_add(b)
    }
    fn finish(state: i128, _count: usize) -> T {
        T::narrow(state.isqrt())
    }
}
