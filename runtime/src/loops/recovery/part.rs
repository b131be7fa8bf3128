//! Values that are one slice of a tensor.

use super::index::Index;
use crate::graph::fact::Facts;
use crate::graph::{Fact, Graph, ValueId};
use crate::ops::Selection;

/// One slice of `source`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) source: ValueId,
    pub(super) selection: Selection,
}

/// The part of another value that `id` is.
pub(super) fn part_of(graph: &Graph, index: &Index, facts: &[Option<Fact>], id: ValueId) -> Option<Part> {
    let (at, output) = index.writer(id)?;
    let node = &graph.nodes[at];
    let source = node.inputs.first().copied().flatten()?;
    let fact = |id: &Option<ValueId>| id.and_then(|id| facts.get(id.index())?.as_ref());
    let given: Vec<Option<&Fact>> = node.inputs.iter().map(fact).collect();
    // Only an operator of several outputs asks for the facts of those before.
    let before: Option<Vec<Fact>> = node.outputs[..=output].iter().map(|id| fact(id).cloned()).collect();
    let made = match before {
        Some(made) => made,
        None => node.op.infer(Facts(&given)).ok()?,
    };
    let selection = node.op.selection(Facts(&given), &made, output)?;
    Some(Part { source, selection })
}

/// The same where it is a single slice.
pub(super) fn element_of(graph: &Graph, index: &Index, facts: &[Option<Fact>], id: ValueId) -> Option<Part> {
    part_of(graph, index, facts, id).filter(|p| p.selection.count == 1)
}
