//! # ReduceLogSumExp
//! `ln Σ exp(x)` over the axes; minus infinity over nothing. The largest element so far is kept beside the sum
//! relative to it, so that nothing overflows. That of integers (below opset 28) is truncated toward zero.
//! Opsets 1, 11, 13, 18, 28.

use super::OpDef;
use super::integer_reduction::Integers;
use super::reduction::{self, Form, Kind, fold, truncated};
use crate::cpu::number::{Number, dispatch};
use crate::cpu::reduce::Fold;

pub(super) const DEF: OpDef = OpDef {
    name: "ReduceLogSumExp",
    domain: "",
    since: &[1, 11, 13, 18, 28],
    until: None,
    dtypes: reduction::DTYPES,
    accuracy: reduction::ACCURACY,
    parse: |node| reduction::parse(node, &KIND),
    case: |g| reduction::case(g, &KIND, DEF.since, (-20.0, 20.0)),
};

static KIND: Kind = Kind {
    axes_input_from: 18,
    dtypes: reduction::DTYPES,
    folder: |dtype| dispatch!(dtype, numbers, T => Ok(fold::<T, Floats>)),
    floats: log_sum_exp,
    ints: |d, v| truncated(d, log_sum_exp(&v.iter().map(|&x| x as f64).collect::<Vec<_>>())),
    bools: reduction::no_bools,
    gpu: None,
    form: Form::LogSumExp,
    integers: Integers::Real,
};

struct Floats;

impl<T: Number> Fold<T> for Floats {
    /// The largest element, and the sum of exponentials relative to it.
    type State = (f64, f64);
    fn empty() -> (f64, f64) {
        (f64::NEG_INFINITY, 0.0)
    }
    fn add((most, sum): (f64, f64), x: T) -> (f64, f64) {
        let x = x.to_f64();
        if x == most {
            // Equal infinities have no difference.
            (most, sum + 1.0)
        } else if x < most {
            (most, sum + (x - most).exp())
        } else {
            (x, sum * (most - x).exp() + 1.0)
        }
    }
    fn join(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
        if a.0 == b.0 {
            (a.0, a.1 + b.1)
        } else if b.0 < a.0 {
            (a.0, a.1 + b.1 * (b.0 - a.0).exp())
        } else {
            (b.0, a.1 * (a.0 - b.0).exp() + b.1)
        }
    }
    fn finish((most, sum): (f64, f64), _count: usize) -> T {
        T::from_f64(most + sum.ln())
    }
}

fn log_sum_exp(v: &[f64]) -> f64 {
    let most = v.iter().fold(f64::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    if most.is_infinite() {
        return if v.iter().any(|x| x.is_nan()) { f64::NAN } else { most };
    }
    most + v.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
}
