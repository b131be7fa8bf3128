//! The check of a graph as read: every node's facts are inferred, and all nodes that cannot run are reported
//! together.

use super::fact::{Fact, Facts, TensorFact};
use super::infer::infer_node;
use super::model::{Graph, NodeError, ValueId};
use crate::error::{OpError, Refusal};

/// Infers the graph's facts; nodes behind a refused one are left out. A contradiction in the model is an error
/// at once.
pub(crate) fn check(graph: &Graph, opset: i64) -> Result<Vec<Refusal>, NodeError> {
    let mut facts: Vec<Option<Fact>> = graph
        .values
        .iter()
        .map(|v| v.constant.as_ref().map(|t| TensorFact::constant(t.clone()).into()))
        .collect();
    for &id in &graph.inputs {
        facts[id.index()].clone_from(&graph.value(id).declared);
    }
    let mut refusals = Vec::new();
    for node in &graph.nodes {
        let reachable = node.inputs.iter().flatten().all(|id| facts[id.index()].is_some());
        if !reachable {
            continue;
        }
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        match infer_node(&*node.op, Facts(&given)) {
            Ok(made) => {
                for (id, fact) in node.outputs.iter().zip(made) {
                    if let Some(id) = id {
                        check_type(graph, *id, &fact).map_err(|source| NodeError::new(node, source))?;
                        facts[id.index()] = Some(fact);
                    }
                }
            }
            Err(reason) if is_refusal(&reason) => refusals.push(Refusal {
                node: node.name.to_string(),
                op: node.def.full_name(),
                opset,
                reason,
            }),
            Err(source) => return Err(NodeError::new(node, source)),
        }
    }
    Ok(refusals)
}

/// Errs where the model declares an output of another element type than it has. Declared shapes are hints.
fn check_type(graph: &Graph, id: ValueId, fact: &Fact) -> Result<(), OpError> {
    let value = graph.value(id);
    match (&value.declared, fact) {
        (Some(Fact::Tensor(declared)), Fact::Tensor(made)) if declared.dtype != made.dtype => {
            let name = &value.name;
            Err(OpError::value(format!(
                "output `{name}` is {}; the model declares {}",
                made.dtype, declared.dtype
            )))
        }
        _ => Ok(()),
    }
}

fn is_refusal(error: &OpError) -> bool {
    match error {
        OpError::Unsupported(_) | OpError::DType { .. } => true,
        OpError::Body { source, .. } => is_refusal(source),
        _ => false,
    }
}
