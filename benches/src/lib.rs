//! What the benchmarks of Recurve share: graphs of any size, written as exporters write them.

pub mod branches;
pub mod graphs;
pub mod recurrences;
mod wire;
