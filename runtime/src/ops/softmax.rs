//! # Softmax
//! `y_i = exp(x_i − m) / Σ_j exp(x_j − m)`, `m = max_j x_j`.
//! Opsets 1, 11, 13: see [`super::exponential_norm`].

use super::{Accuracy, OpDef, exponential_norm};
use crate::cpu::softmax::Form;
use crate::dtype::FLOATS;

pub(super) const DEF: OpDef = OpDef {
    name: "Softmax",
    domain: "",
    since: &[1, 11, 13],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse: |node| exponential_norm::parse(node, Form::Softmax, line),
    case: exponential_norm::case,
};

fn line(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = x.iter().map(|x| (x - most).exp()).sum();
    x.iter().map(|x| (x - most).exp() / sum).collect()
}
