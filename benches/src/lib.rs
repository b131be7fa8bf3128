//! What the benchmarks of Recurve share: graphs of any size, written as exporters write them; measurements on a GPU;
//! and the run of everything that is to be seen on one.

pub mod branches;
pub mod gpu;
pub mod gpu_run;
pub mod graphs;
pub mod growth;
pub mod layers;
pub mod recurrences;
pub mod spelled;
mod wire;
