//! Products that share their left operand become one: `x·V` and `x·W` are parts of `x·[V W]`.
//!
//! Gates of a cell, and the queries, keys and values of an attention, are such products. The weights are put side by
//! side once at load, biases that are added to the products likewise, and each result is a part of the whole one.
//!
//! Legal where the products are the same but for their weights: same operator and attributes, weights and biases
//! constant. Each column is then the sum that it was.
//!
//! Pays where the left operand is one row: every part is contiguous, a view without a copy, and one pass over the
//! weights takes the place of several that each wait for the threads. With more rows the parts are columns, and it pays
//! where they are read without a copy ([`super::sibling_readers`]): the operand is then packed once and read once.
//! The two directions of a recurrence do not meet here: what is one operator over time reads no sibling's operand.

use super::joined::Joined;
use super::recovery::build::{integers, node};
use super::sibling_readers::Readers;
use crate::graph::fact::Fact;
use crate::graph::{Graph, Node, ValueId};
use crate::memory::{Budget, Buffer};
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};

/// Most bytes of weights of one product: more are read at the speed of memory, whatever their number.
pub(super) const MOST_BYTES: usize = 1 << 24;

/// A product by constants, and the sum of its result and a constant row that alone reads it.
#[derive(Clone, Copy, Debug)]
struct Sibling {
    product: usize,
    /// The sum, and which of its inputs the row is.
    bias: Option<(usize, usize)>,
}

impl Sibling {
    /// The node whose value is the whole result.
    fn last(self) -> usize {
        self.bias.map_or(self.product, |b| b.0)
    }
}

/// Puts siblings of `graph` together; what became of them, if there were any.
pub(super) fn join_siblings(
    graph: &mut Graph,
    facts: &[Option<Fact>],
    budget: &Budget,
) -> Option<Vec<Joined>> {
    let readers = Readers::of(graph, facts);
    let mut families: Vec<Vec<Sibling>> = Vec::new();
    let mut of_operand: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for at in 0..graph.nodes.len() {
        let Some((x, sibling)) = sibling(graph, at, facts, &readers) else { continue };
        let own = of_operand.entry(x).or_default();
        match own.iter().find(|&&f| is_sibling(graph, families[f][0], sibling)) {
            Some(&family) => families[family].push(sibling),
            None => {
                own.push(families.len());
                families.push(vec![sibling]);
            }
        }
    }
    let pays = |graph: &Graph, family: &[Sibling]| {
        let made = family.iter().map(|s| graph.nodes[s.last()].outputs[0]).collect::<Option<Vec<_>>>();
        family.len() > 1
            && (is_one_row(graph, family[0], facts)
                || made.is_some_and(|made| readers.take_parts(graph, &made)))
    };
    families.retain(|family| pays(graph, family));
    let mut made: HashMap<usize, Vec<Node>> = HashMap::new();
    let mut gone = vec![false; graph.nodes.len()];
    let mut constants: Vec<ValueId> = Vec::new();
    let mut report = Vec::new();
    for family in &families {
        let Some(nodes) = joined(graph, family, budget) else { continue };
        let products = family.iter().map(|s| &graph.nodes[s.product]);
        report.push(Joined::of(&nodes[0].name, products, Some(0)));
        if family[0].bias.is_some() {
            let sums = family.iter().map(|s| &graph.nodes[s.last()]);
            report.push(Joined::of(&nodes[1].name, sums, None));
        }
        for sibling in family {
            gone[sibling.product] = true;
            constants.extend(graph.nodes[sibling.product].inputs[1..].iter().flatten());
            if let Some((sum, row)) = sibling.bias {
                gone[sum] = true;
                constants.extend(graph.nodes[sum].inputs[row]);
            }
        }
        made.insert(family[0].product, nodes);
    }
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
    (!report.is_empty()).then_some(report)
}

/// The left operand of node `at`, and what it is, where it is a product of that operand, as it is, by constants.
fn sibling(
    graph: &Graph,
    at: usize,
    facts: &[Option<Fact>],
    readers: &Readers<'_>,
) -> Option<(ValueId, Sibling)> {
    let node = &graph.nodes[at];
    let product = node.op.product()?;
    let (x, weights) = (node.inputs.first().copied()??, node.inputs.get(1).copied()??);
    let rank = facts[x.index()].as_ref()?.tensor()?.rank()?;
    let weights = graph.value(weights).constant.as_ref()?;
    let columns = *weights.shape().get(usize::from(!product.transpose_b))?;
    let is_row = |tensor: &Tensor| {
        tensor.len() == columns && tensor.shape().last() == Some(&columns) && tensor.shape().len() <= rank
    };
    let bias_fits = |id: &Option<ValueId>| {
        let bias = id.and_then(|id| graph.value(id).constant.as_ref());
        bias.is_some_and(is_row)
    };
    let plain = rank >= 2 && !product.transpose_a && weights.shape().len() == 2;
    let known = graph.value(x).constant.is_none() && node.outputs.len() == 1;
    if !plain || !known || !node.inputs[2..].iter().all(bias_fits) {
        return None;
    }
    let made = node.outputs[0]?;
    let bias = readers.only(made).and_then(|sum| {
        let node = &graph.nodes[sum];
        let [Some(a), Some(b)] = node.inputs[..] else { return None };
        let row = usize::from(a == made);
        let tensor = graph.value(if row == 1 { b } else { a }).constant.as_ref()?;
        let sums = node.def.name == "Add" && node.def.domain.is_empty() && a != b;
        (sums && is_row(tensor) && tensor.dtype() == weights.dtype()).then_some((sum, row))
    });
    Some((x, Sibling { product: at, bias }))
}

/// Whether the left operand of `sibling` is one row.
fn is_one_row(graph: &Graph, sibling: Sibling, facts: &[Option<Fact>]) -> bool {
    let x = graph.nodes[sibling.product].inputs[0].and_then(|x| facts[x.index()].as_ref());
    let shape = x.and_then(|f| f.tensor()?.shape.as_deref());
    shape.is_some_and(|s| s[..s.len().saturating_sub(1)].iter().all(|d| d.known() == Some(1)))
}

fn is_sibling(graph: &Graph, a: Sibling, b: Sibling) -> bool {
    let (first, second) = (&graph.nodes[a.product], &graph.nodes[b.product]);
    let dtype =
        |node: &Node, index: usize| graph.value(node.inputs[index]?).constant.as_ref().map(Tensor::dtype);
    first.def == second.def
        && first.op.product() == second.op.product()
        && first.inputs.len() == second.inputs.len()
        && (1..first.inputs.len()).all(|index| dtype(first, index) == dtype(second, index))
        && a.bias.is_some() == b.bias.is_some()
}

/// The product of all of `family`, the sum with all biases, and the split of what it makes.
fn joined(graph: &mut Graph, family: &[Sibling], budget: &Budget) -> Option<Vec<Node>> {
    let first = graph.nodes[family[0].product].clone();
    let transposed = first.op.product()?.transpose_b;
    let weights = |graph: &Graph, sibling: &Sibling| {
        graph.value(graph.nodes[sibling.product].inputs[1]?).constant.clone()
    };
    let width = |sibling: &Sibling| {
        i64::try_from(*weights(graph, sibling)?.shape().get(usize::from(!transposed))?).ok()
    };
    let widths: Vec<i64> = family.iter().map(width).collect::<Option<_>>()?;
    let columns = usize::try_from(widths.iter().sum::<i64>()).ok()?;
    let mut inputs = vec![first.inputs[0]];
    for index in 1..first.inputs.len() {
        let parts =
            family.iter().map(|s| graph.value(graph.nodes[s.product].inputs[index]?).constant.clone());
        let parts: Vec<Tensor> = parts.collect::<Option<_>>()?;
        // Rows of weights that are transposed, and biases, lie one behind the other.
        let whole = match (index, transposed) {
            (1, false) => side_by_side(&parts, parts[0].shape()[0], &[parts[0].shape()[0], columns], budget)?,
            (1, true) => side_by_side(&parts, 1, &[columns, parts[0].shape()[1]], budget)?,
            _ => side_by_side(&parts, 1, &[columns], budget)?,
        };
        inputs.push(Some(graph.add_constant(first.name.clone(), whole)));
    }
    let mut whole = graph.add_value(first.name.clone());
    let mut made = vec![Node { inputs, outputs: vec![Some(whole)], ..first.clone() }];
    if let Some((sum, _)) = family[0].bias {
        let row = |s: &Sibling| {
            let (sum, row) = s.bias?;
            graph.value(graph.nodes[sum].inputs[row]?).constant.clone()
        };
        let rows: Vec<Tensor> = family.iter().map(row).collect::<Option<_>>()?;
        let bias = side_by_side(&rows, 1, &[columns], budget)?;
        let sum = graph.nodes[sum].clone();
        let bias = graph.add_constant(sum.name.clone(), bias);
        let out = graph.add_value(sum.name.clone());
        made.push(Node { inputs: vec![Some(whole), Some(bias)], outputs: vec![Some(out)], ..sum });
        whole = out;
    }
    let sizes = integers(graph, &widths)?;
    let axis = vec![("axis", crate::ops::attributes::Attribute::Int(-1))];
    let mut split = node(graph, "Split", axis, vec![Some(whole), Some(sizes)], 0, family.len())?;
    split.outputs = family.iter().map(|s| graph.nodes[s.last()].outputs[0]).collect();
    made.push(split);
    Some(made)
}

/// Matrices of `rows` rows beside each other, as a tensor of shape `shape`.
fn side_by_side(parts: &[Tensor], rows: usize, shape: &[usize], budget: &Budget) -> Option<Tensor> {
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
    Tensor::from_buffer(dtype, shape, buffer).ok()
}
