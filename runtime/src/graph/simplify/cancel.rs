//! Nodes that do nothing, and pairs of nodes that one node can replace (two transposes, two reshapes).
//!
//! A pair is replaced only by redirecting the second node to the first one's input, so that another reader of
//! the value between them keeps it.

use super::redirect;
use crate::graph::fact::{Fact, Facts};
use crate::graph::model::{Graph, ValueId};

/// Takes identities out and merges pairs.
pub(super) fn cancel(graph: &mut Graph, facts: &[Option<Fact>]) -> bool {
    let mut map: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    let mut writer: Vec<Option<usize>> = vec![None; graph.values.len()];
    let mut changed = false;
    let mut identity = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        for id in node.outputs.iter().flatten() {
            writer[id.index()] = Some(index);
        }
        let only_first = node.outputs.iter().skip(1).all(Option::is_none);
        let (Some(Some(from)), Some(Some(to)), true) =
            (node.inputs.first(), node.outputs.first(), only_first)
        else {
            continue;
        };
        let (from, to) = (*from, *to);
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        let made: Vec<Fact> = facts[to.index()].iter().cloned().collect();
        if node.op.is_identity(Facts(&given), &made) {
            map[to.index()] = Some(from);
            identity[index] = true;
            changed = true;
            continue;
        }
        let Some(before) = writer[from.index()].filter(|&w| !identity[w]) else { continue };
        let before = &graph.nodes[before];
        let first_only = before.outputs.first() == Some(&Some(from));
        if let (true, Some(Some(source))) = (first_only, before.inputs.first()) {
            if let Some(op) = node.op.after(&*before.op) {
                let source = *source;
                graph.nodes[index].op = op;
                graph.nodes[index].inputs[0] = Some(source);
                changed = true;
            }
        }
    }
    redirect(graph, &map);
    let mut identity = identity.iter();
    graph.nodes.retain(|_| !identity.next().copied().unwrap_or(false));
    changed
}
