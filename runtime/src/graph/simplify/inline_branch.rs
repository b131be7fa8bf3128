//! An `If` whose condition is a constant becomes the nodes of the branch that it takes.

use super::redirect;
use crate::graph::model::{Graph, Node, ValueId};
use crate::tensor::Tensor;

/// Inlines the branches of conditions that are known.
pub(super) fn inline_known_branches(graph: &mut Graph) -> bool {
    let known = |node: &Node| known_condition(graph, node);
    let taken: Vec<Option<bool>> = graph.nodes.iter().map(known).collect();
    let changed = taken.iter().any(Option::is_some);
    take_branches(graph, &taken);
    changed
}

/// Puts the nodes of a branch in the place of each `If` for whose position `taken` says which one: `then_branch` where it
/// holds.
pub(crate) fn take_branches(graph: &mut Graph, taken: &[Option<bool>]) {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut replaced: Vec<(ValueId, ValueId)> = Vec::new();
    for (node, then) in nodes.into_iter().zip(taken) {
        match then {
            Some(then) => inline(graph, &node, *then, &mut replaced),
            None => graph.nodes.push(node),
        }
    }
    let mut map = vec![None; graph.values.len()];
    for (from, to) in replaced {
        map[from.index()] = Some(to);
    }
    redirect(graph, &map);
}

/// Whether `node` is an `If`.
pub(crate) fn is_branching(node: &Node) -> bool {
    node.def.name == "If" && node.def.domain.is_empty()
}

/// Whether `graph` has an `If` whose condition follows from shapes alone, as far as no shape depends on data.
pub(crate) fn has_branches_of_shapes(graph: &Graph) -> bool {
    let mut follows: Vec<bool> = graph.values.iter().map(|value| value.constant.is_some()).collect();
    graph.nodes.iter().any(|node| {
        let condition = node.inputs.first().copied().flatten();
        if is_branching(node) && condition.is_some_and(|id| follows[id.index()]) {
            return true;
        }
        let from_shapes = node.def.domain.is_empty() && matches!(node.def.name, "Shape" | "Size");
        let given = || node.inputs.iter().flatten().all(|id| follows[id.index()]);
        let known = from_shapes || node.op.bodies().is_empty() && node.op.is_deterministic() && given();
        node.outputs.iter().flatten().for_each(|id| follows[id.index()] = known);
        false
    })
}

fn known_condition(graph: &Graph, node: &Node) -> Option<bool> {
    if !is_branching(node) {
        return None;
    }
    let condition: &Tensor = graph.constant((*node.inputs.first()?)?)?;
    condition.to_vec::<crate::dtype::Bool>()?.first().map(|b| b.get())
}

fn inline(graph: &mut Graph, node: &Node, then: bool, replaced: &mut Vec<(ValueId, ValueId)>) {
    let bodies = node.op.bodies();
    let (Some(first), Some(second)) = (bodies.first(), bodies.get(1)) else { return };
    let (body, offset) = if then { (first, 1) } else { (second, 1 + first.graph.inputs.len()) };
    let inner = &body.graph;
    // Every value of the body gets a place in the outer graph: a capture the captured value, the rest new ones.
    let mut outer: Vec<Option<ValueId>> = vec![None; inner.values.len()];
    for (i, id) in inner.inputs.iter().enumerate() {
        outer[id.index()] = node.inputs.get(offset + i).copied().flatten();
    }
    for (value, place) in inner.values.iter().zip(&mut outer) {
        if place.is_none() {
            let id = graph.add_value(value.name.clone());
            graph.values[id.index()] = value.clone();
            *place = Some(id);
        }
    }
    let at = |id: &Option<ValueId>| id.and_then(|id| outer[id.index()]);
    for n in &inner.nodes {
        graph.nodes.push(Node {
            inputs: n.inputs.iter().map(at).collect(),
            outputs: n.outputs.iter().map(at).collect(),
            ..n.clone()
        });
    }
    for (from, to) in node.outputs.iter().zip(&inner.outputs) {
        if let (Some(from), Some(to)) = (from, outer[to.index()]) {
            replaced.push((*from, to));
        }
    }
}
