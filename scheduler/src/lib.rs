//! Heterogeneous DAG scheduling.
//!
//! This room is empty: the scheduler is not written yet.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
