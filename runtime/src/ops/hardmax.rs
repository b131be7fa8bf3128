//! # Hardmax
//! `y_i = 1` at the first largest `x_i`, 0 elsewhere.
//! Opsets 1, 11, 13: see [`super::exponential_norm`].

use super::{Accuracy, OpDef, exponential_norm};
use crate::cpu::softmax::Form;
use crate::dtype::FLOATS;

pub(super) const DEF: OpDef = OpDef {
    name: "Hardmax",
    domain: "",
    since: &[1, 11, 13],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Exact,
    parse: |node| exponential_norm::parse(node, Form::Hardmax, line),
    case: exponential_norm::case,
};

fn line(x: &[f64]) -> Vec<f64> {
    let mut best = 0;
    for i in 0..x.len() {
        if x[i] > x[best] {
            best = i;
        }
    }
    (0..x.len()).map(|i| if i == best { 1.0 } else { 0.0 }).collect()
}
