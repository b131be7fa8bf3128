//! # ReduceLogSum
//! Logarithm of the sum over the axes; minus infinity over nothing. That of integers (below opset 28) is
//! truncated toward zero.
//! Opsets 1, 11, 13, 18, 28.

use super::OpDef;
use super::integer_reduction::Integers;
use super::reduction::{self, Form, Kind, fold, truncated};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::reduce::Fold;

pub(super) const DEF: OpDef = OpDef {
    name: "ReduceLogSum",
    domain: "",
    since: &[1, 11, 13, 18, 28],
    until: None,
    dtypes: reduction::DTYPES,
    accuracy: reduction::ACCURACY,
    parse: |node| reduction::parse(node, &KIND),
    case: |g| reduction::case(g, &KIND, DEF.since, (0.1, 2.0)),
};

static KIND: Kind = Kind {
    axes_input_from: 18,
    dtypes: reduction::DTYPES,
    folder: |dtype| dispatch!(dtype, numbers, T => Ok(fold::<T, Floats>)),
    floats: |v| v.iter().sum::<f64>().ln(),
    ints: |d, v| truncated(d, (v.iter().sum::<i128>() as f64).ln()),
    bools: reduction::no_bools,
    gpu: None,
    form: Form::Sum(|_, x| x, |p, sum, _| p.log(sum)),
    integers: Integers::Real,
};

struct Floats;

impl<T: Number> Fold<T> for Floats {
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
    fn finish(state: f64, _count: usize) -> T {
        T::from_f64(state.ln())
    }
}
