//! The reference execution: every operator from its specification, floats in f64, integers exactly, serially.
//! It shares nothing with the kernels that it judges.

mod attention;
mod elementwise;
mod movement;
mod narrow;
pub(crate) mod recurrence;
mod resize;
mod run;
mod stack;
mod tensor;

pub(crate) use attention::RefAttention;
pub(crate) use movement::{joined, scattered};
pub(crate) use narrow::NarrowRounding;
pub(crate) use resize::RefResize;
pub(crate) use run::run_graph;
pub(crate) use stack::stack_slices;
pub(crate) use tensor::{RefData, RefInputs, RefTensor, RefValue, wrap};
