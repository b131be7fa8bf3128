//! Heterogeneous DAG scheduling: tasks, tensors and a machine in, a schedule out.
//!
//! The scheduler knows costs, bytes, processors and channels, and neither operators nor devices.
//! [`Instance`] is the document, [`Problem`] its checked flat form, [`Schedule`] the result.
//! The protocol between the parts is in `README.md` beside this file.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod algorithm;
mod answer;
mod bounds;
#[cfg(feature = "command")]
pub mod command;
mod compile;
mod cpop;
mod csr;
mod disjunctive;
mod error;
mod evaluation;
mod exact;
mod gantt;
pub mod generate;
mod groups;
mod heft;
mod incremental;
mod instance;
mod local_search;
mod lookahead;
mod machine;
mod memory_mode;
mod neighbourhood;
mod objective;
mod partial;
mod peak;
mod peak_order;
mod peft;
mod perturbed;
mod portfolio;
mod postponed;
mod problem;
mod random;
mod rank;
mod replay;
mod routes;
mod schedule;
mod sequence;
mod single;
mod timeline;
mod trace;
mod validate;

pub use algorithm::Algorithm;
pub use answer::{Answer, Point};
pub use bounds::Bounds;
pub use error::{Error, ErrorKind, Kind};
pub use gantt::{GanttWords, gantt, gantt_in_words};
pub use instance::{Instance, Task, Tensor, Weight, WeightBytes};
pub use local_search::Budget;
pub use machine::{Link, Machine, Memory, Processor};
pub use memory_mode::Frugal;
pub use perturbed::Spread;
pub use portfolio::{Found, Search};
pub use problem::Problem;
pub use random::Random;
pub use schedule::{Run, Schedule, Transfer};
pub use trace::trace;
pub use validate::{Verdict, Violation};
