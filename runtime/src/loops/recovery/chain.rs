//! Chains of products: the same constant operand used again on what the use before has led to.
//!
//! A recurrence shows itself by its recurrent weights. Nodes with the same operator, attributes and constant
//! operands form a group; within it, a node follows the one that it depends on through the longest row of
//! members. A chain is a row of members each of which is followed by one.
//!
//! Where states are only multiplied by gates (SRU, QRNN), there are no recurrent weights. Products of two values
//! that vary, made of the same operators, then form the groups ([`gated`]).

use super::index::Index;
use crate::graph::{Graph, ValueId};
use std::collections::HashMap;

/// Chains of at least two nodes, in the order of their first nodes. Nodes of `failed` start none. `fuel` bounds
/// the nodes looked at.
pub(super) fn chains(
    graph: &Graph,
    index: &Index,
    fuel: &mut usize,
    mut wanted: impl FnMut(usize) -> bool,
) -> Vec<Vec<usize>> {
    let mut settled: Vec<usize> = Vec::new();
    let mut groups: HashMap<(u32, Vec<Option<ValueId>>), Vec<usize>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let mut weighted = false;
        let mut varies = false;
        let constants: Vec<Option<ValueId>> = node
            .inputs
            .iter()
            .map(|id| {
                let id = (*id)?;
                match graph.constant(id) {
                    Some(t) => {
                        weighted |= t.shape().len() >= 2 && t.dtype().is_float() && t.len() > 1;
                        Some(id)
                    }
                    None => {
                        varies = true;
                        None
                    }
                }
            })
            .collect();
        if weighted && varies && index.keys[at] & 1 == 0 {
            groups.entry((index.keys[at], constants)).or_default().push(at);
        } else if weighted && index.keys[at] & 1 == 0 {
            settled.push(at);
        }
    }
    // A first step on a constant state has no operand that varies.
    for &at in &settled {
        let node = &graph.nodes[at];
        for blank in 0..node.inputs.len() {
            let mut constants = node.inputs.clone();
            constants[blank] = None;
            if let Some(group) = groups.get_mut(&(index.keys[at], constants)) {
                group.push(at);
                group.sort_unstable();
                break;
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|g| g.len() >= 2).collect();
    groups.sort_unstable();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    let mut scratch = Scratch { depth: vec![(0, 0); graph.values.len()], touched: Vec::new() };
    for group in groups {
        let range = group[group.len() - 1] - group[0] + 1;
        if !wanted(group[0]) || *fuel < range {
            continue;
        }
        *fuel -= range;
        chains.extend(scratch.chains_of(graph, &group));
    }
    chains.sort_unstable();
    chains
}

/// Elementwise products that shorter rows of do not make a recurrence.
const FEWEST_GATED: usize = 4;

/// Chains of elementwise products of two values that vary.
pub(super) fn gated(graph: &Graph, index: &Index, fuel: &mut usize) -> Vec<Vec<usize>> {
    let mut groups: HashMap<(u32, u64), Vec<usize>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let varies = |id: &Option<ValueId>| id.is_some_and(|id| graph.constant(id).is_none());
        if node.def.name == "Mul" && node.inputs.iter().all(varies) {
            groups.entry((index.keys[at], index.outlook[at])).or_default().push(at);
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().filter(|g| g.len() >= FEWEST_GATED).collect();
    groups.sort_unstable();
    let mut chains: Vec<Vec<usize>> = Vec::new();
    let mut scratch = Scratch { depth: vec![(0, 0); graph.values.len()], touched: Vec::new() };
    for group in groups {
        let range = group[group.len() - 1] - group[0] + 1;
        if *fuel < range {
            continue;
        }
        *fuel -= range;
        chains.extend(scratch.chains_of(graph, &group).into_iter().filter(|c| c.len() >= FEWEST_GATED));
    }
    chains.sort_unstable();
    chains
}

struct Scratch {
    /// For each value: members on the longest row that leads to it, and the last of them.
    depth: Vec<(u32, u32)>,
    touched: Vec<usize>,
}

impl Scratch {
    fn chains_of(&mut self, graph: &Graph, group: &[usize]) -> Vec<Vec<usize>> {
        let mut next = 0;
        let mut before: Vec<Option<usize>> = vec![None; group.len()];
        for at in group[0]..=group[group.len() - 1] {
            let node = &graph.nodes[at];
            let mut deepest =
                node.inputs.iter().flatten().map(|id| self.depth[id.index()]).max().unwrap_or((0, 0));
            if group[next] == at {
                before[next] = (deepest.0 > 0).then_some(deepest.1 as usize);
                deepest = (deepest.0 + 1, next as u32);
                next += 1;
            }
            if deepest.0 > 0 {
                for id in node.outputs.iter().flatten() {
                    self.depth[id.index()] = deepest;
                    self.touched.push(id.index());
                }
            }
        }
        for v in self.touched.drain(..) {
            self.depth[v] = (0, 0);
        }
        // Each member is followed by at most one: where two claim the same one, the row ends.
        let mut after: Vec<Option<usize>> = vec![None; group.len()];
        let mut claims = vec![0u32; group.len()];
        for (member, b) in before.iter().enumerate() {
            if let Some(b) = b {
                claims[*b] += 1;
                after[*b] = Some(member);
            }
        }
        let mut out = Vec::new();
        for start in 0..group.len() {
            let starts = before[start].is_none_or(|b| claims[b] > 1);
            let mut row = vec![group[start]];
            let mut member = start;
            while let (true, Some(follower), 1) = (starts, after[member], claims[member]) {
                row.push(group[follower]);
                member = follower;
            }
            if starts && row.len() >= 2 {
                out.push(row);
            }
        }
        out
    }
}
