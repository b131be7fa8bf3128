//! An `If` whose condition is a constant becomes the nodes of the branch that it takes.

use super::redirect;
use crate::graph::model::{Graph, Node, ValueId};
use crate::tensor::Tensor;

/// Inlines the branches of conditions that are known.
pub(super) fn inline_known_branches(graph: &mut Graph) -> bool {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut replaced: Vec<(ValueId, ValueId)> = Vec::new();
    let mut changed = false;
    for node in nodes {
        match known_condition(graph, &node) {
            Some(then) => {
                inline(graph, &node, then, &mut replaced);
                changed = true;
            }
            None => graph.nodes.push(node),
        }
    }
    let mut map = vec![None; graph.values.len()];
    for (from, to) in replaced {
        map[from.index()] = Some(to);
    }
    redirect(graph, &map);
    changed
}

fn known_condition(graph: &Graph, node: &Node) -> Option<bool> {
    if node.def.name != "If" || !node.def.domain.is_empty() {
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
