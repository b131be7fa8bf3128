//! What rewrites look up in a graph: who writes a value, who reads it, and which nodes do the same to their
//! inputs.

use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Numbers for operators: equal where name and attributes are, so that equal inputs give equal outputs.
#[derive(Default)]
pub(super) struct Keys {
    interned: HashMap<String, u32>,
    /// By the operator's address, which stays taken because it is held.
    known: HashMap<usize, (Arc<dyn Op>, u32)>,
    alone: u32,
}

impl Keys {
    /// The number of a node's operator.
    pub(super) fn of_node(&mut self, node: &Node) -> u32 {
        self.of(node.def.name, &node.op)
    }

    fn of(&mut self, name: &str, op: &Arc<dyn Op>) -> u32 {
        let address = Arc::as_ptr(op).cast::<()>() as usize;
        if let Some((_, key)) = self.known.get(&address) {
            return *key;
        }
        let key = if op.is_deterministic() && op.bodies().is_empty() {
            // An operator's fields are its attributes, and its description shows them all.
            let next = (self.interned.len() as u32) << 1;
            *self.interned.entry(format!("{name} {op:?}")).or_insert(next)
        } else {
            self.alone += 1;
            (self.alone << 1) | 1
        };
        self.known.insert(address, (op.clone(), key));
        key
    }
}

/// See the module's documentation.
pub(super) struct Index {
    /// Node and output position that writes each value.
    writer: Vec<Option<(u32, u32)>>,
    /// The nodes that read value `v`: `readers[first[v]..first[v + 1]]`.
    first: Vec<u32>,
    readers: Vec<u32>,
    /// Number of each node's operator; see [`Keys`].
    pub(super) keys: Vec<u32>,
    /// A hash of each node's operator and of those that write its inputs.
    pub(super) outlook: Vec<u64>,
}

impl Index {
    pub(super) fn new(graph: &Graph, numbers: &mut Keys) -> Self {
        let mut writer = vec![None; graph.values.len()];
        let mut first = vec![0u32; graph.values.len() + 1];
        let mut keys = Vec::with_capacity(graph.nodes.len());
        let mut outlook = Vec::with_capacity(graph.nodes.len());
        for (at, node) in graph.nodes.iter().enumerate() {
            let key = numbers.of_node(node);
            let mut hash = DefaultHasher::new();
            key.hash(&mut hash);
            for id in &node.inputs {
                let from = id.map(|id| match writer[id.index()] {
                    Some((from, output)) => (keys[from as usize], output, 0),
                    None if graph.constant(id).is_some() => (0, 0, id.index() + 1),
                    None => (0, 0, 0),
                });
                from.hash(&mut hash);
                if let Some(id) = id {
                    first[id.index() + 1] += 1;
                }
            }
            keys.push(key);
            outlook.push(hash.finish());
            for (output, id) in node.outputs.iter().enumerate() {
                if let Some(id) = id {
                    writer[id.index()] = Some((at as u32, output as u32));
                }
            }
        }
        for v in 1..first.len() {
            first[v] += first[v - 1];
        }
        let mut next = first.clone();
        let mut readers = vec![0u32; first.last().copied().unwrap_or(0) as usize];
        for (at, node) in graph.nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten() {
                readers[next[id.index()] as usize] = at as u32;
                next[id.index()] += 1;
            }
        }
        Self { writer, first, readers, keys, outlook }
    }

    /// Node and output position that writes `id`.
    pub(super) fn writer(&self, id: ValueId) -> Option<(usize, usize)> {
        self.writer.get(id.index()).copied().flatten().map(|(n, o)| (n as usize, o as usize))
    }

    /// The nodes that read `id`, one entry per input.
    pub(super) fn readers(&self, id: ValueId) -> impl Iterator<Item = usize> + '_ {
        let range = match (self.first.get(id.index()), self.first.get(id.index() + 1)) {
            (Some(&a), Some(&b)) => a as usize..b as usize,
            _ => 0..0,
        };
        self.readers[range].iter().map(|&n| n as usize)
    }
}
