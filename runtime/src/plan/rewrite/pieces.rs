//! A recurrence over a sequence becomes several, each over a piece of it, which hand the state on: so that the layer above
//! can begin with the first piece while this one goes on with the second, a wave over layers and pieces.
//!
//! Holds for one direction forward, without lengths, where the state that is handed on has the type that is computed
//! with. Pieces choose kernels as the whole does ([`Pieces`]), so that every sum is taken in the order in which it was.

use super::{concat, slice};
use crate::cpu::recurrent::Pieces;
use crate::graph::{Fact, Graph, Node, ValueId, infer};
use crate::ops::recurrence::Recurrence;
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Fewest steps of a piece: what begins and ends a kernel is not worth less.
const FEWEST_STEPS: usize = 4;

/// The graph with such recurrences in `count` pieces; `None` where there are not two of them, since one alone gains
/// nothing.
pub(super) fn pieces(graph: &Graph, inputs: &[Fact], count: usize) -> Option<Graph> {
    let facts = infer(graph, inputs).ok()?;
    let mut made = graph.clone();
    made.nodes.clear();
    let mut found = 0;
    for node in &graph.nodes {
        let mut nodes = Vec::new();
        match cut(&mut made, &mut nodes, node, &facts, count) {
            Some(()) => {
                found += 1;
                made.nodes.append(&mut nodes);
            }
            None => made.nodes.push(node.clone()),
        }
    }
    (found > 1).then_some(made)
}

fn cut(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    node: &Node,
    facts: &[Option<Fact>],
    count: usize,
) -> Option<()> {
    let recurrence: &Recurrence = node.op.recurrence()?;
    let forward = recurrence.directions.len() == 1 && !recurrence.directions[0].reverse;
    let input = |index: usize| node.inputs.get(index).copied().flatten();
    if !forward || input(4).is_some() {
        return None;
    }
    // Where nobody reads Y, nobody reads a piece of it.
    let y = node.outputs.first().copied().flatten()?;
    let tensor = |index: usize| facts.get(input(index)?.index())?.as_ref()?.tensor();
    let (x, r) = (tensor(0)?, tensor(2)?);
    let shape = x.known_shape()?;
    let time_axis = usize::from(recurrence.batch_first);
    let (time, batch) = (*shape.get(time_axis)?, *shape.get(1 - time_axis)?);
    let (width, hidden) = (*shape.get(2)?, *r.known_shape()?.get(2)?);
    if time / count < FEWEST_STEPS {
        return None;
    }
    let pieces = Pieces::new(recurrence, x.dtype, [time, batch, width, hidden])?;

    let mut parts: Vec<ValueId> = Vec::new();
    let mut states = [input(5), input(6)];
    let mut start = 0;
    while start < time {
        let end = pieces.end(parts.len(), count);
        let piece = pieces.blocks(start..end);
        let op = node.op.with_recurrence(Recurrence { piece, ..recurrence.clone() })?;
        let mut inputs = node.inputs.clone();
        inputs[0] = Some(slice(graph, nodes, input(0)?, time_axis, [start, end])?);
        for (index, state) in [5, 6].into_iter().zip(states) {
            if state.is_some() {
                inputs.resize(inputs.len().max(index + 1), None);
                inputs[index] = state;
            }
        }
        let name: Arc<str> = format!("{}/{start}", node.name).into();
        let last = end == time;
        let own: Vec<Option<ValueId>> =
            (0..node.outputs.len().max(2 + usize::from(recurrence.has_cell_state())))
                .map(|at| match (at, last) {
                    (0, _) => {
                        let part = graph.add_value(name.clone());
                        parts.push(part);
                        Some(part)
                    }
                    (_, true) => node.outputs.get(at).copied().flatten(),
                    (_, false) => Some(graph.add_value(name.clone())),
                })
                .collect();
        states = [own.get(1).copied().flatten(), own.get(2).copied().flatten()];
        nodes.push(Node { name, def: node.def, op, inputs, outputs: own });
        start = end;
    }
    concat(graph, nodes, &parts, time_axis, y)
}
