//! Plans: a model's steps placed on workers, as a list of instructions for each.
//!
//! A binding and a [`Profile`](crate::Profile) make a scheduling instance; its schedule makes the phases and instructions;
//! these make offsets in the arena. A [`Plan`] is a document. Before it is followed, it is checked against the binding:
//! [`crate::exec::Course`].

mod build;
mod causality;
mod document;
mod error;
mod instance;
mod instruction;
mod memory;
mod predict;
mod random;
mod rewrite;
#[cfg(test)]
mod tests;

pub(crate) use build::{Planned, Site, build, model_hash};
pub(crate) use causality::Causality;
pub use document::{Plan, PlannedInput, PlannedStep, Timing};
pub use error::PlanError;
pub(crate) use instance::step_work;
pub use instruction::{Instruction, Phase};
#[cfg(test)]
pub(crate) use instruction::{Lane, phases};
pub(crate) use memory::Lifetimes;
pub(crate) use random::random_plan;
pub(crate) use rewrite::rewrites;
