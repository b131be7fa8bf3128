//! New nodes for a graph, in the words of the newest operator set.

use crate::graph::{Graph, Node, ValueId};
use crate::ops::attributes::{Attribute, NodeSpec};
use crate::ops::{NEWEST_OPSET, find};
use crate::tensor::Tensor;
use std::cell::Cell;
use std::sync::Arc;

/// A node of operator `op` with `outputs` new values, not yet among the graph's nodes. `None` when the operator
/// refuses the attributes. The last `captures` inputs are captures of its body.
pub(in crate::loops) fn node(
    graph: &mut Graph,
    op: &str,
    attributes: Vec<(&str, Attribute)>,
    inputs: Vec<Option<ValueId>>,
    captures: usize,
    outputs: usize,
) -> Option<Node> {
    node_of(NEWEST_OPSET, graph, op, attributes, inputs, captures, outputs)
}

/// The same in the words of operator set `opset`.
pub(super) fn node_of(
    opset: i64,
    graph: &mut Graph,
    op: &str,
    attributes: Vec<(&str, Attribute)>,
    inputs: Vec<Option<ValueId>>,
    captures: usize,
    outputs: usize,
) -> Option<Node> {
    let def = find("", op, opset)?;
    let formal = inputs.len().checked_sub(captures)?;
    let spec = NodeSpec {
        attributes: attributes.into_iter().map(|(n, a)| (n.into(), a, Cell::new(false))).collect(),
        opset,
        inputs: inputs[..formal].iter().map(Option::is_some).collect(),
        outputs: vec![true; outputs],
    };
    let parsed = (def.parse)(&spec).ok()?;
    if spec.unread().is_some() {
        return None;
    }
    let source = inputs.iter().flatten().next().map(|id| graph.value(*id).name.clone());
    let name: Arc<str> = format!("{}/{op}", source.as_deref().unwrap_or("recovered")).into();
    let outputs = (0..outputs).map(|_| Some(graph.add_value(name.clone()))).collect();
    Some(Node { name, def: def.op_name(), op: parsed, inputs, outputs })
}

/// A node of one output and without captures, appended to `made`; its output.
pub(super) fn one(
    graph: &mut Graph,
    made: &mut Vec<Node>,
    op: &str,
    attributes: Vec<(&str, Attribute)>,
    inputs: &[ValueId],
) -> Option<ValueId> {
    let node = node(graph, op, attributes, inputs.iter().copied().map(Some).collect(), 0, 1)?;
    let output = node.outputs[0];
    made.push(node);
    output
}

/// A constant list of integers.
pub(in crate::loops) fn integers(graph: &mut Graph, values: &[i64]) -> Option<ValueId> {
    let tensor = Tensor::new(&[values.len()], values.to_vec()).ok()?;
    Some(graph.add_constant("integers", tensor))
}
