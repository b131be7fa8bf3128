//! A `Loop` that runs a number of times becomes a `Scan` over what it takes by the number of the iteration.
//!
//! It holds when the condition is true from the start and the body never ends it, and when the number of
//! iterations is the extent of each tensor that is taken apart: known, or the same expression of the model's
//! dimensions. What takes slice `i` of a captured tensor, or slice `extent − 1 − i`, becomes an element of a
//! sequence; where the number is read otherwise, the numbers are a sequence themselves.

use super::build::{integers, node as new_node, one};
use super::number::Affine;
use super::order::sort_nodes;
use crate::dtype::Bool;
use crate::graph::fact::normal_axis;
use crate::graph::{Dim, Fact, Graph, Integer, Node, ValueId, known_facts, redirect};
use crate::ops::Loop;
use crate::ops::attributes::{Attribute, Body};
use crate::tensor::Tensor;
use std::collections::HashMap;

/// Replaces every such Loop.
pub(super) fn scans(graph: &mut Graph) -> bool {
    let is_loop = |n: &Node| n.op.as_any().is::<Loop>();
    if !graph.nodes.iter().any(is_loop) {
        return false;
    }
    let facts = known_facts(graph);
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        if !is_loop(&graph.nodes[at]) {
            continue;
        }
        let node = graph.nodes[at].clone();
        let mut made = Vec::new();
        if let Some(scan) = scan_of(graph, &facts, &node, &mut made) {
            graph.nodes[at] = scan;
            graph.nodes.append(&mut made);
            changed = true;
        }
    }
    changed && sort_nodes(graph)
}

/// One sequence: the captured input, its axis, and whether it is read from the end.
#[derive(Clone, Copy, PartialEq)]
struct Taken {
    capture: usize,
    axis: usize,
    backwards: bool,
}

fn scan_of(graph: &mut Graph, facts: &[Option<Fact>], node: &Node, made: &mut Vec<Node>) -> Option<Node> {
    let looped = node.op.as_any().downcast_ref::<Loop>()?;
    let trips = node.inputs.first().copied().flatten()?;
    let count = exact_count(graph, facts, node, looped)?;
    let fact = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor();
    let carried = looped.carried();
    let formal = looped.body.formal_inputs;
    let mut body = looped.body.graph.clone();
    let (number, condition) = (body.inputs[0], body.inputs[1]);
    body.values[condition.index()].constant = Some(Tensor::scalar(Bool::new(true)));

    // Affine functions of the number.
    let mut affine: HashMap<ValueId, Affine> = [(number, Affine::NUMBER)].into();
    let capture_of: HashMap<ValueId, usize> =
        body.inputs.iter().copied().enumerate().skip(formal).map(|(i, id)| (id, i)).collect();
    let mut taken: Vec<(Taken, ValueId)> = Vec::new();
    let mut map: Vec<(ValueId, ValueId)> = Vec::new();
    let mut nodes: Vec<Node> = Vec::new();
    for inner in std::mem::take(&mut body.nodes) {
        let Some(Some(output)) = inner.outputs.first().copied() else {
            nodes.push(inner);
            continue;
        };
        if let Some(function) = Affine::of_node(&body, &inner, &affine) {
            affine.insert(output, function);
        }
        let element = (|| {
            let capture = *capture_of.get(&inner.inputs.first().copied().flatten()?)?;
            let shape = fact(node.inputs[capture]?)?.shape.as_ref()?;
            let (axis, at, keeps) = taken_by(&body, &inner, &affine, shape.len())?;
            let extent = &shape[axis];
            if *extent != count {
                return None;
            }
            Some((Taken { capture, axis, backwards: at.runs_backwards(extent)? }, keeps))
        })();
        let Some((element, keeps)) = element else {
            nodes.push(inner);
            continue;
        };
        let id = match taken.iter().find(|(t, _)| *t == element) {
            Some((_, id)) => *id,
            None => {
                let id = body.add_value("element");
                taken.push((element, id));
                id
            }
        };
        let value = if keeps {
            let axis = integers(&mut body, &[element.axis as i64])?;
            one(&mut body, &mut nodes, "Unsqueeze", Vec::new(), &[id, axis])?
        } else {
            id
        };
        map.push((output, value));
    }
    body.nodes = nodes;
    let mut redirected = vec![None; body.values.len()];
    for (from, to) in map {
        redirected[from.index()] = Some(to);
    }
    redirect(&mut body, &redirected);
    body.outputs.remove(0);
    remove_unread(&mut body);
    let counted =
        body.nodes.iter().any(|n| n.inputs.contains(&Some(number))) || body.outputs.contains(&number);

    let mut inputs: Vec<Option<ValueId>> = node.inputs[2..2 + carried].to_vec();
    let mut body_inputs: Vec<ValueId> = body.inputs[2..2 + carried].to_vec();
    let (mut axes, mut backwards) = (Vec::new(), Vec::new());
    for (element, id) in &taken {
        inputs.push(node.inputs[element.capture]);
        body_inputs.push(*id);
        axes.push(element.axis as i64);
        backwards.push(i64::from(element.backwards));
    }
    // Without a tensor whose extent bounds them, the iterations are not even a number that memory holds.
    if taken.is_empty() {
        return None;
    }
    if counted {
        inputs.push(Some(numbers(graph, facts, made, trips, &count)?));
        body_inputs.push(number);
        axes.push(0);
        backwards.push(0);
    }
    let sequences = axes.len();
    let mut captures = 0;
    for (i, id) in body.inputs.iter().enumerate().skip(formal) {
        let read = body.nodes.iter().any(|n| n.inputs.contains(&Some(*id))) || body.outputs.contains(id);
        if read {
            inputs.push(node.inputs[i]);
            body_inputs.push(*id);
            captures += 1;
        }
    }
    body.inputs = body_inputs;
    let collected = body.outputs.len() - carried;
    let attributes = vec![
        ("body", Attribute::Body(Body { graph: body, formal_inputs: carried + sequences })),
        ("num_scan_inputs", Attribute::Int(sequences as i64)),
        ("scan_input_axes", Attribute::Ints(axes)),
        ("scan_input_directions", Attribute::Ints(backwards)),
    ];
    let mut scan = new_node(graph, "Scan", attributes, inputs, captures, carried + collected)?;
    scan.outputs.clone_from(&node.outputs);
    scan.outputs.resize(carried + collected, None);
    scan.name.clone_from(&node.name);
    Some(scan)
}

/// How often `looped` runs, where nothing ends it before.
pub(super) fn exact_count(graph: &Graph, facts: &[Option<Fact>], node: &Node, looped: &Loop) -> Option<Dim> {
    let trips = node.inputs.first().copied().flatten()?;
    let count = match facts.get(trips.index())?.as_ref()?.tensor()?.as_integers()?.first()? {
        Integer::Extent(Dim::Unknown) | Integer::Negative(_) => return None,
        Integer::Extent(dim) => dim.clone(),
    };
    let started = match node.inputs.get(1).copied().flatten() {
        None => true,
        Some(id) => graph.constant(id)?.to_vec::<Bool>()?.first()?.get(),
    };
    (started && looped.condition_never_ends()).then_some(count)
}

/// The numbers of the iterations.
fn numbers(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    made: &mut Vec<Node>,
    trips: ValueId,
    count: &Dim,
) -> Option<ValueId> {
    /// Numbers up to which they are a constant.
    const MOST: usize = 1 << 16;
    if let Some(n) = count.known().filter(|n| *n <= MOST) {
        let all: Vec<i64> = (0..n as i64).collect();
        return integers(graph, &all);
    }
    let trips = match facts.get(trips.index())?.as_ref()?.tensor()?.rank()? {
        0 => trips,
        _ => one(graph, made, "Squeeze", Vec::new(), &[trips])?,
    };
    let (zero, step) =
        (graph.add_constant("zero", Tensor::scalar(0i64)), graph.add_constant("one", Tensor::scalar(1i64)));
    one(graph, made, "Range", Vec::new(), &[zero, trips, step])
}

/// Axis and index of the slice that the node takes out of its first input, of `rank` axes, and whether the axis
/// stays.
fn taken_by(
    body: &Graph,
    node: &Node,
    known: &HashMap<ValueId, Affine>,
    rank: usize,
) -> Option<(usize, Affine, bool)> {
    let input = |i: usize| node.inputs.get(i).copied().flatten();
    match node.def.name {
        "Gather" => {
            let at = *known.get(&input(1)?)?;
            let axis = node.op.gathered_axis()?;
            (at.axes <= 1).then_some((normal_axis(axis, rank).ok()?, at, at.axes == 1))
        }
        "Slice" => {
            let (start, end) = (*known.get(&input(1)?)?, *known.get(&input(2)?)?);
            let single = |i: usize| match body.constant(input(i)?)?.view().to_i64s().ok()?[..] {
                [v] => Some(v),
                _ => None,
            };
            let axis = match input(3) {
                Some(_) => single(3)?,
                None => 0,
            };
            if input(4).is_some() && single(4)? != 1 {
                return None;
            }
            let next = start.stride == end.stride && start.offset.checked_add(1) == Some(end.offset);
            // An end of 0 counted from the front is not the end of the last slice, and a negative one neither.
            (next && start.stride == 1).then_some((normal_axis(axis, rank).ok()?, start, true))
        }
        _ => None,
    }
}

/// Removes nodes of which no output is read.
fn remove_unread(body: &mut Graph) {
    let mut read = vec![false; body.values.len()];
    body.outputs.iter().for_each(|id| read[id.index()] = true);
    let mut keep = vec![false; body.nodes.len()];
    for (at, node) in body.nodes.iter().enumerate().rev() {
        keep[at] = node.outputs.iter().flatten().any(|id| read[id.index()]);
        if keep[at] {
            node.inputs.iter().flatten().for_each(|id| read[id.index()] = true);
        }
    }
    let mut keep = keep.into_iter();
    body.nodes.retain(|_| keep.next().unwrap_or(true));
}
