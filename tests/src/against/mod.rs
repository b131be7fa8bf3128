//! The comparison with ONNX Runtime: random models of one node, run by both.

mod deviations;
mod judge;
mod server;
mod tally;

pub use deviations::Deviations;
pub use judge::{Verdict, judge};
pub use server::Server;
pub use tally::Tally;
