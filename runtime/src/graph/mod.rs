//! The graph: operators in topological order over values, with what is known about each value.

pub(crate) mod dim;
pub(crate) mod fact;
mod check;
mod infer;
mod model;
mod simplify;

pub use dim::Dim;
pub use fact::{Content, Fact, TensorFact};
pub(crate) use check::check;
pub(crate) use infer::{infer, merge};
pub(crate) use simplify::simplify;
pub(crate) use model::{Graph, Node, NodeError, ValueId, ValueInfo};
