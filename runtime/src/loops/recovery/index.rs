//! What rewrites look up in a graph: who writes a value, who reads it, and which nodes do the same to their
//! inputs.

use super::order::sort_nodes;
use crate::graph::{Graph, Node, ValueId};
use crate::ops::Op;
use smallvec::SmallVec;
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

/// See the module's documentation. A graph that is rewritten through [`Index::append`], [`Index::remove`] and
/// [`Index::redirect`] keeps its index: nodes keep their places, those that are gone are left without outputs until
/// [`settle`], and new ones stand at the end, in no order with the rest.
pub(super) struct Index {
    /// Node and output position that writes each value.
    writer: Vec<Option<(u32, u32)>>,
    /// The nodes that read each value, one entry per input.
    readers: Vec<SmallVec<[u32; 4]>>,
    /// Number of each node's operator; see [`Keys`].
    pub(super) keys: Vec<u32>,
    /// A hash of each node's operator and of those that write its inputs.
    pub(super) outlook: Vec<u64>,
    /// Numbers of nodes, none smaller than those of the nodes that it depends on, while `is_ordered`.
    order: Vec<u32>,
    is_ordered: bool,
}

impl Index {
    pub(super) fn new(graph: &Graph, numbers: &mut Keys) -> Self {
        let values = graph.values.len();
        let mut index = Self {
            writer: vec![None; values],
            readers: vec![SmallVec::new(); values],
            keys: Vec::with_capacity(graph.nodes.len()),
            outlook: Vec::with_capacity(graph.nodes.len()),
            order: Vec::with_capacity(graph.nodes.len()),
            is_ordered: true,
        };
        for (at, node) in graph.nodes.iter().enumerate() {
            index.add(graph, at, numbers.of_node(node), at as u32);
        }
        index
    }

    /// Notes node `at`, whose inputs have their writers noted before.
    fn add(&mut self, graph: &Graph, at: usize, key: u32, order: u32) {
        let node = &graph.nodes[at];
        self.keys.push(key);
        self.order.push(order);
        for id in node.inputs.iter().flatten() {
            self.readers[id.index()].push(at as u32);
        }
        self.outlook.push(self.outlook_of(graph, at));
        for (output, id) in node.outputs.iter().enumerate() {
            if let Some(id) = id {
                self.writer[id.index()] = Some((at as u32, output as u32));
            }
        }
    }

    fn outlook_of(&self, graph: &Graph, at: usize) -> u64 {
        let mut hash = DefaultHasher::new();
        self.keys[at].hash(&mut hash);
        for id in &graph.nodes[at].inputs {
            let from = id.map(|id| match self.writer[id.index()] {
                Some((from, output)) => (self.keys[from as usize], output, 0),
                None if graph.constant(id).is_some() => (0, 0, id.index() + 1),
                None => (0, 0, 0),
            });
            from.hash(&mut hash);
        }
        hash.finish()
    }

    /// Appends `nodes`, each behind those whose outputs it reads.
    pub(super) fn append(&mut self, graph: &mut Graph, numbers: &mut Keys, nodes: Vec<Node>) {
        self.writer.resize(graph.values.len(), None);
        self.readers.resize(graph.values.len(), SmallVec::new());
        for node in nodes {
            let key = numbers.of_node(&node);
            let read = node.inputs.iter().flatten().filter_map(|id| self.writer(*id));
            let order = read.map(|(from, _)| self.order[from]).max().unwrap_or(0);
            graph.nodes.push(node);
            self.add(graph, graph.nodes.len() - 1, key, order);
        }
    }

    /// Takes nodes out.
    pub(super) fn remove(&mut self, graph: &mut Graph, nodes: &[usize]) {
        let mut read: Vec<ValueId> = Vec::new();
        for &at in nodes {
            let node = &mut graph.nodes[at];
            read.extend(std::mem::take(&mut node.inputs).into_iter().flatten());
            for id in std::mem::take(&mut node.outputs).into_iter().flatten() {
                self.writer[id.index()] = None;
            }
        }
        read.sort_unstable();
        read.dedup();
        for id in read {
            self.readers[id.index()].retain(|r| !is_gone(graph, *r as usize));
        }
    }

    /// Lets every reader of a pair's first value read its second one instead, pair by pair.
    pub(super) fn redirect(&mut self, graph: &mut Graph, pairs: &[(ValueId, ValueId)]) {
        for &(from, to) in pairs {
            let readers = std::mem::take(&mut self.readers[from.index()]);
            for &reader in &readers {
                for id in graph.nodes[reader as usize].inputs.iter_mut().flatten() {
                    if *id == from {
                        *id = to;
                    }
                }
            }
            let least = self.writer(to).map_or(0, |(node, _)| self.order[node]);
            for &reader in &readers {
                self.outlook[reader as usize] = self.outlook_of(graph, reader as usize);
                self.is_ordered &= least <= self.order[reader as usize];
            }
            self.readers[to.index()].extend(readers);
        }
        let targets: HashMap<ValueId, ValueId> = pairs.iter().copied().collect();
        for id in &mut graph.outputs {
            while let Some(to) = targets.get(id) {
                *id = *to;
            }
        }
    }

    /// Node and output position that writes `id`.
    pub(super) fn writer(&self, id: ValueId) -> Option<(usize, usize)> {
        self.writer.get(id.index()).copied().flatten().map(|(n, o)| (n as usize, o as usize))
    }

    /// A number that nodes depending on node `at` have, or a larger one.
    pub(super) fn order(&self, at: usize) -> u32 {
        if self.is_ordered { self.order[at] } else { 0 }
    }

    /// The nodes that read `id`, one entry per input.
    pub(super) fn readers(&self, id: ValueId) -> impl Iterator<Item = usize> + '_ {
        self.readers.get(id.index()).into_iter().flatten().map(|&n| n as usize)
    }
}

/// Whether node `at` was taken out.
pub(super) fn is_gone(graph: &Graph, at: usize) -> bool {
    graph.nodes[at].outputs.is_empty()
}

/// Takes what is gone out of the graph, and sorts the rest: the end of what an index says. `before` holds the nodes and
/// outputs from before the changes, if there were any, and is taken back where nodes form a cycle. Whether the graph
/// changed.
pub(super) fn settle(graph: &mut Graph, before: Option<(Vec<Node>, Vec<ValueId>)>) -> bool {
    let Some(before) = before else { return false };
    graph.nodes.retain(|n| !n.outputs.is_empty());
    let sorted = sort_nodes(graph);
    if !sorted {
        (graph.nodes, graph.outputs) = before;
    }
    sorted
}
