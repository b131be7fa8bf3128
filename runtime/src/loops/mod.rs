//! Loop nests: what a chain of elementwise operators, the epilogue of a product or a normalisation of rows
//! becomes when it is computed in one pass over memory.
//!
//! The scalar body of a nest is a [`program::Program`]: typed expressions in static single assignment form, plain
//! data. [`program::Builder`] makes one, folding constants and sharing equal expressions; operators give their
//! expression to it (`Op::scalar`), and the composer of a fused nest calls [`program::Builder::narrow`] with the
//! element type of each fused operator's output, so that a fused chain rounds and wraps where the separate
//! operators would. [`program::interpret`] computes a program element by element and judges every executor.
//!
//! On the CPU, `cpu::program` runs programs:
//! - `operator_kernel(op, site)` for one operator, and `MapKernel::new(program, output, layouts, threads)` for a nest
//!   over an output space, where a `Layout` says how each input lies under it (broadcast, transposed, contiguous);
//!   `MapKernel::run` takes bytes, `into_kernel(read)` makes the kernel of a node whose inputs `read` are the
//!   program's ([`program::Builder::finish_read`] tells which inputs a program reads);
//! - `Epilogue::new(program, reaches)` for row segments that are in L1 already, as the epilogue of a product: each
//!   input is one element for the whole segment (per row), or one per element (per column, full); `prepare` once per
//!   thread, then `apply_tile` per segment;
//! - `RowKernel::over(program, (rows, length), layouts, threads)` for the stages of a [`rows::RowProgram`], which
//!   `row_form` makes of a nest that folds.
//!
//! Loops over time are in [`recovery`]: cells whose steps the model spells out become loops or operators again.

mod affine;
mod alike;
#[cfg(test)]
mod alike_tests;
mod apart;
mod candidate;
mod channel_blocks;
#[cfg(test)]
mod channel_blocks_tests;
#[cfg(test)]
mod channel_norm_tests;
mod compose;
mod cost;
#[cfg(test)]
mod coverage_tests;
mod epilogue;
#[cfg(test)]
mod exchanged_tests;
#[cfg(test)]
mod function_tests;
mod fuse;
mod fused;
mod group;
mod in_rows;
#[cfg(test)]
mod interpret;
mod joined;
mod lower;
mod made_operand;
mod nest;
mod parts;
#[cfg(test)]
mod pattern_tests;
pub(crate) mod program;
pub(crate) mod quantised;
pub(crate) mod recovery;
mod row_form;
pub(crate) mod rows;
mod sequential;
mod sibling_readers;
mod siblings;
#[cfg(test)]
mod sketch;
#[cfg(test)]
mod sketch_products;
#[cfg(test)]
mod sketch_windows;
mod spelled_groups;
mod stacked;
mod stages;
#[cfg(test)]
mod stored_tests;
mod strided;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;

pub(crate) use affine::Affine;
pub(crate) use apart::Apart;
pub(crate) use channel_blocks::block_channels;
pub(crate) use fuse::{BranchesOfShapes, Report, fuse};
pub(crate) use fused::{Fused, layout_of};
pub use joined::Member;
pub(crate) use joined::{Joined, members_of};
pub(crate) use lower::{
    Scalar, broadcast_index, elementwise, elementwise_at, extents, layout, operand, rearranged,
    reshaped_index,
};
pub(crate) use nest::{Effect, Fold, Nest, Opaque, Outside, Read, Source, Stage};
pub(crate) use stages::Stages;
