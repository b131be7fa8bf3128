//! What operators cost on the devices of a machine: measured, kept, and estimated where they were not measured.
//!
//! A step's *signature* is its operator with its attributes, and the element types and shapes of what it reads and writes. A
//! [`Profile`] holds the measured time of each signature on each *lane*: `cpu:1` is one core, `cpu:2` two cores that
//! share the step, `cuda:0` a GPU. What was never measured is absent.

mod device;
mod handover;
mod machine;
mod measure;
mod profile;
mod roofline;
mod signature;
mod store;

pub(crate) use device::DeviceWork;
pub use device::{DeviceProfile, DeviceRates, DeviceSource};
pub use handover::Handover;
pub use machine::Machine;
pub(crate) use measure::measure;
pub use measure::{Effort, Measured};
pub(crate) use profile::BESIDE;
pub use profile::{LinkTime, OperatorCost, Profile, ProfileError};
pub(crate) use roofline::Rooflines;
pub(crate) use signature::{StepSignature, graph_hash};
pub use store::ProfileCache;

/// The lane of `threads` cores that share a step.
pub(crate) fn cpu_lane(threads: usize) -> String {
    format!("cpu:{threads}")
}
