//! Execution: worker threads, interruption, and programs bound to shapes.

mod access;
mod arena;
mod bind;
mod cores;
mod course;
mod evaluate;
mod flags;
mod follow;
mod interrupt;
mod node_times;
mod offsets;
mod placed;
mod program;
mod run;
mod settle;
mod sync;
mod team;
mod views;
mod walk;

pub use access::Space;
pub(crate) use access::{Access, Accesses, Form, StepForm};
pub(crate) use bind::{Bound, FOLD_LIMIT, known_outputs};
pub(crate) use course::Course;
pub(crate) use evaluate::evaluate;
pub(crate) use flags::Flags;
pub use interrupt::CancelToken;
pub(crate) use interrupt::Interrupt;
pub use node_times::{NodeTime, NodeTimes, RunEvent, RunLane};
pub(crate) use offsets::{Tenant, assign_offsets, assign_where, place_of};
pub(crate) use placed::{DeviceForm, Operand, Sizes};
pub(crate) use program::{BuildContext, Program, fact_of};
pub(crate) use run::{RunOnce, store};
pub(crate) use settle::settled_graph;
pub(crate) use team::{SPIN, Stop, Team};
pub(crate) use views::standing;
