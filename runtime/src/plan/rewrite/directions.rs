//! A recurrence of both directions becomes one of each, whose outputs are joined.
//!
//! Holds where the weights are constants. The directions share nothing but X and the lengths, so that every element is
//! computed as before.

use super::{concat, slice};
use crate::graph::{Graph, Node, ValueId};
use crate::ops::recurrence::Recurrence;
use std::sync::Arc;

/// Inputs that have a plane for each direction along their first axis: W, R, B, P.
const WEIGHTS: [usize; 4] = [1, 2, 3, 7];
/// Inputs that have a plane for each direction: the initial states.
const STATES: [usize; 2] = [5, 6];

/// The graph with every such recurrence taken apart; `None` where there is none.
pub(crate) fn apart(graph: &Graph) -> Option<Graph> {
    let mut made = graph.clone();
    made.nodes.clear();
    let mut found = false;
    for node in &graph.nodes {
        let mut nodes = Vec::new();
        // What a refused attempt has added to the values stays there unused.
        let both = node.op.recurrence().filter(|r| r.directions.len() == 2);
        match both.and_then(|both| split(&mut made, &mut nodes, node, both)) {
            Some(()) => {
                found = true;
                made.nodes.append(&mut nodes);
            }
            None => made.nodes.push(node.clone()),
        }
    }
    found.then_some(made)
}

fn split(graph: &mut Graph, nodes: &mut Vec<Node>, node: &Node, both: &Recurrence) -> Option<()> {
    // Axis of the directions in the states, and in Y.
    let (state_axis, sequence_axis) = if both.batch_first { (1, 2) } else { (0, 1) };
    let mut outputs: Vec<Vec<ValueId>> = vec![Vec::new(); node.outputs.len()];
    for (at, direction) in both.directions.iter().enumerate() {
        let mut inputs = node.inputs.clone();
        for index in WEIGHTS {
            if let Some(id) = inputs.get(index).copied().flatten() {
                let part = graph.constant(id)?.part_of_first_axis(at, 1)?;
                let name = format!("{}[{at}]", graph.value(id).name);
                inputs[index] = Some(graph.add_constant(name, part));
            }
        }
        for index in STATES {
            if let Some(id) = inputs.get(index).copied().flatten() {
                inputs[index] = Some(slice(graph, nodes, id, state_axis, [at, at + 1])?);
            }
        }
        let mut single = both.clone();
        single.directions = vec![direction.clone()];
        single.packing = Arc::default();
        let name: Arc<str> =
            format!("{}/{}", node.name, if direction.reverse { "reverse" } else { "forward" }).into();
        let own = node.outputs.iter().zip(&mut outputs).map(|(id, parts)| {
            id.as_ref()?;
            let part = graph.add_value(name.clone());
            parts.push(part);
            Some(part)
        });
        let own = own.collect();
        nodes.push(Node { name, def: node.def, op: node.op.with_recurrence(single)?, inputs, outputs: own });
    }
    for (at, (id, parts)) in node.outputs.iter().zip(&outputs).enumerate() {
        if let Some(id) = id {
            concat(graph, nodes, parts, if at == 0 { sequence_axis } else { state_axis }, *id)?;
        }
    }
    Some(())
}
