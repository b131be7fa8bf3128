//! # CumProd
//! `y_t = Π x_s` over `s ≤ t` along `axis`; over `s < t` when `exclusive`; from the end when `reverse`. `f16` and
//! `bf16` accumulate in `f32`, integers wrap. Opset 26.

use super::cumulative::{self, ACCUMULATED, Kind};
use super::{Accuracy, OpDef};
use crate::cpu::number::{Compute, dispatch};
use crate::loops::Fold;

pub(super) const DEF: OpDef = OpDef {
    name: "CumProd",
    domain: "",
    since: &[26],
    until: None,
    dtypes: ACCUMULATED,
    accuracy: Accuracy::Reduction,
    parse: |spec| cumulative::parse(spec, &KIND),
    case: |g| cumulative::case(g, Some((-1.5, 1.5))),
};

static KIND: Kind = Kind {
    fold: Fold::Product,
    kernel: |dtype, run| dispatch!(dtype, numbers, T => Ok(cumulative::kernel::<T>(run, Compute::one(), Compute::mul))),
    floats: |v| v.iter().product(),
    nothing: 1,
    integers: |a, b| a * b,
};
