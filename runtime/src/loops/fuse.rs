//! The pass: lowers the nodes of a graph, groups them, and puts one node in the place of each group.

use super::alike::spell_alike;
use super::apart::Apart;
use super::candidate::{Candidate, candidates, device_candidates};
use super::fused::Fused;
use super::group::{Group, group};
use super::joined::Joined;
use super::parts::{put_together, take_apart};
use super::siblings::join_siblings;
use super::spelled_groups::spell_groups;
use super::stacked::stack_steps;
use super::strided::source_of;
use crate::graph::fact::{Fact, Facts};
use crate::graph::{Graph, Node, ValueId, has_branches_of_shapes, infer_named};
use crate::memory::Budget;
use crate::ops::OpName;
use std::collections::HashMap;
use std::sync::Arc;

/// What the pass did and did not do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// Names of the nodes that each fused node, by its name, consists of.
    pub(crate) fused: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// Nodes that took the place of several before groups were made.
    pub(crate) joined: Vec<Joined>,
    /// Producer and reader that stayed apart, and why.
    pub(crate) apart: Vec<(Arc<str>, Arc<str>, Apart)>,
}

/// When bodies are fused that have branches which the shapes of values decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BranchesOfShapes {
    /// With the graph, branch by branch.
    AsTheyAre,
    /// When the shapes are known: [`Graph::waits_for_shapes`].
    WhenBound,
}

/// Fuses what can and should be, in `graph` and in its bodies. A graph whose inputs have no declared facts is left
/// as it is.
pub(crate) fn fuse(
    graph: Graph,
    inputs: &[Fact],
    budget: &Budget,
    branches: BranchesOfShapes,
) -> (Graph, Report) {
    fuse_named(graph, inputs, &mut Settings { budget, branches, names: 0 })
}

/// What holds for a graph and its bodies.
struct Settings<'a> {
    budget: &'a Budget,
    branches: BranchesOfShapes,
    /// How many extents have been named.
    names: usize,
}

fn fuse_named(mut graph: Graph, inputs: &[Fact], settings: &mut Settings<'_>) -> (Graph, Report) {
    let budget = settings.budget;
    let Ok(mut facts) = infer_named(&graph, inputs, &mut settings.names) else {
        return (graph, Report::default());
    };
    let mut report = Report::default();
    let rewrites: [&dyn Fn(&mut Graph, &[Option<Fact>]) -> Option<Vec<Joined>>; 4] =
        [&stack_steps, &spell_groups, &|graph, facts| spell_alike(graph, facts, budget), &|graph, facts| {
            join_siblings(graph, facts, budget)
        }];
    for rewrite in rewrites {
        if let Some(joined) = rewrite(&mut graph, &facts) {
            report.joined.extend(joined);
            let Ok(made) = infer_named(&graph, inputs, &mut settings.names) else { return (graph, report) };
            facts = made;
        }
    }
    for node in &mut graph.nodes {
        fuse_bodies(node, &facts, &mut report, settings);
    }
    take_apart(&mut graph, &facts);
    let nodes = candidates(&graph, &facts);
    grouped(&mut graph, &nodes, &facts, &mut report);
    graph.nodes = put_together(std::mem::take(&mut graph.nodes));
    (graph, report)
}

/// `graph`, the members of a group, with one node for each group that the kernels of a GPU take in; `None` where that is
/// nothing but all of them or none.
pub(super) fn fuse_for_device(graph: &Graph, facts: &[Option<Fact>]) -> Option<Graph> {
    let mut made = graph.clone();
    let nodes = device_candidates(graph, facts);
    grouped(&mut made, &nodes, facts, &mut Report::default());
    (1 < made.nodes.len() && made.nodes.len() < graph.nodes.len()).then_some(made)
}

/// Puts one node in the place of each group of `nodes`, those of `graph`.
fn grouped(graph: &mut Graph, nodes: &[Candidate], facts: &[Option<Fact>], report: &mut Report) {
    let kept: Vec<usize> = graph.outputs.iter().map(|id| id.index()).collect();
    let grouping = group(nodes, graph.values.len(), &kept, facts);
    let name = |at: usize| graph.nodes[at].name.clone();
    let view = |at: usize| graph.nodes[at].op.alias_of().is_some();
    let why = |a: usize, b: usize, why: Apart| (name(a), name(b), why.of_views([a, b].map(view)));
    report.apart.extend(grouping.apart.into_iter().map(|(a, b, reason)| why(a, b, reason)));
    let mut replaced: HashMap<usize, Node> = HashMap::new();
    let mut gone = vec![false; graph.nodes.len()];
    for group in &grouping.groups {
        let Some(node) = fused_node(graph, nodes, group) else { continue };
        report.fused.push((node.name.clone(), group.members.iter().map(|&m| name(m)).collect()));
        group.members.iter().for_each(|&m| gone[m] = true);
        replaced.extend(group.members.last().map(|&last| (last, node)));
    }
    let nodes = std::mem::take(&mut graph.nodes);
    let left = nodes
        .into_iter()
        .enumerate()
        .filter_map(|(at, node)| replaced.remove(&at).or((!gone[at]).then_some(node)));
    graph.nodes = left.collect();
}

fn fuse_bodies(node: &mut Node, facts: &[Option<Fact>], report: &mut Report, settings: &mut Settings<'_>) {
    if node.op.bodies().is_empty() {
        return;
    }
    let given: Vec<Option<&Fact>> =
        node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
    let Some(inputs) = node.op.body_inputs(Facts(&given)) else { return };
    let mut made = Vec::new();
    for (body, inputs) in node.op.bodies().into_iter().zip(inputs) {
        if settings.branches == BranchesOfShapes::WhenBound && has_branches_of_shapes(&body.graph) {
            let mut graph = Graph { waits_for_shapes: true, ..body.graph.clone() };
            for (id, fact) in graph.inputs.clone().into_iter().zip(inputs) {
                graph.values[id.index()].declared = Some(fact);
            }
            made.push(crate::ops::attributes::Body { graph, formal_inputs: body.formal_inputs });
            continue;
        }
        let (graph, inner) = fuse_named(body.graph.clone(), &inputs, settings);
        let within = |name: Arc<str>| Arc::from(format!("{}/{}/{name}", node.name, body.graph.name));
        report.fused.extend(inner.fused);
        report
            .joined
            .extend(inner.joined.into_iter().map(|joined| Joined { name: within(joined.name), ..joined }));
        report.apart.extend(inner.apart.into_iter().map(|(a, b, why)| (within(a), within(b), why)));
        made.push(crate::ops::attributes::Body { graph, formal_inputs: body.formal_inputs });
    }
    if let Some(op) = node.op.with_bodies(made) {
        node.op = op;
    }
}

/// The node that stands for `group`.
fn fused_node(graph: &Graph, nests: &[Candidate], group: &Group) -> Option<Node> {
    let &last = group.members.last()?;
    let sink = &graph.nodes[last];
    let output = sink.outputs.first().copied().flatten()?;
    let stored = || graph_outputs(graph, group, output);
    let mut inner = Graph { name: sink.name.clone(), ..Graph::default() };
    let mut local: HashMap<ValueId, ValueId> = HashMap::new();
    let mut inputs: Vec<ValueId> = Vec::new();
    let made: Vec<ValueId> =
        group.members.iter().flat_map(|&m| graph.nodes[m].outputs.iter().flatten().copied()).collect();
    let position = |node: Option<usize>| group.members.iter().position(|&m| Some(m) == node);
    let (anchor, written) = (position(group.anchor), position(group.written));
    let places = |nodes: &[usize]| nodes.iter().filter_map(|&node| position(Some(node))).collect();
    let mut take = |inner: &mut Graph, local: &mut HashMap<ValueId, ValueId>, id: ValueId| {
        let value = inner.add_value(graph.value(id).name.clone());
        inner.inputs.push(value);
        inputs.push(id);
        local.insert(id, value);
    };
    // The contraction's operands come first, each for itself even where two are one value, and each as it lies in
    // memory where layouts are ahead of it.
    let sources = match group.anchor {
        Some(anchor) => sources(graph, nests, group, anchor)?,
        None => Vec::new(),
    };
    sources.iter().for_each(|id| take(&mut inner, &mut local, *id));
    for &member in group.members.iter().filter(|&&m| Some(m) != group.anchor) {
        for &id in graph.nodes[member].inputs.iter().flatten() {
            if !made.contains(&id) && !local.contains_key(&id) {
                take(&mut inner, &mut local, id);
            }
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
                if made.contains(id) { local[id] } else { inner.inputs[anchor_operand - 1] }
            } else {
                local[id]
            };
        }
        copy.outputs.iter_mut().flatten().for_each(|id| *id = local[id]);
        inner.nodes.push(copy);
    }
    inner.outputs.extend(stored().map(|id| local[&id]));
    let folds = |&m: &usize| nests[m].nest.as_ref().is_ok_and(|n| n.as_map().is_none());
    let name = match anchor {
        Some(_) => "FusedContraction",
        None if group.members.iter().any(folds) => "FusedRows",
        None => "FusedMap",
    };
    Some(Node {
        name: sink.name.clone(),
        def: OpName { domain: "recurve", name },
        op: Arc::new(Fused { graph: inner, anchor, operand: places(&group.operand), written }),
        inputs: inputs.into_iter().map(Some).collect(),
        outputs: stored().map(Some).collect(),
    })
}

/// The values in memory that the operands of `anchor` are read from.
fn sources(graph: &Graph, nests: &[Candidate], group: &Group, anchor: usize) -> Option<Vec<ValueId>> {
    let ids = graph.nodes[anchor].inputs.iter().flatten();
    ids.map(|id| graph.id(source_of(nests, &group.members, id.index()))).collect()
}

/// What `group` stores: `output`, then the values that others read, too.
fn graph_outputs<'g>(
    graph: &'g Graph,
    group: &'g Group,
    output: ValueId,
) -> impl Iterator<Item = ValueId> + 'g {
    let made = group.members.iter().flat_map(|&m| graph.nodes[m].outputs.iter().flatten().copied());
    let made: Vec<ValueId> = made.collect();
    let of = move |&value: &usize| made.iter().copied().find(|id| id.index() == value);
    [output].into_iter().chain(group.stored.iter().filter_map(of).collect::<Vec<_>>())
}
