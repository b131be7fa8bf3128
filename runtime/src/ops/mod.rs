//! The operators: one file each, and the one table that lists them.

pub(crate) mod attributes;
mod op;
mod table;

mod concat;
mod constant;
mod constant_of_shape;
mod expand;
mod flatten;
mod gather;
mod pad;
mod range;
mod relu;
mod reshape;
mod reverse_sequence;
mod shape;
mod size;
mod slice;
mod split;
mod squeeze;
mod tile;
mod transpose;
mod unsqueeze;

pub use op::{Accuracy, Cost};
pub(crate) use op::{Op, OpDef, PackSite, Packed};
pub(crate) use table::{OPS, find};

/// Tensors of more axes than this are refused where a model asks for them by a number.
pub(crate) const MOST_AXES: usize = 256;

/// Newest version of the standard operator set that is known.
pub(crate) const NEWEST_OPSET: i64 = 28;
/// Oldest version of the standard operator set that is read.
pub(crate) const OLDEST_OPSET: i64 = 7;
