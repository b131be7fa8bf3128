//! # BlackmanWindow
//! `y[n] = 0.42 − 0.5 · cos(2π·n / N) + 0.08 · cos(4π·n / N)`. Opset 17: see [`super::cosine_window`].

use super::{Accuracy, OpDef, cosine_window};
use crate::dtype::DType;
use std::f64::consts::PI;

pub(super) const DEF: OpDef = OpDef {
    name: "BlackmanWindow",
    domain: "",
    since: &[17],
    until: None,
    dtypes: &[DType::I32, DType::I64],
    accuracy: Accuracy::Elementwise,
    parse: |node| {
        cosine_window::parse(
            node,
            |n, period| (n * 2.0 * PI / period).cos() * -0.5 + (n * 4.0 * PI / period).cos() * 0.08 + 0.42,
            |n, period| {
                let angle = |times: f64| (n * times * PI / period).cos();
                angle(2.0) * -0.5 + angle(4.0) * 0.08 + 0.42
            },
        )
    },
    case: cosine_window::case,
};
