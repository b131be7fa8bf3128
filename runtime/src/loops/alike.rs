//! Products of one row that are spelled as `MatMul` become `Gemm` where a `Gemm` reads the same row, so that [siblings] are
//! joined whichever way an exporter wrote them: a cell's gates with their bias, and the query of an attention without. A
//! constant row that is added to the product alone becomes the bias, but in narrow types, which round the product before.
//!
//! Legal for `x·W` with constant `W`, where the `Gemm` neither scales nor transposes `x`: `x·W = x·(Wᵀ)ᵀ + 0`, each column the
//! sum that it was. Pays as joining does: one pass over the weights in the place of two that each wait for the threads.
//!
//! [siblings]: super::siblings

use super::joined::Joined;
use super::siblings::MOST_BYTES;
use crate::dtype::DType;
use crate::graph::fact::Fact;
use crate::graph::{Graph, Node, ValueId};
use crate::memory::{Budget, Buffer};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// Writes products of `graph` as the `Gemm` that reads the same row; `None` where there are none.
pub(super) fn spell_alike(graph: &mut Graph, facts: &[Option<Fact>], budget: &Budget) -> Option<Vec<Joined>> {
    let mut models: HashMap<ValueId, usize> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        if let Some(x) = model_row(graph, node).filter(|x| is_one_row(*x, facts)) {
            models.entry(x).or_insert(at);
        }
    }
    if models.is_empty() {
        return None;
    }
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.values.len()];
    for (at, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| readers[id.index()].push(at));
    }
    // Who reads an output of the graph is not known.
    graph.outputs.iter().for_each(|id| readers[id.index()].push(usize::MAX));
    let mut left: HashSet<ValueId> = HashSet::new();
    let mut gone = vec![false; graph.nodes.len()];
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let [Some(x), Some(w)] = node.inputs[..] else { continue };
        let Some(&model) = models.get(&x).filter(|_| node.def.name == "MatMul" && node.def.domain.is_empty())
        else {
            continue;
        };
        let only = node.outputs[0].and_then(|made| match readers[made.index()][..] {
            [sum] if sum < graph.nodes.len() => Some((sum, row_of(graph, sum, made)?)),
            _ => None,
        });
        let Some(written) = written_as(graph, (model, at), only.map(|(_, row)| row), budget) else {
            continue;
        };
        left.insert(w);
        match only {
            Some((sum, row)) => {
                let outputs = std::mem::take(&mut graph.nodes[sum].outputs);
                graph.nodes[at] = Node { outputs, ..written };
                graph.nodes[sum].inputs.clear();
                (gone[sum], _) = (true, left.insert(row));
            }
            None => graph.nodes[at] = written,
        }
    }
    let mut gone = gone.into_iter();
    graph.nodes.retain(|_| gone.next() != Some(true));
    let read =
        graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten().copied()).chain(graph.outputs.clone());
    let read: HashSet<ValueId> = read.collect();
    // Weights that nobody else reads are let go of.
    for id in left.iter().filter(|id| !read.contains(id)) {
        graph.values[id.index()].constant = None;
    }
    (!left.is_empty()).then(Vec::new)
}

/// The left operand of `node` where it is a `Gemm` that others can be written as.
fn model_row(graph: &Graph, node: &Node) -> Option<ValueId> {
    let product = node.op.product().filter(|_| node.def.name == "Gemm" && node.def.domain.is_empty())?;
    let plain = product.alpha == 1.0 && !product.transpose_a;
    let constant = |id: &Option<ValueId>| id.is_some_and(|id| graph.constant(id).is_some());
    (plain && node.inputs[1..].iter().all(constant)).then(|| node.inputs[0]).flatten()
}

fn is_one_row(x: ValueId, facts: &[Option<Fact>]) -> bool {
    let shape = facts[x.index()].as_ref().and_then(|f| f.tensor()?.known_shape());
    shape.is_some_and(|shape| matches!(shape.as_slice(), [1, _]))
}

/// The constant row that node `sum` adds to `made`, one row.
fn row_of(graph: &Graph, sum: usize, made: ValueId) -> Option<ValueId> {
    let node = &graph.nodes[sum];
    let [Some(a), Some(b)] = node.inputs[..] else { return None };
    let row = if a == made { b } else { a };
    let tensor = graph.constant(row).filter(|_| node.def.name == "Add" && node.def.domain.is_empty())?;
    (tensor.shape().len() <= 2 && tensor.shape().last() == Some(&tensor.len())).then_some(row)
}

/// Node `at`, a `MatMul` whose result gets `row` added where there is one, as a product of the form of node `model`.
fn written_as(
    graph: &mut Graph,
    (model, at): (usize, usize),
    row: Option<ValueId>,
    budget: &Budget,
) -> Option<Node> {
    let (like, node) = (graph.nodes[model].clone(), graph.nodes[at].clone());
    let weights = graph.constant(node.inputs[1]?)?.clone();
    let (of_model, &[_, columns]) = (graph.constant(like.inputs[1]?)?, weights.shape()) else { return None };
    if of_model.dtype() != weights.dtype() || weights.bytes().len() > MOST_BYTES {
        return None;
    }
    let fits = |id: ValueId| {
        graph.constant(id).is_some_and(|row| row.len() == columns && row.dtype() == weights.dtype())
    };
    let wide = matches!(weights.dtype(), DType::F32 | DType::F64);
    if row.is_some_and(|row| !wide || like.inputs.len() < 3 || !fits(row)) {
        return None;
    }
    let mut inputs = node.inputs.clone();
    if like.op.product()?.transpose_b {
        let exchanged = exchanged(&weights, budget)?;
        inputs[1] = Some(graph.add_constant(node.name.clone(), exchanged));
    }
    if row.is_some() {
        inputs.push(row);
    } else if like.inputs.len() > 2 {
        let bytes = weights.dtype().bytes(columns)?;
        let nothing = Tensor::from_buffer(weights.dtype(), &[columns], Buffer::zeroed(bytes, budget).ok()?);
        inputs.push(Some(graph.add_constant(node.name.clone(), nothing.ok()?)));
    }
    Some(Node { inputs, def: like.def, op: like.op, ..node })
}

/// A matrix with rows and columns exchanged.
fn exchanged(matrix: &Tensor, budget: &Budget) -> Option<Tensor> {
    let &[rows, columns] = matrix.shape() else { return None };
    let bytes = matrix.bytes();
    let width = bytes.len().checked_div(rows * columns)?;
    let mut buffer = Buffer::zeroed(bytes.len(), budget).ok()?;
    for (at, element) in buffer.bytes_mut().chunks_exact_mut(width.max(1)).enumerate() {
        let (column, row) = (at / rows, at % rows);
        element.copy_from_slice(&bytes[(row * columns + column) * width..][..width]);
    }
    Tensor::from_buffer(matrix.dtype(), &[columns, rows], buffer).ok()
}
