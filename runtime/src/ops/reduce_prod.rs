//! # ReduceProd
//! Product over the axes; 1 over nothing. Integers wrap.
//! Opsets 1, 11, 13, 18.

use super::OpDef;
use super::integer_reduction::Integers;
use super::reduction::{self, Form, Kind, fold};
use crate::cpu::number::{Compute, Real, dispatch};
use crate::cpu::reduce::Fold;
use crate::loops;
use crate::reference::wrap;
use recurve_kernels::reduce as gpu;

pub(super) const DEF: OpDef = OpDef {
    name: "ReduceProd",
    domain: "",
    since: &[1, 11, 13, 18],
    until: None,
    dtypes: reduction::DTYPES,
    accuracy: reduction::ACCURACY,
    parse: |node| reduction::parse(node, &KIND),
    case: |g| reduction::case(g, &KIND, DEF.since, (-1.3, 1.3)),
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
    floats: |v| v.iter().product(),
    ints: |d, v| v.iter().fold(1, |p, x| wrap(d, p * x)),
    bools: reduction::no_bools,
    gpu: Some(gpu::Fold::Product),
    form: Form::Plain(loops::Fold::Product),
    integers: Integers::Wrapping,
};

struct Floats;

impl<T: Real> Fold<T> for Floats {
    type State = f64;
    fn empty() -> f64 {
        1.0
    }
    fn add(state: f64, x: T) -> f64 {
        state * x.to_f64()
    }
    fn join(a: f64, b: f64) -> f64 {
        a * b
    }
    fn finish(state: f64, _count: usize) -> T {
        T::from_f64(state)
    }
}

struct Ints;

impl<T: Compute> Fold<T> for Ints {
    type State = T;
    fn empty() -> T {
        T::one()
    }
    fn add(state: T, x: T) -> T {
        state.mul(x)
    }
    fn join(a: T, b: T) -> T {
        a.mul(b)
    }
    fn finish(state: T, _count: usize) -> T {
        state
    }
}
