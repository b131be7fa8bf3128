//! A batch becomes two halves, each of which goes through the model by itself: so that one half can be at one operator
//! while the other is at another, or on another device.
//!
//! Which axis is the batch is not said by a model. Each of the first axes of some inputs is followed through the graph, as
//! far as operators can be cut along it ([`super::division`]), which cuts other inputs as they ask; the one by which most of
//! the work is cut is taken, where that is half of all or more, and a recurrence where there are any. What cannot be cut
//! reads the halves joined.
//! A batch of an odd number of rows has the larger half first; one of a single row has none.

use super::division::{Division, division, wanted};
use super::{concat, slice};
use crate::graph::{Fact, Graph, Node, ValueId, infer, node_cost};
use std::collections::HashMap;

/// Inputs that are begun with, and axes of each that may be the batch.
const INPUTS: usize = 4;
const AXES: usize = 3;
/// Part of the work by which no further axis is tried.
const NEARLY: f64 = 0.9;

/// The graph in halves; `None` where there is no batch to be cut.
pub(super) fn halves(graph: &Graph, inputs: &[Fact]) -> Option<Graph> {
    let facts = infer(graph, inputs).ok()?;
    let shape = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor()?.known_shape();
    let recurrent = graph.nodes.iter().any(|node| node.op.recurrence().is_some());
    let work = |node: &Node| {
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| facts[id.index()].as_ref())).collect();
        node_cost(node, &given).map_or(0.0, |cost| cost.flops)
    };
    let work: Vec<f64> = graph.nodes.iter().map(work).collect();
    let all: f64 = work.iter().sum();
    let mut best: Option<(f64, Graph)> = None;
    for &seed in graph.inputs.iter().take(INPUTS) {
        let shape = shape(seed).unwrap_or_default();
        for (axis, &extent) in shape.iter().enumerate().take(AXES).filter(|(_, extent)| **extent >= 2) {
            let parts = [extent.div_ceil(2), extent / 2];
            let halving = Halving::new(graph, &facts, (seed, axis), parts);
            let Some((made, cut)) = halving.made() else { continue };
            let share: f64 = cut.iter().map(|&node| work[node]).sum();
            let useful = !recurrent || cut.iter().any(|&node| graph.nodes[node].op.recurrence().is_some());
            let more = best.as_ref().is_none_or(|(most, _)| share > *most);
            if useful && more && share > 0.0 && 2.0 * share >= all {
                // Nothing that could be found is much more.
                if share >= NEARLY * all {
                    return Some(made);
                }
                best = Some((share, made));
            }
        }
    }
    best.map(|(_, graph)| graph)
}

/// A graph under way to its halves. Values keep their numbers.
struct Halving<'a> {
    of: &'a Graph,
    facts: &'a [Option<Fact>],
    parts: [usize; 2],
    graph: Graph,
    /// By value: the axis along which it is cut, where it is.
    axis: Vec<Option<usize>>,
    /// The halves that there are, by value and axis.
    halves: HashMap<(ValueId, usize), [ValueId; 2]>,
    /// By value: whether it was made in halves only.
    apart: Vec<bool>,
}

impl<'a> Halving<'a> {
    fn new(
        of: &'a Graph,
        facts: &'a [Option<Fact>],
        (seed, axis): (ValueId, usize),
        parts: [usize; 2],
    ) -> Self {
        let mut graph = of.clone();
        graph.nodes.clear();
        let mut axes = vec![None; of.values.len()];
        axes[seed.index()] = Some(axis);
        let apart = vec![false; of.values.len()];
        Self { of, facts, parts, graph, axis: axes, halves: HashMap::new(), apart }
    }

    /// The graph, and the nodes that were cut; `None` where none was.
    fn made(mut self) -> Option<(Graph, Vec<usize>)> {
        let mut cut = Vec::new();
        for (at, node) in self.of.nodes.iter().enumerate() {
            match self.division(node) {
                Some(division) => {
                    self.cut(node, &division)?;
                    cut.push(at);
                }
                None => {
                    for id in node.inputs.iter().flatten() {
                        self.join(*id)?;
                    }
                    self.graph.nodes.push(node.clone());
                }
            }
        }
        for &id in &self.of.outputs {
            self.join(id)?;
        }
        (!cut.is_empty()).then_some((self.graph, cut))
    }

    /// How the node is cut where one of its inputs is.
    fn division(&self, node: &Node) -> Option<Division> {
        let given: Vec<Option<&Fact>> =
            node.inputs.iter().map(|id| id.and_then(|id| self.facts[id.index()].as_ref())).collect();
        let inputs = node.inputs.iter().enumerate();
        let mut cut = inputs.filter_map(|(at, id)| Some((at, self.axis[(*id)?.index()]?)));
        cut.find_map(|from| division(&*node.op, (&given, wanted(node)), from, &self.parts))
    }

    /// The node on each half.
    fn cut(&mut self, node: &Node, of: &Division) -> Option<()> {
        let mut inputs = [node.inputs.clone(), node.inputs.clone()];
        for (at, id) in node.inputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            match of.inputs.get(at).copied().flatten() {
                Some(axis) => {
                    let halves = self.halves(id, axis)?;
                    for (inputs, half) in inputs.iter_mut().zip(halves) {
                        inputs[at] = Some(half);
                    }
                }
                None => self.join(id)?,
            }
        }
        let mut made: Vec<Vec<Option<ValueId>>> = Vec::with_capacity(2);
        for (half, inputs) in inputs.into_iter().enumerate() {
            let name: std::sync::Arc<str> = format!("{}/half {half}", node.name).into();
            let own = node.outputs.iter().map(|id| id.map(|_| self.graph.add_value(name.clone())));
            let outputs: Vec<Option<ValueId>> = own.collect();
            made.push(outputs.clone());
            self.graph.nodes.push(Node { name, def: node.def, op: node.op.clone(), inputs, outputs });
        }
        for (at, id) in node.outputs.iter().enumerate() {
            if let (Some(id), [Some(first), Some(second)]) = (id, [made[0][at], made[1][at]]) {
                let axis = *of.outputs.get(at)?;
                self.axis[id.index()] = Some(axis);
                self.apart[id.index()] = true;
                self.halves.insert((*id, axis), [first, second]);
            }
        }
        Some(())
    }

    /// The halves of a value along `axis`, made where they are not there yet.
    fn halves(&mut self, id: ValueId, axis: usize) -> Option<[ValueId; 2]> {
        if let Some(halves) = self.halves.get(&(id, axis)) {
            return Some(*halves);
        }
        self.join(id)?;
        let [first, second] = self.parts;
        let mut nodes = Vec::new();
        let halves = [[0, first], [first, first + second]]
            .map(|range| slice(&mut self.graph, &mut nodes, id, axis, range));
        self.graph.nodes.append(&mut nodes);
        let halves = [halves[0]?, halves[1]?];
        self.halves.insert((id, axis), halves);
        Some(halves)
    }

    /// Makes the whole of a value that there is in halves only.
    fn join(&mut self, id: ValueId) -> Option<()> {
        if !std::mem::take(self.apart.get_mut(id.index())?) {
            return Some(());
        }
        let axis = self.axis[id.index()]?;
        let halves = *self.halves.get(&(id, axis))?;
        let mut nodes = Vec::new();
        concat(&mut self.graph, &mut nodes, &halves, axis, id)?;
        self.graph.nodes.append(&mut nodes);
        Some(())
    }
}
