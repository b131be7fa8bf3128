//! All integration tests in one binary.

mod addition;
mod allocations;
mod api;
mod arenas;
mod bodies;
mod brought_plans;
mod compact_weights;
mod concurrency;
// The models that benchmarks run too.
#[path = "../../../benches/src/branches.rs"]
#[allow(dead_code, unreachable_pub, reason = "benchmarks use all of it")]
mod branches;
mod contrib;
mod early_opsets;
mod emulated;
mod emulated_classifiers;
mod emulated_flow;
mod emulated_launches;
mod emulated_models;
mod emulated_networks;
mod emulated_operators;
mod emulated_precision;
mod emulated_random;
mod encodings;
mod functions;
mod fused_models;
mod fusion_counts;
mod gpu_coverage;
mod hostile;
mod kept_plans;
mod layouts;
mod lean_plans;
mod limits;
mod malformed;
mod mixed;
mod mutants;
mod network;
mod operators;
mod outcome;
mod planned;
mod precision;
mod profiles;
#[path = "../../../benches/src/recurrences.rs"]
#[allow(dead_code, unreachable_pub, reason = "benchmarks use all of it")]
mod recurrences;
mod rewritten;
mod segments;
mod shape_branches;
mod silero_vad;
mod simplified;
mod steady_state;
mod streams;
mod wavefronts;
#[path = "../../../benches/src/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "benchmarks use all of it")]
mod wire;
