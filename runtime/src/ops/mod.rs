//! The operators: one file each, and the one table that lists them.

pub(crate) mod attributes;
mod op;
mod table;

mod arg_extreme;
mod arg_max;
mod arg_min;
mod average_pool;
mod batch_normalization;
mod conv;
mod exponential_norm;
mod gemm;
mod global_average_pool;
mod global_max_pool;
mod global_pool;
mod hardmax;
mod layer_normalization;
mod log_softmax;
mod mat_mul;
mod max_pool;
mod reduce_l1;
mod reduce_l2;
mod reduce_log_sum;
mod reduce_log_sum_exp;
mod reduce_max;
mod reduce_mean;
mod reduce_min;
mod reduce_prod;
mod reduce_sum;
mod reduce_sum_square;
mod reduction;
mod relu;
mod softmax;
pub(crate) mod window;

pub use op::{Accuracy, Cost};
pub(crate) use op::{Op, OpDef, PackSite, Packed};
pub(crate) use table::{OPS, find};

/// Newest version of the standard operator set that is known.
pub(crate) const NEWEST_OPSET: i64 = 28;
/// Oldest version of the standard operator set that is read.
pub(crate) const OLDEST_OPSET: i64 = 7;
