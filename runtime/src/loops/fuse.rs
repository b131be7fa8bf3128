//! The pass: lowers the nodes of a graph, groups them, and puts one node in the place of each group.

use super::fused::Fused;
use super::group::{Apart, Candidate, Group, group};
use crate::dtype::DType;
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Graph, Node, ValueId, infer};
use crate::ops::OpName;
use std::collections::HashMap;
use std::sync::Arc;

/// What the pass did and did not do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Names of the nodes that each fused node, by its name, consists of.
    pub(crate) fused: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// Producer and reader that stayed apart, and why.
    pub(crate) apart: Vec<(Arc<str>, Arc<str>, Apart)>,
}

/// Fuses what can and should be, in `graph` and in its bodies. A graph whose inputs have no declared facts is left
/// as it is.
pub(crate) fn fuse(mut graph: Graph, inputs: &[Fact]) -> (Graph, Report) {
    let Ok(facts) = infer(&graph, inputs) else { return (graph, Report::default()) };
    let mut report = Report::default();
    for node in &mut graph.nodes {
        fuse_bodies(node, &facts, &mut report);
    }
    let nodes = candidates(&graph, &facts);
    let kept: Vec<usize> = graph.outputs.iter().map(|id| id.index()).collect();
    let grouping = group(&nodes, graph.values.len(), &kept, &facts);
    let name = |at: usize| graph.nodes[at].name.clone();
    report.apart.extend(grouping.apart.iter().map(|(a, b, why)| (name(*a), name(*b), why.clone())));
    let mut replaced: HashMap<usize, Node> = HashMap::new();
    let mut gone = vec![false; graph.nodes.len()];
    for group in &grouping.groups {
        let Some(node) = fused_node(&graph, group) else { continue };
        report.fused.push((node.name.clone(), group.members.iter().map(|&m| name(m)).collect()));
        group.members.iter().for_each(|&m| gone[m] = true);
        replaced.extend(group.members.last().map(|&last| (last, node)));
    }
    let nodes = std::mem::take(&mut graph.nodes);
    graph.nodes = nodes
        .into_iter()
        .enumerate()
        .filter_map(|(at, node)| replaced.remove(&at).or((!gone[at]).then_some(node)))
        .collect();
    (graph, report)
}

fn fuse_bodies(node: &mut Node, facts: &[Option<Fact>], report: &mut Report) {
    if node.op.bodies().is_empty() {
        return;
    }
    let given: Vec<Option<&Fact>> =
        node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
    let Some(inputs) = node.op.body_inputs(Facts(&given)) else { return };
    let mut made = Vec::new();
    for (body, inputs) in node.op.bodies().into_iter().zip(inputs) {
        let (graph, inner) = fuse(body.graph.clone(), &inputs);
        let within = |name: Arc<str>| Arc::from(format!("{}/{}/{name}", node.name, body.graph.name));
        report.fused.extend(inner.fused);
        report.apart.extend(inner.apart.into_iter().map(|(a, b, why)| (within(a), within(b), why)));
        made.push(crate::ops::attributes::Body { graph, formal_inputs: body.formal_inputs });
    }
    if let Some(op) = node.op.with_bodies(made) {
        node.op = op;
    }
}

/// The nodes of `graph` as grouping sees them.
pub(super) fn candidates(graph: &Graph, facts: &[Option<Fact>]) -> Vec<Candidate> {
    graph.nodes.iter().map(|node| candidate(node, facts)).collect()
}

fn candidate(node: &Node, facts: &[Option<Fact>]) -> Candidate {
    let given: Vec<Option<&Fact>> =
        node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
    let made: Option<Vec<Fact>> =
        node.outputs.iter().map(|id| id.and_then(|id| facts[id.index()].clone())).collect();
    // A nest makes the first output; a node with others is left as it is.
    let nest = match &made {
        Some(made) if made.len() == 1 && node.op.is_deterministic() => node.op.nest(Facts(&given), made),
        _ => Err(super::nest::Opaque::Operator),
    };
    let space = made.as_ref().and_then(|made| {
        let fact = made.first()?.tensor()?;
        Some((fact.shape.clone()?, fact.dtype.bits() / 8))
    });
    let rows = node.op.epilogue_rows(Facts(&given)).filter(|_| {
        let absent = node.inputs.iter().position(Option::is_none).unwrap_or(node.inputs.len());
        keeps_type(made.as_deref()) && node.inputs[absent..].iter().all(Option::is_none)
    });
    Candidate {
        nest,
        rows,
        inputs: node.inputs.iter().map(|id| id.map(ValueId::index)).collect(),
        outputs: node.outputs.iter().flatten().map(|id| id.index()).collect(),
        space,
    }
}

/// Whether results are computed in the type that they are stored in, so that an epilogue sees what would be stored.
fn keeps_type(made: Option<&[Fact]>) -> bool {
    let dtype = made.and_then(|m| m.first()?.tensor()).map(|t| t.dtype);
    matches!(dtype, Some(DType::F32 | DType::F64))
}

/// The node that stands for `group`.
fn fused_node(graph: &Graph, group: &Group) -> Option<Node> {
    let &last = group.members.last()?;
    let sink = &graph.nodes[last];
    let output = sink.outputs.first().copied().flatten()?;
    let mut inner = Graph { name: sink.name.clone(), ..Graph::default() };
    let mut local: HashMap<ValueId, ValueId> = HashMap::new();
    let mut inputs: Vec<ValueId> = Vec::new();
    let made: Vec<ValueId> =
        group.members.iter().flat_map(|&m| graph.nodes[m].outputs.iter().flatten().copied()).collect();
    let anchor = group.anchor.and_then(|a| group.members.iter().position(|&m| m == a));
    // The contraction's operands come first, each for itself even where two are one value.
    let order =
        group.anchor.into_iter().chain(group.members.iter().copied().filter(|m| Some(*m) != group.anchor));
    for member in order {
        for &id in graph.nodes[member].inputs.iter().flatten() {
            let of_anchor = Some(member) == group.anchor;
            if made.contains(&id) || (!of_anchor && local.contains_key(&id)) {
                continue;
            }
            let value = inner.add_value(graph.value(id).name.clone());
            inner.inputs.push(value);
            inputs.push(id);
            local.insert(id, value);
        }
    }
    for &id in &made {
        let value = inner.add_value(graph.value(id).name.clone());
        local.insert(id, value);
    }
    let mut anchor_operand = 0;
    for &member in &group.members {
        let node = &graph.nodes[member];
        let mut copy = node.clone();
        for id in copy.inputs.iter_mut().flatten() {
            *id = if Some(member) == group.anchor {
                anchor_operand += 1;
                inner.inputs[anchor_operand - 1]
            } else {
                local[id]
            };
        }
        copy.outputs.iter_mut().flatten().for_each(|id| *id = local[id]);
        inner.nodes.push(copy);
    }
    inner.outputs.push(local[&output]);
    let name = if anchor.is_some() { "FusedContraction" } else { "FusedMap" };
    Some(Node {
        name: sink.name.clone(),
        def: OpName { domain: "recurve", name },
        op: Arc::new(Fused { graph: inner, anchor }),
        inputs: inputs.into_iter().map(Some).collect(),
        outputs: vec![Some(output)],
    })
}
