//! Constants captured by bodies become constants of the bodies, so that they can be folded and packed there.

use crate::graph::model::Graph;
use crate::ops::attributes::Body;
use std::collections::HashSet;

/// Moves captured constants into the bodies that capture them.
pub(super) fn sink_constants(graph: &mut Graph) -> bool {
    let mut changed = false;
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let bodies = node.op.bodies();
        if bodies.is_empty() {
            continue;
        }
        let captures: usize = bodies.iter().map(|b| b.graph.inputs.len() - b.formal_inputs).sum();
        let Some(mut at) = node.inputs.len().checked_sub(captures) else { continue };
        let mut sunk = HashSet::new();
        let mut replaced: Vec<Body> = Vec::with_capacity(bodies.len());
        for body in bodies {
            let mut body = body.clone();
            let mut kept = body.graph.inputs[..body.formal_inputs].to_vec();
            let captured = body.graph.inputs.split_off(body.formal_inputs);
            for inner in captured {
                match node.inputs[at].and_then(|id| graph.constant(id)) {
                    Some(constant) => {
                        body.graph.values[inner.index()].constant = Some(constant.clone());
                        sunk.insert(at);
                    }
                    None => kept.push(inner),
                }
                at += 1;
            }
            body.graph.inputs = kept;
            replaced.push(body);
        }
        if sunk.is_empty() {
            continue;
        }
        if let Some(op) = node.op.with_bodies(replaced) {
            let node = &mut graph.nodes[index];
            node.op = op;
            let mut position = 0;
            node.inputs.retain(|_| {
                position += 1;
                !sunk.contains(&(position - 1))
            });
            changed = true;
        }
    }
    changed
}
