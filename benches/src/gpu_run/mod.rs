//! The run of everything that is to be seen on a GPU: sections as processes of their own, each with its time, so that each
//! survives another's failure; one JSON, one table and one log of all.

mod child;
mod plan;
mod sanitizer;
mod table;

pub use plan::{Plan, run};
