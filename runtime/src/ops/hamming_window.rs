//! # HammingWindow
//! `y[n] = 25/46 − 21/46 · cos(2π·n / N)`. Opset 17: see [`super::cosine_window`].

use super::{Accuracy, OpDef, cosine_window};
use crate::dtype::DType;
use std::f64::consts::PI;

pub(super) const DEF: OpDef = OpDef {
    name: "HammingWindow",
    domain: "",
    since: &[17],
    until: None,
    dtypes: &[DType::I32, DType::I64],
    accuracy: Accuracy::Elementwise,
    parse: |node| {
        cosine_window::parse(
            node,
            |n, period| 25.0 / 46.0 - (n * PI * 2.0 / period).cos() * (1.0 - 25.0 / 46.0),
            |n, period| {
                let alpha = 25.0 / 46.0;
                alpha - (n * PI * 2.0 / period).cos() * (1.0 - alpha)
            },
        )
    },
    case: cosine_window::case,
};
