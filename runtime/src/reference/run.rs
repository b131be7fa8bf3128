//! Runs a graph through the operators' references.

use super::tensor::{RefInputs, RefTensor, RefValue};
use crate::graph::{Graph, NodeError};

/// Outputs of `graph` for `inputs`, one per graph input.
pub(crate) fn run_graph(graph: &Graph, inputs: &[RefValue]) -> Result<Vec<RefValue>, NodeError> {
    let outside = |name: &str, source| NodeError { node: name.into(), op: "value".into(), source };
    let mut values: Vec<Option<RefValue>> = Vec::with_capacity(graph.values.len());
    for value in &graph.values {
        let constant = value.constant.as_ref().map(RefTensor::from_tensor).transpose();
        values.push(constant.map_err(|e| outside(&value.name, e))?.map(RefValue::Tensor));
    }
    for (id, value) in graph.inputs.iter().zip(inputs) {
        values[id.index()] = Some(value.clone());
    }
    for node in &graph.nodes {
        let given: Vec<Option<&RefValue>> =
            node.inputs.iter().map(|id| id.and_then(|id| values[id.index()].as_ref())).collect();
        let made = node.op.reference(&RefInputs(&given)).map_err(|e| NodeError::new(node, e))?;
        for (id, value) in node.outputs.iter().zip(made) {
            if let Some(id) = id {
                values[id.index()] = Some(value);
            }
        }
    }
    graph
        .outputs
        .iter()
        .map(|id| {
            let name = &graph.value(*id).name;
            values[id.index()]
                .clone()
                .ok_or_else(|| outside(name, crate::error::OpError::internal("output is never written")))
        })
        .collect()
}
