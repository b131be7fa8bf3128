//! Normalisations of groups of channels that are spelled as exporters without `GroupNormalization` write them: channels are
//! put together by a `Reshape`, normalised as if each group were one channel, and taken apart again. They become that
//! operator, which runs in one pass with the maps around it; no value changes its shape.
//!
//! Legal where the first `Reshape` keeps the first axis and has a known number of groups as its second, and the last one
//! makes the shape that the first one read: a group is then as many neighbours in either shape. Nothing else may read what
//! lies between. Scale and bias have an element for each group, as `GroupNormalization` before opset 21 has them.

use super::joined::Joined;
use crate::graph::fact::Fact;
use crate::graph::{Dim, Graph, Node, ValueId};
use crate::ops::norm_of_groups;
use std::collections::HashMap;

/// Rewrites such normalisations in `graph`; `None` where there are none.
pub(super) fn spell_groups(graph: &mut Graph, facts: &[Option<Fact>]) -> Option<Vec<Joined>> {
    let plain =
        |at: usize, name: &str| graph.nodes[at].def.name == name && graph.nodes[at].def.domain.is_empty();
    let norms: Vec<usize> = (0..graph.nodes.len()).filter(|&at| plain(at, "InstanceNormalization")).collect();
    if norms.is_empty() {
        return None;
    }
    let mut maker: HashMap<ValueId, usize> = HashMap::new();
    let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        node.outputs.iter().flatten().for_each(|&id| _ = maker.insert(id, at));
        node.inputs.iter().flatten().for_each(|&id| readers.entry(id).or_default().push(at));
    }
    // Who reads an output of the graph is not known.
    graph.outputs.iter().for_each(|&id| readers.entry(id).or_default().push(usize::MAX));
    let only_reader = |id: ValueId| match readers.get(&id).map(Vec::as_slice) {
        Some(&[at]) if at < graph.nodes.len() => Some(at),
        _ => None,
    };
    let mut found = Vec::new();
    for at in norms {
        let of_groups = || {
            let &[Some(together), Some(_), Some(_)] = graph.nodes[at].inputs.as_slice() else { return None };
            let before = maker.get(&together).copied().filter(|&m| plain(m, "Reshape"))?;
            let behind = only_reader(only_output(&graph.nodes[at])?).filter(|&r| plain(r, "Reshape"))?;
            let (x, y) = (graph.nodes[before].inputs[0]?, only_output(&graph.nodes[behind])?);
            let shape = |id: ValueId| facts[id.index()].as_ref()?.tensor()?.shape.as_deref();
            let (own, made) = (shape(x)?, shape(together)?);
            let same = own.len() >= 2 && shape(y) == Some(own) && !own.contains(&Dim::Unknown);
            let groups = made.get(1)?.known().filter(|_| same && made[0] == own[0])?;
            let whole = own[1].known().is_some_and(|channels| groups > 0 && channels % groups == 0);
            let (def, op) = norm_of_groups(&*graph.nodes[at].op, groups).filter(|_| whole)?;
            only_reader(together)?;
            Some(([before, at, behind], x, y, def, op))
        };
        found.extend(of_groups());
    }
    if found.is_empty() {
        return None;
    }
    let mut gone = vec![false; graph.nodes.len()];
    let mut joined = Vec::new();
    for ([before, at, behind], x, y, def, op) in found {
        let members = [before, at, behind].map(|m| &graph.nodes[m]);
        joined.push(Joined::of(&graph.nodes[at].name, members, None));
        let inputs = graph.nodes[at].inputs.iter().skip(1).copied();
        let inputs = std::iter::once(Some(x)).chain(inputs).collect();
        let node = &mut graph.nodes[at];
        *node = Node { name: node.name.clone(), def, op, inputs, outputs: [Some(y)].into_iter().collect() };
        (gone[before], gone[behind]) = (true, true);
    }
    let mut gone = gone.into_iter();
    graph.nodes.retain(|_| gone.next() != Some(true));
    Some(joined)
}

fn only_output(node: &Node) -> Option<ValueId> {
    match node.outputs.as_slice() {
        &[Some(id)] => Some(id),
        _ => None,
    }
}
