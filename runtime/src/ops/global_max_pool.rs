//! # GlobalMaxPool
//! The largest element of each channel over all spatial axes, NaN when there is one. Opsets 1, 22 (bfloat16).

use super::global_pool::{self, GlobalPool};
use super::reduce_max::Extreme;
use super::reduction::fold;
use super::{Accuracy, OpDef};
use crate::cpu::number::dispatch;
use crate::dtype::FLOATS;
use crate::loops;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GlobalMaxPool",
    domain: "",
    since: &[1, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Exact,
    parse: |_| {
        Ok(Arc::new(GlobalPool {
            folder: |dtype| dispatch!(dtype, floats, T => Ok(fold::<T, Extreme>)),
            nest: |inputs, outputs| {
                global_pool::nest(inputs, outputs, loops::Fold::Max, |_, x| x, |_, most, _| most)
            },
            gpu: recurve_kernels::reduce::Fold::Max,
            plane: |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }))
    },
    case: global_pool::case,
};
