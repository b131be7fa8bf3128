//! Benchmarks of Recurve: criterion groups, the models that they run, and the peers runner.

pub mod models;
