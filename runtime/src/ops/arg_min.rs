//! # ArgMin
//! Index of the smallest element along `axis`: the first of several, or the last with `select_last_index`.
//! Opsets 1, 11, 12, 13: see [`super::arg_extreme`].

use super::{Accuracy, OpDef, arg_extreme};
use crate::dtype::NUMBERS;
use std::cmp::Ordering;

pub(super) const DEF: OpDef = OpDef {
    name: "ArgMin",
    domain: "",
    since: &[1, 11, 12, 13],
    until: None,
    dtypes: NUMBERS,
    accuracy: Accuracy::Exact,
    parse: |node| arg_extreme::parse(node, Ordering::Less),
    case: arg_extreme::case,
};
