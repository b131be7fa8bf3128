//! # GlobalAveragePool
//! The mean of each channel over all spatial axes. Opsets 1, 22 (bfloat16).

use super::global_pool::{self, GlobalPool};
use super::reduce_mean::Floats;
use super::reduction::fold;
use super::{Accuracy, OpDef};
use crate::cpu::number::dispatch;
use crate::dtype::FLOATS;
use crate::loops;
use crate::loops::program::Builder;
use std::sync::Arc;

pub(super) const DEF: OpDef = OpDef {
    name: "GlobalAveragePool",
    domain: "",
    since: &[1, 22],
    until: None,
    dtypes: FLOATS,
    accuracy: Accuracy::Reduction,
    parse: |_| {
        Ok(Arc::new(GlobalPool {
            folder: |dtype| dispatch!(dtype, floats, T => Ok(fold::<T, Floats>)),
            nest: |inputs, outputs| {
                let mean = |b: &mut Builder, sum, count| {
                    let count = b.constant_as(sum, count);
                    b.div(sum, count)
                };
                global_pool::nest(inputs, outputs, loops::Fold::Sum, |_, x| x, mean)
            },
            gpu: recurve_kernels::reduce::Fold::Mean,
            plane: |v| v.iter().sum::<f64>() / v.len() as f64,
        }))
    },
    case: global_pool::case,
};
