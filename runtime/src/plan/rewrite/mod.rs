//! Graphs that do the same as a model's and have more in them that can run side by side.
//!
//! Each rewrite keeps every bit of every output. The scheduler is offered all of them, and a plan takes the one with which
//! it is predicted to end first.

mod directions;
mod pieces;

pub(crate) use directions::apart as directions_apart;

use crate::graph::{Fact, Graph, Node, ValueId};
use crate::ops::attributes::{Attribute, NodeSpec};
use crate::ops::find;
use std::cell::Cell;

/// Numbers of pieces of a sequence that are tried.
const PIECES: [usize; 3] = [2, 4, 8];
/// Nodes beyond which a rewritten graph is not tried.
const MOST_NODES: usize = 4096;

/// The rewrites of `graph` for inputs of these facts, with their names; `apart` is what [`directions_apart`] gives.
pub(crate) fn rewrites(graph: &Graph, apart: Option<&Graph>, inputs: &[Fact]) -> Vec<(String, Graph)> {
    let mut made = Vec::new();
    for count in PIECES {
        let named = |prefix: &str| format!("{prefix}pieces {count}");
        made.extend(pieces::pieces(graph, inputs, count).map(|g| (named(""), g)));
        let of_apart = apart.and_then(|graph| pieces::pieces(graph, inputs, count));
        made.extend(of_apart.map(|g| (named("directions, "), g)));
    }
    made.extend(apart.map(|g| ("directions".to_owned(), g.clone())));
    made.retain(|(_, graph)| graph.nodes.len() <= MOST_NODES);
    made
}

/// `x[start..end]` along `axis`.
fn slice(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    x: ValueId,
    axis: usize,
    [start, end]: [usize; 2],
) -> Option<ValueId> {
    let ints = |value: usize| Attribute::Ints(vec![value as i64]);
    let attributes = vec![("axes", ints(axis)), ("starts", ints(start)), ("ends", ints(end))];
    // The last version that has its bounds as attributes.
    one(graph, nodes, "Slice", 9, attributes, &[x])
}

/// `parts` one behind the other along `axis`, written to `to`.
fn concat(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    parts: &[ValueId],
    axis: usize,
    to: ValueId,
) -> Option<()> {
    let axis = vec![("axis", Attribute::Int(axis as i64))];
    one(graph, nodes, "Concat", 13, axis, parts)?;
    nodes.last_mut()?.outputs = vec![Some(to)];
    Some(())
}

fn one(
    graph: &mut Graph,
    nodes: &mut Vec<Node>,
    op: &str,
    opset: i64,
    attributes: Vec<(&str, Attribute)>,
    inputs: &[ValueId],
) -> Option<ValueId> {
    let def = find("", op, opset)?;
    let spec = NodeSpec {
        attributes: attributes.into_iter().map(|(n, a)| (n.into(), a, Cell::new(false))).collect(),
        opset,
        inputs: vec![true; inputs.len()],
        outputs: vec![true],
    };
    let parsed = (def.parse)(&spec).ok()?;
    let name = format!("{}/{op}", graph.value(*inputs.first()?).name);
    let output = graph.add_value(name.clone());
    let inputs = inputs.iter().copied().map(Some).collect();
    nodes.push(Node {
        name: name.into(),
        def: def.op_name(),
        op: parsed,
        inputs,
        outputs: vec![Some(output)],
    });
    Some(output)
}
