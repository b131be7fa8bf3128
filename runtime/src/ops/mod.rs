//! The operators: one file each, and the one table that lists them.

pub(crate) mod attributes;
mod op;
mod table;

mod gru;
mod lstm;
pub(crate) mod recurrence;
mod relu;
mod rnn;

pub use op::{Accuracy, Cost};
pub(crate) use op::{Op, OpDef, PackSite, Packed};
pub(crate) use table::{OPS, find};

/// Newest version of the standard operator set that is known.
pub(crate) const NEWEST_OPSET: i64 = 28;
/// Oldest version of the standard operator set that is read.
pub(crate) const OLDEST_OPSET: i64 = 7;
