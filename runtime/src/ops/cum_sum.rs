//! # CumSum
//! `y_t = Σ x_s` over `s ≤ t` along `axis`; over `s < t` when `exclusive`; from the end when `reverse`. `f16` and
//! `bf16` accumulate in `f32`, integers wrap. Opsets 11, 14.

use super::cumulative::{self, ACCUMULATED, Kind};
use super::{Accuracy, OpDef};
use crate::cpu::number::{Compute, dispatch};
use crate::loops::Fold;

pub(super) const DEF: OpDef = OpDef {
    name: "CumSum",
    domain: "",
    since: &[11, 14],
    until: None,
    dtypes: ACCUMULATED,
    accuracy: Accuracy::Reduction,
    parse: |spec| cumulative::parse(spec, &KIND),
    case: |g| cumulative::case(g, None),
};

static KIND: Kind = Kind {
    fold: Fold::Sum,
    kernel: |dtype, run| dispatch!(dtype, numbers, T => Ok(cumulative::kernel::<T>(run, Compute::zero(), Compute::add))),
    floats: |v| v.iter().sum(),
    nothing: 0,
    integers: |a, b| a + b,
};
