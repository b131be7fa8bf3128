//! Dead code: nodes of which no output is read, outputs that nobody reads, constants without readers.

use crate::graph::model::Graph;

/// Removes what no output depends on. Graph inputs stay: they are the caller's.
pub(crate) fn remove_dead_code(graph: &mut Graph) -> bool {
    let mut read = vec![false; graph.values.len()];
    for id in &graph.outputs {
        read[id.index()] = true;
    }
    let mut changed = false;
    let mut keep = vec![false; graph.nodes.len()];
    for (node, keep) in graph.nodes.iter_mut().zip(&mut keep).rev() {
        for output in &mut node.outputs {
            if output.is_some_and(|id| !read[id.index()]) {
                *output = None;
                changed = true;
            }
        }
        *keep = node.outputs.iter().any(Option::is_some);
        if *keep {
            for id in node.inputs.iter().flatten() {
                read[id.index()] = true;
            }
        }
    }
    if keep.contains(&false) {
        changed = true;
        let mut keep = keep.iter();
        graph.nodes.retain(|_| keep.next().copied().unwrap_or(true));
    }
    for (value, read) in graph.values.iter_mut().zip(read) {
        if !read {
            value.constant = None;
        }
    }
    changed
}
