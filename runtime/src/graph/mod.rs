//! The graph: operators in topological order over values, with what is known about each value.

mod check;
mod cost;
pub(crate) mod dim;
pub(crate) mod fact;
mod infer;
mod model;
mod names;
mod simplify;

pub(crate) use check::check;
pub(crate) use cost::node_cost;
pub use dim::Dim;
pub use fact::{Content, Fact, Integer, TensorFact};
pub(crate) use infer::{infer, infer_named, infer_node, merge};
pub(crate) use model::{Graph, Node, NodeError, ValueId};
pub(crate) use names::distinct_names;
pub(crate) use simplify::{
    KnownFacts, Rewrites, exchange_weights, has_branches_of_shapes, is_branching, known_facts, redirect,
    remove_dead_code, simplify, take_branches,
};
