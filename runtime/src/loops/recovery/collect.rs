//! Slices of a tensor put together again are the tensor.
//!
//! It holds for a `Concat` whose inputs are the slices of one tensor along one axis, each once, in order or in
//! the reverse one, either each with an axis of extent 1 put in, or each with its axis kept.

use super::build::{integers, one};
use super::index::{Index, Keys, settle};
use super::part::{Part, part_of};
use crate::graph::fact::normal_axis;
use crate::graph::{Dim, Fact, Graph, KnownFacts, Node, ValueId};
use crate::ops::attributes::Attribute;

/// Replaces every such Concat.
pub(super) fn collect(graph: &mut Graph, keys: &mut Keys) -> bool {
    let joins: Vec<usize> = (0..graph.nodes.len()).filter(|&at| is_join(&graph.nodes[at])).collect();
    if joins.is_empty() {
        return false;
    }
    let mut index = Index::new(graph, keys);
    let mut known = KnownFacts::default();
    known.update(graph);
    let before = (graph.nodes.clone(), graph.outputs.clone());
    let changed = replace(graph, &mut index, keys, &mut known, &joins);
    settle(graph, changed.then_some(before))
}

/// Replaces those that read what the nodes from `first` on give, as it is or with an axis put in.
pub(super) fn behind(
    graph: &mut Graph,
    index: &mut Index,
    keys: &mut Keys,
    known: &mut KnownFacts,
    first: usize,
) -> bool {
    let mut joins = Vec::new();
    for at in first..graph.nodes.len() {
        let readers = |at: usize| graph.nodes[at].outputs.iter().flatten().flat_map(|id| index.readers(*id));
        for reader in [at].into_iter().chain(readers(at)) {
            if is_join(&graph.nodes[reader]) {
                joins.push(reader);
            } else if graph.nodes[reader].op.alias_of() == Some(0) {
                joins.extend(readers(reader).filter(|&r| is_join(&graph.nodes[r])));
            }
        }
    }
    joins.sort_unstable();
    joins.dedup();
    replace(graph, index, keys, known, &joins)
}

fn is_join(node: &Node) -> bool {
    node.inputs.len() > 1 && node.op.joined_axis().is_some()
}

fn replace(
    graph: &mut Graph,
    index: &mut Index,
    keys: &mut Keys,
    known: &mut KnownFacts,
    joins: &[usize],
) -> bool {
    let mut changed = false;
    for &at in joins {
        let mut made: Vec<Node> = Vec::new();
        let Some(Some(from)) = graph.nodes[at].outputs.first().copied() else { continue };
        if let Some(to) = collected(graph, index, known.facts(), at, &mut made) {
            known.learn(graph, &made);
            index.append(graph, keys, made);
            index.redirect(graph, &[(from, to)]);
            index.remove(graph, &[at]);
            changed = true;
        }
    }
    changed
}

/// One input of the Concat: a part of a tensor, as it is or with an axis of extent 1 at the Concat's axis.
fn piece(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    id: ValueId,
    along: usize,
) -> Option<(Part, bool)> {
    if let Some(part) = part_of(graph, index, facts, id) {
        return Some((part, false));
    }
    let (at, _) = index.writer(id)?;
    let node = &graph.nodes[at];
    if node.op.alias_of() != Some(0) {
        return None;
    }
    let from = node.inputs.first().copied().flatten()?;
    let shape = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor()?.shape.clone();
    let mut with_axis = shape(from)?;
    if along > with_axis.len() {
        return None;
    }
    with_axis.insert(along, Dim::Known(1));
    if with_axis.contains(&Dim::Unknown) || shape(id)? != with_axis {
        return None;
    }
    Some((part_of(graph, index, facts, from)?, true))
}

/// The value that the Concat at `at` can be replaced by, made of the nodes put into `made`.
fn collected(
    graph: &mut Graph,
    index: &Index,
    facts: &[Option<Fact>],
    at: usize,
    made: &mut Vec<Node>,
) -> Option<ValueId> {
    let inputs: Vec<ValueId> = graph.nodes[at].inputs.iter().copied().collect::<Option<_>>()?;
    let output = graph.nodes[at].outputs.first().copied().flatten()?;
    let shape_of = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor()?.shape.clone();
    let rank = shape_of(output)?.len();
    let along = normal_axis(graph.nodes[at].op.joined_axis()?, rank).ok()?;
    let pieces: Vec<(Part, bool)> =
        inputs.iter().map(|&id| piece(graph, index, facts, id, along)).collect::<Option<_>>()?;
    let (first, stacked) = *pieces.first()?;
    let alike = |(p, s): &(Part, bool)| {
        p.source == first.source
            && p.selection.axis == first.selection.axis
            && p.selection.step == 1
            && p.selection.drops_axis == first.selection.drops_axis
            && *s == stacked
    };
    if !pieces.iter().all(alike) {
        return None;
    }
    let (source, axis) = (first.source, first.selection.axis);
    let extent = shape_of(source)?.get(axis)?.known()?;
    let forwards = first.selection.start == 0;
    let mut expected = if forwards { 0 } else { extent };
    for (part, _) in &pieces {
        let (start, count) = (part.selection.start, part.selection.count);
        if forwards {
            if start != expected {
                return None;
            }
            expected += count;
        } else {
            // Only single slices can be in the reverse order.
            if count != 1 || start + 1 != expected {
                return None;
            }
            expected = start;
        }
    }
    if expected != if forwards { extent } else { 0 } {
        return None;
    }
    let mut value = source;
    if !forwards {
        let mut given = vec![value];
        for bound in [-1, i64::MIN + 1, axis as i64, -1] {
            given.push(integers(graph, &[bound])?);
        }
        value = one(graph, made, "Slice", Vec::new(), &given)?;
    }
    match (stacked, first.selection.drops_axis) {
        (false, false) if axis == along => Some(value),
        (true, true) => moved(graph, made, value, rank, axis, along),
        (false, true) => {
            // Each slice lies behind the one before along an axis of its own: time and that axis become one.
            let value = moved(graph, made, value, rank + 1, axis, along)?;
            let target: Vec<i64> = shape_of(output)?
                .iter()
                .map(|d| d.known().and_then(|d| i64::try_from(d).ok()))
                .collect::<Option<_>>()?;
            let target = integers(graph, &target)?;
            one(graph, made, "Reshape", Vec::new(), &[value, target])
        }
        _ => None,
    }
}

/// `value` of `rank` axes with axis `from` at `to`.
fn moved(
    graph: &mut Graph,
    made: &mut Vec<Node>,
    value: ValueId,
    rank: usize,
    from: usize,
    to: usize,
) -> Option<ValueId> {
    if from == to {
        return Some(value);
    }
    let mut perm: Vec<i64> = (0..rank as i64).filter(|&a| a != from as i64).collect();
    perm.insert(to, from as i64);
    one(graph, made, "Transpose", vec![("perm", Attribute::Ints(perm))], &[value])
}
