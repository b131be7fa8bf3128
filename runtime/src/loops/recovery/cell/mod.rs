//! A `Scan` whose body is an LSTM, a GRU or a plain recurrent cell becomes that operator.
//!
//! It holds when every output of the body is the hidden or the cell state after the step, all sequences are read
//! in one direction along one axis, states are of two axes, `[batch, hidden]`, and weights and biases are
//! constants. What the body computes is compared as expressions ([`symbolic`], [`poly`]), not as nodes, so that
//! the spelling does not matter ([`matching`]). Sums are taken in another order than before: within the accuracy
//! class of contractions.

mod emit;
mod matching;
mod poly;
mod symbolic;

use super::index::{Index, Keys};
use super::order::sort_nodes;
use crate::graph::{Fact, Graph, KnownFacts, Node, TensorFact, ValueId, infer, redirect};
use crate::memory::Budget;
use crate::ops::Scan;
use symbolic::{Input, Piece, Symbolic};

/// Replaces every such Scan.
pub(super) fn recognise(graph: &mut Graph, keys: &mut Keys, known: &mut KnownFacts, budget: &Budget) -> bool {
    let scans: Vec<usize> = (0..graph.nodes.len()).filter(|&at| is_scan(&graph.nodes[at])).collect();
    if scans.is_empty() {
        return false;
    }
    let index = Index::new(graph, keys);
    let facts = known.update(graph);
    let mut replaced: Vec<(ValueId, ValueId)> = Vec::new();
    let mut gone = vec![false; graph.nodes.len()];
    for at in scans {
        if let Some((map, mut made)) = replacement(graph, &index, facts, at, budget) {
            replaced.extend(map);
            gone[at] = true;
            graph.nodes.append(&mut made);
        }
    }
    if replaced.is_empty() {
        return false;
    }
    let mut map = vec![None; graph.values.len()];
    for (from, to) in replaced {
        map[from.index()] = Some(to);
    }
    let mut at = 0;
    graph.nodes.retain(|_| {
        at += 1;
        !gone.get(at - 1).copied().unwrap_or(false)
    });
    redirect(graph, &map);
    sort_nodes(graph)
}

fn is_scan(node: &Node) -> bool {
    node.op.as_any().is::<Scan>()
}

/// What the outer graph knows of the sequences of a Scan, read as the leaves of a cell.
struct Leaves {
    /// The tensor that each leaf is a slice of.
    sources: Vec<ValueId>,
}

fn replacement(
    graph: &mut Graph,
    index: &Index,
    facts: &[Option<Fact>],
    at: usize,
    budget: &Budget,
) -> Option<(Vec<(ValueId, ValueId)>, Vec<Node>)> {
    let node = graph.nodes[at].clone();
    let scan = node.op.as_any().downcast_ref::<Scan>()?;
    let axis = *scan.input_axes.first()?;
    let reversed = *scan.input_reversed.first()?;
    let states = scan.states();
    let one_way = scan.input_axes.iter().all(|a| *a == axis)
        && scan.input_reversed.iter().all(|r| *r == reversed)
        && !scan.batched
        && (axis == 0 || axis == 1)
        && states > 0;
    if !one_way {
        return None;
    }
    let given: Vec<Fact> =
        node.inputs.iter().map(|id| facts.get((*id)?.index())?.clone()).collect::<Option<_>>()?;
    let state = given.first()?.tensor()?;
    let mut symbolic = Symbolic::new(state)?;
    if !given[..states]
        .iter()
        .all(|f| f.tensor().is_some_and(|t| t.has_shape_of(state) && t.rank() == Some(2)))
    {
        return None;
    }
    // Facts of the body's inputs, and what they are.
    let mut inner: Vec<Fact> = given.clone();
    let mut inputs: Vec<Input> = Vec::new();
    let mut leaves = Leaves { sources: Vec::new() };
    for (i, fact) in inner.iter_mut().enumerate() {
        let t = fact.tensor()?;
        let bare = TensorFact { shape: t.shape.clone(), ..TensorFact::unranked(t.dtype) };
        if i < states {
            inputs.push(Input::State);
            *fact = bare.into();
        } else if i < states + scan.input_axes.len() {
            let mut shape = bare.shape?;
            if shape.len() != 3 {
                return None;
            }
            shape.remove(axis as usize);
            *fact = TensorFact::new(bare.dtype, shape).into();
            let row = leaf(graph, index, facts, &mut symbolic, &mut leaves, node.inputs[i]?)?;
            inputs.push(Input::Row(row));
        } else {
            inputs.push(Input::Other);
        }
    }
    let body = &scan.body.graph;
    let inner = infer(body, &inner).ok()?;
    let outputs = symbolic.run(body, &inner, &inputs);
    let next: Vec<poly::Id> = outputs[..states].iter().copied().collect::<Option<_>>()?;
    let cell = matching::recognise(&mut symbolic.polys, &next)?;
    // What is collected must be a state after the step.
    let collected: Vec<usize> =
        outputs[states..].iter().map(|o| next.iter().position(|n| Some(*n) == *o)).collect::<Option<_>>()?;
    let form = emit::Form {
        sources: &leaves.sources,
        batch_first: axis == 1,
        reversed,
        collected: &collected,
        output_axes: &scan.output_axes,
        output_reversed: &scan.output_reversed,
    };
    emit::emit(graph, facts, &node, &cell, &symbolic, &form, budget)
}

/// The pieces of a sequence's element. A product with constant weights made for all steps at once is taken apart
/// again: the operator makes it itself.
fn leaf(
    graph: &Graph,
    index: &Index,
    facts: &[Option<Fact>],
    symbolic: &mut Symbolic,
    leaves: &mut Leaves,
    source: ValueId,
) -> Option<Vec<Piece>> {
    if let Some(row) = product_of_sequence(graph, index, facts, symbolic, leaves, source, 0) {
        return Some(row);
    }
    let width = facts.get(source.index())?.as_ref()?.tensor()?.shape.as_ref()?.last()?.known()?;
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
    source: ValueId,
    depth: usize,
) -> Option<Vec<Piece>> {
    if depth > 4 {
        return None;
    }
    let (at, _) = index.writer(source)?;
    let node = &graph.nodes[at];
    let rank = |id: ValueId| facts.get(id.index())?.as_ref()?.tensor()?.rank();
    if node.def.name == "Add" {
        let [Some(a), Some(b)] = node.inputs[..] else { return None };
        let (from, bias) = if graph.constant(b).is_some() { (a, b) } else { (b, a) };
        let bias = graph.constant(bias)?.clone();
        if rank(from)? != 3 || bias.shape().len() > 3 {
            return None;
        }
        let row = product_of_sequence(graph, index, facts, symbolic, leaves, from, depth + 1)?;
        return symbolic.sum_of(&row, &bias);
    }
    let product = node.op.product()?;
    let [Some(a), Some(b)] = node.inputs[..] else { return None };
    let weights = graph.constant(b)?.clone();
    if rank(a)? != 3 || weights.shape().len() != 2 || product.transpose_a {
        return None;
    }
    let columns = weights.shape()[usize::from(!product.transpose_b)];
    if !columns.is_multiple_of(symbolic.hidden) {
        return None;
    }
    let row = leaf(graph, index, facts, symbolic, leaves, a)?;
    symbolic.product_of(&row, &weights, product.transpose_b, product.alpha.into())
}
