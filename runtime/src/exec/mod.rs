//! Execution: worker threads, interruption, and programs bound to shapes.

mod arena;
mod bind;
mod interrupt;
mod program;
mod run;
mod team;

pub use interrupt::CancelToken;
pub(crate) use interrupt::Interrupt;
pub(crate) use program::{BuildContext, Program, fact_of};
pub(crate) use team::{Stop, Team};
