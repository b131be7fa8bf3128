//! Test suites of Recurve: what they share. Everything here sees the public API of `recurve` and nothing else.

pub mod against;
pub mod conformance;
pub mod drawn_inputs;
pub mod fusion_counts;
pub mod gpu;
pub mod gpu_coverage;
pub mod mutation;
pub mod npz;
pub mod wire;
