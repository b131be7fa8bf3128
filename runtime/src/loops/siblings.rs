//! Products that share their left operand become one: `x·V` and `x·W` are parts of `x·[V W]`.
//!
//! Gates of a cell, and the queries, keys and values of an attention, are such products. The weights are put side by
//! side once at load, and each result is a part of the whole one.
//!
//! Legal where the products are the same but for their weights: same operator and attributes, weights and biases
//! constant. Each column is then the sum that it was.
//!
//! Pays where the left operand is one row: every part is contiguous, a view without a copy, and one pass over the
//! weights takes the place of several that each wait for the threads. With more rows the parts would be columns,
//! which readers that are no nests had to copy, and products of many rows share nothing but the packing of `x`.
//! The two directions of a recurrence do not meet here: what is one operator over time reads no sibling's operand.

use super::recovery::build::{integers, node};
use crate::graph::fact::Fact;
use crate::graph::{Graph, Node, ValueId};
use crate::memory::{Budget, Buffer};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// Most bytes of weights of one product: more are read at the speed of memory, whatever their number.
const MOST_BYTES: usize = 1 << 24;

/// Puts siblings of `graph` together.
pub(super) fn join_siblings(graph: &mut Graph, facts: &[Option<Fact>], budget: &Budget) -> bool {
    let mut families: Vec<Vec<usize>> = Vec::new();
    let mut of_operand: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let Some(x) = left_operand(graph, node, facts) else { continue };
        let own = of_operand.entry(x).or_default();
        match own.iter().find(|&&f| is_sibling(graph, &graph.nodes[families[f][0]], node)) {
            Some(&family) => families[family].push(at),
            None => {
                own.push(families.len());
                families.push(vec![at]);
            }
        }
    }
    let mut made: HashMap<usize, Vec<Node>> = HashMap::new();
    let mut gone = vec![false; graph.nodes.len()];
    let mut constants: Vec<ValueId> = Vec::new();
    for family in families.iter().filter(|f| f.len() > 1) {
        let Some(nodes) = joined(graph, family, budget) else { continue };
        for &at in family {
            gone[at] = true;
            constants.extend(graph.nodes[at].inputs[1..].iter().flatten());
        }
        made.insert(family[0], nodes);
    }
    let changed = !made.is_empty();
    for (at, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        graph.nodes.extend(made.remove(&at).unwrap_or_default());
        if !gone[at] {
            graph.nodes.push(node);
        }
    }
    // Weights that nobody else reads are let go of.
    let read: HashSet<ValueId> =
        graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten().copied()).collect();
    for id in constants.into_iter().filter(|id| !read.contains(id) && !graph.outputs.contains(id)) {
        graph.values[id.index()].constant = None;
    }
    changed
}

/// The left operand of a product of one row by constants, none of which is transposed.
fn left_operand(graph: &Graph, node: &Node, facts: &[Option<Fact>]) -> Option<ValueId> {
    let product = node.op.product()?;
    let (x, weights) = (node.inputs.first().copied()??, node.inputs.get(1).copied()??);
    let shape = facts[x.index()].as_ref()?.tensor()?.shape.as_ref()?;
    let one_row = shape.len() >= 2 && shape[..shape.len() - 1].iter().all(|d| d.known() == Some(1));
    let weights = graph.value(weights).constant.as_ref()?;
    let columns = *weights.shape().get(1)?;
    let bias_fits = |id: &Option<ValueId>| {
        let bias = id.and_then(|id| graph.value(id).constant.as_ref());
        bias.is_some_and(|b| b.len() == columns && b.shape().last() == Some(&columns))
    };
    let plain = !product.transpose_a && !product.transpose_b && weights.shape().len() == 2;
    let known = graph.value(x).constant.is_none() && node.outputs.len() == 1 && node.outputs[0].is_some();
    (one_row && plain && known && node.inputs[2..].iter().all(bias_fits)).then_some(x)
}

fn is_sibling(graph: &Graph, a: &Node, b: &Node) -> bool {
    let same = |index: usize| {
        let of = |node: &Node| graph.value(node.inputs[index]?).constant.as_ref().map(Tensor::dtype);
        of(a) == of(b)
    };
    a.def == b.def && a.op.product() == b.op.product() && a.inputs.len() == b.inputs.len() && {
        (1..a.inputs.len()).all(same)
    }
}

/// The product of all of `family`, and the split of what it makes.
fn joined(graph: &mut Graph, family: &[usize], budget: &Budget) -> Option<Vec<Node>> {
    let first = graph.nodes[family[0]].clone();
    let mut inputs = vec![first.inputs[0]];
    for index in 1..first.inputs.len() {
        let parts: Vec<Tensor> = family
            .iter()
            .map(|&at| graph.value(graph.nodes[at].inputs[index]?).constant.clone())
            .collect::<Option<_>>()?;
        let rows = if index == 1 { parts[0].shape()[0] } else { 1 };
        inputs.push(Some(graph.add_constant(first.name.clone(), side_by_side(&parts, rows, budget)?)));
    }
    let width = |at: &usize| {
        let weights = graph.value(graph.nodes[*at].inputs[1]?).constant.as_ref()?;
        i64::try_from(weights.shape()[1]).ok()
    };
    let widths: Vec<i64> = family.iter().map(width).collect::<Option<_>>()?;
    let whole = graph.add_value(first.name.clone());
    let sizes = integers(graph, &widths)?;
    let axis = vec![("axis", crate::ops::attributes::Attribute::Int(-1))];
    let mut split = node(graph, "Split", axis, vec![Some(whole), Some(sizes)], 0, family.len())?;
    split.outputs = family.iter().map(|&at| graph.nodes[at].outputs[0]).collect();
    Some(vec![Node { inputs, outputs: vec![Some(whole)], ..first }, split])
}

/// Matrices of `rows` rows beside each other.
fn side_by_side(parts: &[Tensor], rows: usize, budget: &Budget) -> Option<Tensor> {
    let dtype = parts[0].dtype();
    let fits = |p: &Tensor| p.dtype() == dtype && p.bytes().len().is_multiple_of(rows.max(1));
    let bytes = parts.iter().try_fold(0usize, |sum, p| sum.checked_add(p.bytes().len()))?;
    if bytes > MOST_BYTES || bytes == 0 || !parts.iter().all(fits) {
        return None;
    }
    let mut buffer = Buffer::zeroed(bytes, budget).ok()?;
    let mut rest = buffer.bytes_mut();
    for row in 0..rows {
        for part in parts {
            let line = part.bytes().len() / rows;
            let (to, behind) = rest.split_at_mut(line);
            to.copy_from_slice(&part.bytes()[row * line..][..line]);
            rest = behind;
        }
    }
    let columns = parts.iter().map(|p| p.shape().last().copied().unwrap_or(1)).sum();
    let shape: &[usize] = if parts[0].shape().len() > 1 || rows > 1 { &[rows, columns] } else { &[columns] };
    Tensor::from_buffer(dtype, shape, buffer).ok()
}
