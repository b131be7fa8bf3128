//! All integration tests in one binary.

mod addition;
mod allocations;
mod api;
mod concurrency;
mod contrib;
mod early_opsets;
mod emulated;
mod emulated_models;
mod emulated_operators;
mod functions;
mod fusion_counts;
mod hostile;
mod limits;
mod malformed;
mod mutants;
mod operators;
mod outcome;
mod silero_vad;
