//! # HannWindow
//! `y[n] = sin²(π·n / N)`. Opset 17: see [`super::cosine_window`].

use super::{Accuracy, OpDef, cosine_window};
use crate::dtype::DType;
use std::f64::consts::PI;

pub(super) const DEF: OpDef = OpDef {
    name: "HannWindow",
    domain: "",
    since: &[17],
    until: None,
    dtypes: &[DType::I32, DType::I64],
    accuracy: Accuracy::Elementwise,
    parse: |node| {
        cosine_window::parse(
            node,
            |n, period| (n * PI / period).sin().powi(2),
            |n, period| {
                let s = (n * PI / period).sin();
                s * s
            },
        )
    },
    case: cosine_window::case,
};
