//! Nodes that do nothing, and pairs of nodes that one node can replace (two transposes, two reshapes).
//!
//! A pair is replaced only by redirecting the second node to the first one's input, so that another reader of
//! the value between them keeps it.

use super::redirect;
use crate::graph::Dim;
use crate::graph::fact::{Fact, Facts};
use crate::graph::model::{Graph, ValueId};
use crate::ops::Op;

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
        if node.op.is_identity(Facts(&given), &made) || views_same_shape(&*node.op, Facts(&given), &made) {
            map[to.index()] = Some(from);
            identity[index] = true;
            changed = true;
            continue;
        }
        let Some(before) = writer[from.index()].filter(|&w| !identity[w]) else { continue };
        let before = &graph.nodes[before];
        let first_only = before.outputs.first() == Some(&Some(from));
        if let (true, Some(Some(source))) = (first_only, before.inputs.first())
            && let Some(op) = node.op.after(&*before.op)
        {
            let source = *source;
            graph.nodes[index].op = op;
            graph.nodes[index].inputs[0] = Some(source);
            changed = true;
        }
    }
    redirect(graph, &map);
    let mut identity = identity.iter();
    graph.nodes.retain(|_| !identity.next().copied().unwrap_or(false));
    changed
}

/// Whether the node is a view of its input under the shape that it has already.
fn views_same_shape(op: &dyn Op, inputs: Facts<'_>, made: &[Fact]) -> bool {
    if op.alias_of() != Some(0) {
        return false;
    }
    let (Ok(x), Some(Fact::Tensor(y))) = (inputs.tensor(0), made.first()) else { return false };
    match (&x.shape, &y.shape) {
        // An unknown extent is not known to be equal to another unknown one.
        (Some(a), Some(b)) => x.dtype == y.dtype && a == b && !a.contains(&Dim::Unknown),
        _ => false,
    }
}
