//! The reference execution: every operator from its specification, floats in f64, integers exactly, serially.
//! It shares nothing with the kernels that it judges.

pub(crate) mod recurrence;
mod run;
mod tensor;

pub(crate) use run::run_graph;
pub(crate) use tensor::{RefData, RefInputs, RefTensor, RefValue};
