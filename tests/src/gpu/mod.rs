//! Suites on a GPU, or on the emulated one: kernels, operators and models, from the cases that CI runs.

mod kernels;
mod machine;
mod models;
mod operators;
mod report;

pub use kernels::{Chosen, kernels};
pub use machine::Guarded;
pub use models::{ModelCase, models, run_model};
pub use operators::operators_on;
pub use report::{Section, Tally};
