//! A `Scan` whose body is an LSTM, a GRU or a plain recurrent cell becomes that operator.
//!
//! It holds when every output of the body is the hidden or the cell state after the step, all sequences are read
//! in one direction, states have at most one axis of an extent other than 1 beside their features ([`layout`]), and
//! weights and biases are constants. The form of opset 8 holds where no row has a length of its own. What the body computes is compared as expressions ([`symbolic`], [`poly`]), not as nodes, so that
//! the spelling does not matter ([`matching`]). Sums are taken in another order than before: within the accuracy
//! class of contractions.

mod emit;
mod layout;
mod matching;
mod poly;
mod stacked;
mod symbolic;

use super::index::{Index, Keys, settle};
use crate::graph::fact::normal_axis;
use crate::graph::{Fact, Graph, KnownFacts, Node, TensorFact, ValueId, infer};
use crate::memory::Budget;
use crate::ops::Scan;
use layout::{Axis, axes_of};
use symbolic::{Input, Piece, Symbolic, feature_axis};

/// Replaces every such Scan.
pub(super) fn recognise(graph: &mut Graph, keys: &mut Keys, budget: &Budget) -> bool {
    if !graph.nodes.iter().any(is_scan) {
        return false;
    }
    let mut index = Index::new(graph, keys);
    let mut known = KnownFacts::default();
    known.update(graph);
    let before = (graph.nodes.clone(), graph.outputs.clone());
    let mut changed = false;
    for at in 0..graph.nodes.len() {
        if !is_scan(&graph.nodes[at]) {
            continue;
        }
        let scan = graph.nodes[at].clone();
        if let Some((map, made)) = replacement(graph, &index, known.facts(), &scan, budget) {
            known.learn(graph, &made);
            index.append(graph, keys, made);
            index.redirect(graph, &map);
            index.remove(graph, &[at]);
            changed = true;
        }
    }
    settle(graph, changed.then_some(before))
}

fn is_scan(node: &Node) -> bool {
    node.op.as_any().is::<Scan>()
}

/// The sequences of a Scan, read as the leaves of a cell: the tensor that each leaf is a slice of, and its axes.
struct Leaves {
    sources: Vec<(ValueId, Vec<Axis>)>,
}

/// What is read instead of what `scan` gives, and the nodes that make it.
pub(super) fn replacement(
    graph: &mut Graph,
    index: &Index,
    facts: &[Option<Fact>],
    scan: &Node,
    budget: &Budget,
) -> Option<(Vec<(ValueId, ValueId)>, Vec<Node>)> {
    [false, true].into_iter().find_map(|columns| replaced_by(graph, index, facts, scan, columns, budget))
}

/// The same where features lie along the last axis, or with `columns` along the one before.
fn replaced_by(
    graph: &mut Graph,
    index: &Index,
    facts: &[Option<Fact>],
    node: &Node,
    columns: bool,
    budget: &Budget,
) -> Option<(Vec<(ValueId, ValueId)>, Vec<Node>)> {
    let scan = node.op.as_any().downcast_ref::<Scan>()?;
    let reversed = *scan.input_reversed.first()?;
    let (states, sequences) = (scan.states(), scan.input_axes.len());
    let first = usize::from(scan.batched);
    let rows_end_alike = !scan.batched || node.inputs.first().copied().flatten().is_none();
    if states == 0 || !rows_end_alike || scan.input_reversed.iter().any(|r| *r != reversed) {
        return None;
    }
    let given: Vec<Fact> =
        node.inputs[first..].iter().map(|id| facts.get((*id)?.index())?.clone()).collect::<Option<_>>()?;
    // Facts of the body's inputs, and the axes of the values outside.
    let mut inner: Vec<Fact> = Vec::new();
    let mut axes: Vec<Vec<Axis>> = Vec::new();
    for (i, fact) in given.iter().enumerate() {
        let t = fact.tensor()?;
        let mut shape = t.shape.clone()?;
        if i >= states + sequences {
            inner.push(TensorFact::new(t.dtype, shape).into());
            continue;
        }
        if scan.batched {
            if shape.is_empty() {
                return None;
            }
            shape.remove(0);
        }
        let mut time = None;
        if i >= states {
            let along = normal_axis(scan.input_axes[i - states], shape.len()).ok()?;
            shape.remove(along);
            time = Some(along);
        }
        let mut of = axes_of(&shape, feature_axis(shape.len(), columns)?, !scan.batched)?;
        if let Some(along) = time {
            of.insert(along, Axis::Time);
        }
        if scan.batched {
            of.insert(0, Axis::Batch);
        }
        axes.push(of);
        inner.push(TensorFact::new(t.dtype, shape).into());
    }
    let state = inner.first()?.tensor()?.clone();
    let mut symbolic = Symbolic::new(&state, columns)?;
    let like_state = |f: &Fact| f.tensor().is_some_and(|t| t.dtype == state.dtype && symbolic.holds_state(t));
    if !inner[..states].iter().all(like_state) {
        return None;
    }
    let mut inputs: Vec<Input> = Vec::new();
    let mut leaves = Leaves { sources: Vec::new() };
    for (i, fact) in inner.iter().enumerate() {
        inputs.push(if i < states {
            Input::State
        } else if i < states + sequences {
            let shape = fact.tensor()?.shape.as_ref()?;
            let width = shape.get(feature_axis(shape.len(), columns)?)?.known()?;
            let source = (node.inputs[first + i]?, axes[i].clone());
            Input::Row(leaf(graph, index, facts, &mut symbolic, &mut leaves, source, width)?)
        } else {
            Input::Other
        });
    }
    let body = &scan.body.graph;
    let inner = infer(body, &inner).ok()?;
    let outputs = symbolic.run(body, &inner, &inputs);
    let next: Vec<poly::Id> = outputs[..states].iter().copied().collect::<Option<_>>()?;
    let cell = matching::recognise(&mut symbolic.polys, &next)?;
    // What is collected must be a state after the step.
    let mut collected: Vec<emit::Collected> = Vec::new();
    for (i, output) in outputs[states..].iter().enumerate() {
        let state = next.iter().position(|n| Some(*n) == *output)?;
        let shape = inner[body.outputs[states + i].index()].as_ref()?.tensor()?.shape.clone()?;
        let mut axes = axes_of(&shape, feature_axis(shape.len(), columns)?, !scan.batched)?;
        axes.insert(normal_axis(scan.output_axes[i], shape.len() + 1).ok()?, Axis::Time);
        if scan.batched {
            axes.insert(0, Axis::Batch);
        }
        collected.push(emit::Collected { state, axes, reversed: scan.output_reversed[i] });
    }
    let form = emit::Form {
        sources: &leaves.sources,
        initial: node.inputs[first..first + states].iter().copied().collect::<Option<Vec<_>>>()?,
        state_axes: &axes[..states],
        dtype: state.dtype,
        reversed,
        collected: &collected,
    };
    emit::emit(graph, node, &cell, &symbolic, &form, budget)
}

/// The pieces of a sequence's element. A product with constant weights made for all steps at once is taken apart
/// again: the operator makes it itself.
fn leaf(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    symbolic: &mut Symbolic,
    leaves: &mut Leaves,
    source: (ValueId, Vec<Axis>),
    width: usize,
) -> Option<Vec<Piece>> {
    if let Some(row) = product_of_sequence(graph, index, facts, symbolic, leaves, &source, 0) {
        return Some(row);
    }
    let known = leaves.sources.iter().position(|s| *s == source);
    let leaf = known.unwrap_or_else(|| {
        leaves.sources.push(source);
        symbolic.leaf(width)
    });
    Some(vec![Piece::Leaf(leaf)])
}

fn product_of_sequence(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    symbolic: &mut Symbolic,
    leaves: &mut Leaves,
    source: &(ValueId, Vec<Axis>),
    depth: usize,
) -> Option<Vec<Piece>> {
    // Features along the last axis, as in the product.
    if depth > 4 || source.1.last() != Some(&Axis::Feature) || source.1.len() < 2 {
        return None;
    }
    let (at, _) = index.writer(source.0)?;
    let node = &graph.nodes[at];
    let shape = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor()?.shape.clone();
    let rank = shape(source.0)?.len();
    if node.def.name == "Add" {
        let [Some(a), Some(b)] = node.inputs[..] else { return None };
        let (from, bias) = if graph.constant(b).is_some() { (a, b) } else { (b, a) };
        let bias = graph.constant(bias)?.clone();
        if shape(from)? != shape(source.0)? || bias.shape().len() > rank {
            return None;
        }
        let from = (from, source.1.clone());
        let row = product_of_sequence(graph, index, facts, symbolic, leaves, &from, depth + 1)?;
        return symbolic.sum_of(&row, &bias);
    }
    let product = node.op.product()?;
    let [Some(a), Some(b)] = node.inputs[..] else { return None };
    let weights = graph.constant(b)?.clone();
    if shape(a)?.len() != rank || weights.shape().len() != 2 || product.transpose_a {
        return None;
    }
    let columns = weights.shape()[usize::from(!product.transpose_b)];
    if !columns.is_multiple_of(symbolic.hidden) {
        return None;
    }
    let width = shape(a)?.last()?.known()?;
    let row = leaf(graph, index, facts, symbolic, leaves, (a, source.1.clone()), width)?;
    symbolic.product_of(&row, &weights, product.transpose_b, product.alpha.into())
}
