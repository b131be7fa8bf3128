//! Execution: worker threads, interruption, and programs bound to shapes.

mod arena;
mod bind;
mod interrupt;
mod node_times;
mod program;
mod run;
mod team;
mod views;

pub(crate) use arena::{Tenant, assign_offsets};
pub(crate) use bind::known_outputs;
pub use interrupt::CancelToken;
pub(crate) use interrupt::Interrupt;
pub use node_times::{NodeTime, NodeTimes};
pub(crate) use program::{BuildContext, Program, fact_of};
pub(crate) use run::{evaluate, store};
pub(crate) use team::{Stop, Team};
