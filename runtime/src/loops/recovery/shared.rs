//! Equal constants become one, and nodes that do the same to the same inputs become one.
//!
//! Exporters write the weights of a cell once per step. Two constants are equal when dtype, shape and bytes are;
//! two nodes are when operator and attributes are, nothing about them is random, and each input is the same
//! value.

use super::index::Keys;
use crate::graph::{Graph, ValueId, redirect};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// Bytes of a constant that are looked at first.
const SAMPLE: usize = 64;

/// Lets readers of equal constants read one of them.
pub(super) fn share_constants(graph: &mut Graph) {
    let mut first: HashMap<u64, Vec<ValueId>> = HashMap::new();
    let mut map: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    let mut found = false;
    let mut read = vec![false; graph.values.len()];
    for id in graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten()) {
        read[id.index()] = true;
    }
    for index in 0..graph.values.len() {
        let (Some(id), Some(tensor), true) = (graph.id(index), &graph.values[index].constant, read[index])
        else {
            continue;
        };
        let group = first.entry(sample(tensor)).or_default();
        // Of constants that share a sample but not their content, a few are looked at.
        let same = group.iter().take(8).find(|&&other| {
            graph.constant(other).is_some_and(|o| {
                o.dtype() == tensor.dtype() && o.shape() == tensor.shape() && same_content(o, tensor)
            })
        });
        match same {
            Some(&other) => {
                map[index] = Some(other);
                found = true;
            }
            None => group.push(id),
        }
    }
    if found {
        redirect(graph, &map);
    }
}

fn same_content(a: &Tensor, b: &Tensor) -> bool {
    match (a.as_strings(), b.as_strings()) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.bytes() == b.bytes(),
        _ => false,
    }
}

fn sample(tensor: &Tensor) -> u64 {
    let mut hash = DefaultHasher::new();
    tensor.dtype().hash(&mut hash);
    tensor.shape().hash(&mut hash);
    if tensor.as_strings().is_none() {
        let bytes = tensor.bytes();
        bytes[..bytes.len().min(SAMPLE)].hash(&mut hash);
        bytes[bytes.len().saturating_sub(SAMPLE)..].hash(&mut hash);
    }
    hash.finish()
}

/// Lets readers of equal nodes' outputs read those of the first.
pub(super) fn share_nodes(graph: &mut Graph, keys: &mut Keys) -> bool {
    let mut first: HashMap<(u32, Vec<Option<ValueId>>), usize> = HashMap::new();
    let mut map: Vec<Option<ValueId>> = vec![None; graph.values.len()];
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        let resolved: Vec<Option<ValueId>> =
            graph.nodes[at].inputs.iter().map(|id| id.map(|id| map[id.index()].unwrap_or(id))).collect();
        let node = &graph.nodes[at];
        let key = keys.of_node(node);
        match first.get(&(key, resolved.clone())) {
            Some(&earlier) if graph.nodes[earlier].outputs.len() == node.outputs.len() => {
                for output in 0..node.outputs.len() {
                    let (Some(from), to) =
                        (graph.nodes[at].outputs[output], graph.nodes[earlier].outputs[output])
                    else {
                        continue;
                    };
                    match to {
                        Some(to) => {
                            map[from.index()] = Some(to);
                            graph.nodes[at].outputs[output] = None;
                        }
                        // Nobody read this output of the earlier node so far.
                        None => {
                            graph.nodes[earlier].outputs[output] = Some(from);
                            graph.nodes[at].outputs[output] = None;
                        }
                    }
                    changed = true;
                }
            }
            _ => {
                first.insert((key, resolved), at);
            }
        }
    }
    if changed {
        redirect(graph, &map);
        graph.nodes.retain(|n| n.outputs.iter().any(Option::is_some));
    }
    changed
}
