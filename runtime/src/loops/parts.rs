//! Operators whose outputs are parts of one input, taken apart into one node for each part, so that each can become
//! part of what reads it.
//!
//! It holds for every operator that says which elements an output takes ([`crate::ops::Op::selection`]): the node of
//! an output makes that one alone, and its other outputs are not wanted. It costs nothing: parts that nothing takes up
//! become one node again.

use super::affine::Affine;
use super::lower::layout;
use super::nest::{Nest, Opaque};
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Graph, Node};
use crate::ops::Op;
use std::sync::Arc;

/// The nest of output `output` of `op`, where it is a part of input 0.
pub(super) fn part(op: &dyn Op, inputs: Facts<'_>, outputs: &[Fact], output: usize) -> Result<Nest, Opaque> {
    let selection = op.selection(inputs, outputs, output).ok_or(Opaque::Operator)?;
    let own = outputs.get(output..=output).ok_or(Opaque::Operator)?;
    layout(inputs, own, |from, to| {
        if from.len() != to.len() || selection.drops_axis {
            return None;
        }
        let mut index: Vec<Affine> = (0..from.len()).map(Affine::axis).collect();
        let start = i64::try_from(selection.start).ok()?;
        index[selection.axis] = Affine::axis(selection.axis).scaled(selection.step)?.shifted(start)?;
        Some(index)
    })
}

/// Takes nodes apart that make several parts.
pub(super) fn take_apart(graph: &mut Graph, facts: &[Option<Fact>]) {
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        if node.outputs.len() < 2 || !is_parts(&node, facts) {
            graph.nodes.push(node);
            continue;
        }
        for (at, id) in node.outputs.iter().enumerate().filter(|(_, id)| id.is_some()) {
            let mut outputs = vec![None; node.outputs.len()];
            outputs[at] = *id;
            graph.nodes.push(Node { outputs, ..node.clone() });
        }
    }
}

/// Puts neighbours together that [`take_apart`] made of one node.
pub(super) fn put_together(nodes: Vec<Node>) -> Vec<Node> {
    let mut out: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        match out.last_mut() {
            Some(last) if are_parts_of_one(last, &node) => {
                for (to, from) in last.outputs.iter_mut().zip(&node.outputs) {
                    *to = to.or(*from);
                }
            }
            _ => out.push(node),
        }
    }
    out
}

fn is_parts(node: &Node, facts: &[Option<Fact>]) -> bool {
    let given: Vec<Option<&Fact>> =
        node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
    // Only operators that make nothing but parts have selections.
    let Ok(outputs) = node.op.infer(Facts(&given)) else { return false };
    (0..node.outputs.len()).all(|output| node.op.selection(Facts(&given), &outputs, output).is_some())
}

fn are_parts_of_one(a: &Node, b: &Node) -> bool {
    Arc::ptr_eq(&a.op, &b.op)
        && a.inputs == b.inputs
        && a.outputs.len() == b.outputs.len()
        && a.outputs.len() > 1
        && a.outputs.iter().zip(&b.outputs).all(|(a, b)| a.is_none() || b.is_none())
}
