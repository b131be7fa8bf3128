//! Benchmarks of Recurve: criterion groups and the peers runner.
