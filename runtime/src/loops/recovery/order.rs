//! Putting nodes into topological order.

use crate::graph::{Graph, Node};

/// Sorts the nodes so that each stands behind those whose outputs it reads, and otherwise as they stood. `false`,
/// and nothing changed, where they form a cycle.
pub(super) fn sort_nodes(graph: &mut Graph) -> bool {
    let mut writer: Vec<Option<usize>> = vec![None; graph.values.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        for id in node.outputs.iter().flatten() {
            writer[id.index()] = Some(at);
        }
    }
    // Depth first: a node is entered, then what it reads, then it is placed.
    const NEW: u8 = 0;
    const ENTERED: u8 = 1;
    const PLACED: u8 = 2;
    let mut state = vec![NEW; graph.nodes.len()];
    let mut order = Vec::with_capacity(graph.nodes.len());
    let mut open: Vec<usize> = Vec::new();
    for start in 0..graph.nodes.len() {
        open.push(start);
        while let Some(&at) = open.last() {
            match state[at] {
                NEW => {
                    state[at] = ENTERED;
                    for id in graph.nodes[at].inputs.iter().flatten() {
                        if let Some(from) = writer[id.index()] {
                            match state[from] {
                                NEW => open.push(from),
                                ENTERED => return false,
                                _ => {}
                            }
                        }
                    }
                }
                ENTERED => {
                    state[at] = PLACED;
                    order.push(at);
                    open.pop();
                }
                _ => {
                    open.pop();
                }
            }
        }
    }
    let mut nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    graph.nodes = order.into_iter().filter_map(|at| nodes[at].take()).collect();
    true
}
