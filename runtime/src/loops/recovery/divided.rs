//! A product of a row that is put together of elements of sequences and of what a step makes becomes the sum of two: the
//! elements' part can be made for all steps at once, before the Scan, and a step reads the rest of the weights only.
//!
//! `[x_t, c] · W + b` becomes `x_t · W₁ + (c · W₂ + b)`, `W₁` the rows of `W` that `x_t` meets. It holds where `W` is a constant
//! matrix, the parts are joined along the axis that the product adds up, and those of sequences stand first or last. A
//! sum is cut in two, as rounding is; types that round a product before anything is added to it are left alone. Whether
//! the elements' products can be made for all steps is known first, and the weights are cut before the body changes: a
//! product is divided whole or left as it is.

use super::build::one;
use crate::dtype::DType;
use crate::graph::{Graph, Node, ValueId};
use crate::memory::{Budget, Buffer};
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// Divides the products of `body` that can be. `element` tells the axes and the last extent of an element of a sequence
/// whose products of so many columns can be made for all steps.
pub(super) fn divide(
    body: &mut Graph,
    element: impl Fn(ValueId, usize) -> Option<(usize, usize)>,
    budget: &Budget,
) {
    let mut joins: HashMap<ValueId, (Vec<ValueId>, i64)> = HashMap::new();
    let mut nodes = Vec::with_capacity(body.nodes.len());
    let mut changed = false;
    for node in std::mem::take(&mut body.nodes) {
        if let (Some(axis), [Some(output)]) = (node.op.joined_axis(), &node.outputs[..])
            && let Some(parts) = node.inputs.iter().copied().collect()
        {
            joins.insert(*output, (parts, axis));
        }
        let join = node.inputs.first().copied().flatten().and_then(|x| joins.get(&x));
        match join.and_then(|join| divided(body, &node, join, &element, budget)) {
            Some(made) => {
                nodes.extend(made);
                changed = true;
            }
            None => nodes.push(node),
        }
    }
    body.nodes = nodes;
    if changed {
        drop_unread(body);
    }
}

/// The nodes that `node`, a product of `parts` joined along `axis`, becomes.
fn divided(
    body: &mut Graph,
    node: &Node,
    (parts, axis): &(Vec<ValueId>, i64),
    element: &impl Fn(ValueId, usize) -> Option<(usize, usize)>,
    budget: &Budget,
) -> Option<Vec<Node>> {
    let product = node.op.product().filter(|p| p.alpha == 1.0 && !p.transpose_a)?;
    let weights = body.constant(node.inputs.get(1).copied().flatten()?)?.clone();
    let wide = matches!(weights.dtype(), DType::F32 | DType::F64);
    let (&[first, second], true) = (weights.shape(), wide) else { return None };
    let (depth, columns) = if product.transpose_b { (second, first) } else { (first, second) };
    let known: Vec<Option<(usize, usize)>> = parts.iter().map(|id| element(*id, columns)).collect();
    let rank = known.iter().flatten().next()?.0 as i64;
    let is_last = [-1, rank - 1].contains(axis);
    if !is_last || known.iter().flatten().any(|(r, _)| *r as i64 != rank) {
        return None;
    }
    // Those at the front and at the back, and the rows of the matrix that they meet.
    let front = known.iter().take_while(|k| k.is_some()).count();
    let back = known.iter().rev().take_while(|k| k.is_some()).count();
    let mut pieces = Vec::new();
    let (mut from, mut to) = (0usize, depth);
    for (part, width) in parts.iter().zip(known.iter().map_while(|k| Some((*k)?.1))) {
        pieces.push((*part, from..from.checked_add(width)?));
        from += width;
    }
    for (part, width) in parts.iter().rev().zip(known.iter().rev().map_while(|k| Some((*k)?.1))) {
        to = to.checked_sub(width)?;
        pieces.push((*part, to..to + width));
    }
    if pieces.is_empty() || front == parts.len() || from >= to {
        return None;
    }
    let more = node.inputs.get(2..)?;
    let cut = |rows: Range<usize>| rows_of(&weights, product.transpose_b, rows, budget);
    let rest_rows = cut(from..to)?;
    let pieces: Vec<(ValueId, Tensor)> =
        pieces.into_iter().map(|(part, rows)| Some((part, cut(rows)?))).collect::<Option<_>>()?;

    let mut made = Vec::new();
    let rest = match parts[front..parts.len() - back] {
        [one] => one,
        ref several => one(body, &mut made, "Concat", vec![("axis", Attribute::Int(-1))], several)?,
    };
    let mut of = |body: &mut Graph, x: ValueId, matrix: Tensor, more: &[Option<ValueId>]| {
        let matrix = body.add_constant("weights", matrix);
        let output = body.add_value(node.name.clone());
        let inputs = [&[Some(x), Some(matrix)], more].concat();
        made.push(Node { inputs, outputs: vec![Some(output)], ..node.clone() });
        output
    };
    let mut sum = of(body, rest, rest_rows, more);
    let products: Vec<ValueId> =
        pieces.into_iter().map(|(part, matrix)| of(body, part, matrix, &[])).collect();
    for product in products {
        sum = one(body, &mut made, "Add", Vec::new(), &[sum, product])?;
    }
    let last = made.last_mut()?;
    last.outputs.clone_from(&node.outputs);
    Some(made)
}

/// Rows `range` of `matrix`, or columns where it is `transposed`.
fn rows_of(matrix: &Tensor, transposed: bool, range: Range<usize>, budget: &Budget) -> Option<Tensor> {
    let &[rows, columns] = matrix.shape() else { return None };
    let shape = if transposed { [rows, range.len()] } else { [range.len(), columns] };
    let width = matrix.dtype().bytes(1)?;
    let mut buffer = Buffer::zeroed(matrix.dtype().bytes(shape[0].checked_mul(shape[1])?)?, budget).ok()?;
    // Where columns are taken, a piece of each row; of rows, one piece.
    let (line, unit) =
        if transposed { (columns * width, width) } else { (rows * columns * width, columns * width) };
    let lines = matrix.bytes().chunks_exact(line.max(1));
    for (to, line) in buffer.bytes_mut().chunks_exact_mut((range.len() * unit).max(1)).zip(lines) {
        to.copy_from_slice(&line[range.start * unit..range.end * unit]);
    }
    Tensor::from_buffer(matrix.dtype(), &shape, buffer).ok()
}

/// Takes away joined rows that no node reads any more, and lets go of constants likewise.
fn drop_unread(body: &mut Graph) {
    let mut read: HashSet<usize> = body.outputs.iter().map(|id| id.index()).collect();
    let mut kept = Vec::with_capacity(body.nodes.len());
    for node in std::mem::take(&mut body.nodes).into_iter().rev() {
        let unread = node.op.joined_axis().is_some()
            && !node.outputs.iter().flatten().any(|id| read.contains(&id.index()));
        if !unread {
            read.extend(node.inputs.iter().flatten().map(|id| id.index()));
            kept.push(node);
        }
    }
    kept.reverse();
    body.nodes = kept;
    for (index, value) in body.values.iter_mut().enumerate() {
        if !read.contains(&index) {
            value.constant = None;
        }
    }
}
