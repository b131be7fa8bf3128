//! Plans: a model's steps placed on workers, as a list of instructions for each.
//!
//! A binding and a [`Profile`](crate::profiles::Profile) make a scheduling instance; its schedule makes the phases and
//! instructions; these make offsets in the arena. A [`Plan`] is a document. Before it is followed, it is checked against the binding:
//! [`crate::exec::Course`].

mod antichain;
mod build;
mod causality;
mod device;
mod document;
mod error;
mod instance;
mod instruction;
mod memory;
mod mixed;
mod moves;
mod predict;
mod random;
mod rewrite;
mod segments;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use build::{AsItIs, Built, DeviceSite, Draft, Planned, Site, build, model_hash, prepare};
pub(crate) use causality::Causality;
pub(crate) use device::DeviceCosts;
pub use document::{BroughtWeights, Plan, PlannedCopy, PlannedDevice, PlannedInput, PlannedStep, Timing};
pub use error::PlanError;
pub(crate) use instance::step_work;
pub use instruction::{Instruction, Phase};
#[cfg(test)]
pub(crate) use instruction::{Lane, phases};
pub(crate) use instruction::{gang_sizes, led_steps};
pub(crate) use memory::Lifetimes;
pub(crate) use mixed::{Forced, Goal, ParetoPoint, beside, pareto, room_offset};
pub(crate) use moves::{Bring, Ground, Move, Moves, SpaceBytes, There};
pub(crate) use random::{random_on_device, random_plan};
pub(crate) use rewrite::{Rewrite, directions_apart};
pub(crate) use segments::{BETWEEN, name as segment_name, segments};
pub(crate) use streams::{Given, Turns};
