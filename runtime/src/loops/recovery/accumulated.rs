//! What the body of a `Loop` puts together step by step becomes an output that the Loop collects.
//!
//! A carried value is put together where nothing but one node of the body reads it, which hands it on as
//! - `Concat(value, part)` or `Concat(part, value)`, the part of extent 1 along the axis: the value ends as what it was
//!   before the Loop with the parts behind or, the last one first, before it;
//! - the value with one slice of it replaced, by ScatterND along the first axis or by ScatterElements along any, at the
//!   number of the iteration or counted from the end. The Loop runs as often as the axis is long, and nothing ends it
//!   before: every slice is replaced, and what the value was before does not matter.
//!
//! The part, without its axis, is what the Loop collects. It runs without the value then, whose size grew or which was
//! copied in every iteration, and may be a recurrence.

use super::build::{integers, node as new_node, one};
use super::counted::exact_count;
use super::number::Affine;
use super::order::sort_nodes;
use crate::graph::fact::{Facts, normal_axis};
use crate::graph::{Dim, Fact, Graph, Node, TensorFact, ValueId, known_facts, redirect};
use crate::ops::attributes::{Attribute, Body};
use crate::ops::{Loop, Replacement};
use std::collections::HashMap;

/// Replaces every such value.
pub(super) fn collect(graph: &mut Graph) -> bool {
    let is_loop = |n: &Node| n.op.as_any().is::<Loop>();
    if !graph.nodes.iter().any(is_loop) {
        return false;
    }
    let facts = known_facts(graph);
    let mut made = Vec::new();
    let mut replaced: Vec<(ValueId, ValueId)> = Vec::new();
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        while is_loop(&graph.nodes[at]) {
            let node = graph.nodes[at].clone();
            let Some((looped, end)) = without_one(graph, &facts, &node, &mut made) else { break };
            graph.nodes[at] = looped;
            replaced.extend(end);
            changed = true;
        }
    }
    let mut map = vec![None; graph.values.len()];
    replaced.iter().for_each(|(from, to)| map[from.index()] = Some(*to));
    graph.nodes.append(&mut made);
    redirect(graph, &map);
    changed && sort_nodes(graph)
}

/// What each iteration adds to a carried value.
struct Part {
    value: ValueId,
    /// Axis of extent 1, which the part has when `keeps_axis`.
    axis: usize,
    keeps_axis: bool,
    /// The last one comes first.
    backwards: bool,
    /// Whether what the value was before the Loop is part of the result.
    grows: bool,
}

/// The Loop without its first value that is put together, and what the value is replaced by, if it is read.
fn without_one(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    node: &Node,
    made: &mut Vec<Node>,
) -> Option<(Node, Option<(ValueId, ValueId)>)> {
    let looped = node.op.as_any().downcast_ref::<Loop>()?;
    let (carried, formal) = (looped.carried(), looped.body.formal_inputs);
    let given: Vec<Option<&Fact>> =
        node.inputs.iter().map(|id| id.and_then(|id| facts.get(id.index())?.as_ref())).collect();
    let mut body = looped.body.graph.clone();
    let inner = inner_facts(&body, looped, Facts(&given));
    let (which, initial, part) = (0..carried).find_map(|which| {
        let initial = given.get(2 + which).copied().flatten()?.tensor()?;
        let count = || exact_count(graph, facts, node, looped);
        Some((which, initial, part_of(&body, &inner, which, initial, count)?))
    })?;
    let rank = initial.rank()?;
    let before = node.inputs[2 + which]?;
    let starts_empty =
        initial.shape.as_ref().is_some_and(|shape| shape.get(part.axis) == Some(&Dim::Known(0)));

    let value = if part.keeps_axis {
        let axis = integers(&mut body, &[part.axis as i64])?;
        let mut nodes = Vec::new();
        let value = one(&mut body, &mut nodes, "Squeeze", Vec::new(), &[part.value, axis])?;
        body.nodes.append(&mut nodes);
        value
    } else {
        part.value
    };
    let state = body.inputs.remove(2 + which);
    let end = body.outputs.remove(1 + which);
    body.outputs.push(value);
    body.nodes.retain(|n| !n.outputs.contains(&Some(end)) && !n.inputs.contains(&Some(state)));

    let mut inputs = node.inputs.clone();
    inputs.remove(2 + which);
    let captures = inputs.len() - (formal - 1);
    let outputs = body.outputs.len() - 1;
    let body = Attribute::Body(Body { graph: body, formal_inputs: formal - 1 });
    let mut without = new_node(graph, "Loop", vec![("body", body)], inputs, captures, outputs)?;
    let collected = without.outputs[outputs - 1];
    without.outputs.clone_from(&node.outputs);
    let from = (which < without.outputs.len()).then(|| without.outputs.remove(which)).flatten();
    without.outputs.resize(outputs - 1, None);
    without.outputs.push(collected);
    without.name.clone_from(&node.name);
    let Some(from) = from else { return Some((without, None)) };

    let mut behind = Vec::new();
    let mut value = collected?;
    if part.backwards {
        let mut given = vec![value];
        for bound in [-1, i64::MIN + 1, 0, -1] {
            given.push(integers(graph, &[bound])?);
        }
        value = one(graph, &mut behind, "Slice", Vec::new(), &given)?;
    }
    if part.axis > 0 {
        let mut axes: Vec<i64> = (1..rank as i64).collect();
        axes.insert(part.axis, 0);
        let perm = vec![("perm", Attribute::Ints(axes))];
        value = one(graph, &mut behind, "Transpose", perm, &[value])?;
    }
    if part.grows && !starts_empty {
        let given = if part.backwards { [value, before] } else { [before, value] };
        let along = vec![("axis", Attribute::Int(part.axis as i64))];
        value = one(graph, &mut behind, "Concat", along, &given)?;
    }
    made.append(&mut behind);
    Some((without, Some((from, value))))
}

/// Facts of the body's values as far as they hold in every iteration.
fn inner_facts(body: &Graph, looped: &Loop, given: Facts<'_>) -> Vec<Option<Fact>> {
    use crate::ops::Op;
    let mut body = body.clone();
    let known = given.0.iter().skip(2).all(Option::is_some);
    if let Some(inputs) = known.then(|| looped.body_inputs(given)).flatten().and_then(|mut all| all.pop()) {
        for (id, fact) in body.inputs.clone().into_iter().zip(inputs) {
            body.values[id.index()].declared = Some(fact);
        }
    }
    known_facts(&body)
}

/// What the body adds to carried value `which`, if that is all it does with it.
fn part_of(
    body: &Graph,
    facts: &[Option<Fact>],
    which: usize,
    initial: &TensorFact,
    count: impl Fn() -> Option<Dim>,
) -> Option<Part> {
    let (state, end) = (body.inputs[2 + which], body.outputs[1 + which]);
    let reads = |id: ValueId| {
        let inside = body.nodes.iter().flat_map(|n| &n.inputs).filter(|i| **i == Some(id)).count();
        inside + body.outputs.iter().filter(|o| **o == id).count()
    };
    if state == end || reads(state) != 1 || reads(end) != 1 {
        return None;
    }
    let node = body.nodes.iter().find(|n| n.outputs.first() == Some(&Some(end)))?;
    let place = node.inputs.iter().position(|id| *id == Some(state))?;
    let rank = initial.rank()?;
    let shape = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor()?.shape.clone();
    if let Some(axis) = node.op.joined_axis() {
        let [Some(a), Some(b)] = node.inputs[..] else { return None };
        let (value, axis) = (if place == 0 { b } else { a }, normal_axis(axis, rank).ok()?);
        let shape = shape(value)?;
        let single = shape.len() == rank && shape[axis] == Dim::Known(1) && !shape.contains(&Dim::Unknown);
        return single.then_some(Part { value, axis, keeps_axis: true, backwards: place == 1, grows: true });
    }
    let replacement = node.op.replacement().filter(|_| place == 0)?;
    let [_, Some(at), Some(value)] = node.inputs[..] else { return None };
    let extents = initial.shape.as_ref()?;
    let (number, axis, keeps_axis) = match replacement {
        Replacement::Slices => {
            let number = *numbers(body).0.get(&at)?;
            // `[i]`, or a list of one such.
            (number, 0, (1..=2).contains(&number.axes).then_some(number.axes == 2)?)
        }
        Replacement::Elements { axis } => {
            let axis = normal_axis(axis, rank).ok()?;
            let mut one = extents.clone();
            *one.get_mut(axis)? = Dim::Known(1);
            let whole = !one.contains(&Dim::Unknown) && shape(value)? == one && shape(at)? == one;
            (*numbers(body).1.get(&at).filter(|_| whole)?, axis, true)
        }
    };
    let extent = extents.get(axis)?;
    if *extent == Dim::Unknown || count()? != *extent {
        return None;
    }
    Some(Part { value, axis, keeps_axis, backwards: number.runs_backwards(extent)?, grows: false })
}

/// Functions of the number of the iteration, and tensors that hold nothing else.
fn numbers(body: &Graph) -> (HashMap<ValueId, Affine>, HashMap<ValueId, Affine>) {
    let mut known: HashMap<ValueId, Affine> = [(body.inputs[0], Affine::NUMBER)].into();
    let mut filled = known.clone();
    for node in &body.nodes {
        let Some(Some(output)) = node.outputs.first().copied() else { continue };
        if let Some(function) = Affine::of_node(body, node, &known) {
            known.insert(output, function);
            filled.insert(output, function);
            continue;
        }
        let [Some(a), Some(b)] = node.inputs[..] else { continue };
        let same = |id: ValueId| {
            let values = body.constant(id)?.view().to_i64s().ok()?;
            let first = *values.first()?;
            values.iter().all(|v| *v == first).then_some(first)
        };
        let function = match node.def.name {
            "Expand" => filled.get(&a).copied(),
            "Add" => match (filled.get(&a), filled.get(&b)) {
                (Some(x), None) => {
                    same(b).and_then(|n| Some(Affine { offset: x.offset.checked_add(n)?, ..*x }))
                }
                (None, Some(x)) => {
                    same(a).and_then(|n| Some(Affine { offset: x.offset.checked_add(n)?, ..*x }))
                }
                _ => None,
            },
            _ => None,
        };
        filled.extend(function.map(|f| (output, f)));
    }
    (known, filled)
}
