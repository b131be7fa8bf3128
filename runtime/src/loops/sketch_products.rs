//! Random products as models have them: heads of an attention, gates of a cell, one product for every step.

use super::sketch::Sketch;
use crate::dtype::DType;
use crate::graph::ValueId;
use crate::ops::attributes::Attribute;
use crate::tensor::Tensor;
use crate::testing::Gen;

/// The scores of an attention of several heads: a slice of one operand and both of its transposes.
pub(super) fn heads(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) {
    let rank = shape.len();
    let depth = shape[rank - 1];
    let heads = *g.pick(&[1, 2, 4]);
    if !depth.is_multiple_of(heads) {
        return;
    }
    let mut parted: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    parted[rank - 1] = heads as i64;
    parted.push((depth / heads) as i64);
    let target = s.constant(Tensor::new(&[parted.len()], parted).expect("a list"));
    let Some(positive) = s.node("Sigmoid", vec![], &[x]) else { return };
    let Some(parts) = s.node("Reshape", vec![], &[positive, target]) else { return };
    let mut perm: Vec<i64> = (0..=rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    let q = s.node("Transpose", vec![("perm", Attribute::Ints(perm.clone()))], &[parts]);
    perm.swap(rank - 1, rank);
    let k = s.node("Transpose", vec![("perm", Attribute::Ints(perm))], &[parts]);
    let (Some(q), Some(k)) = (q, k) else { return };
    let Some(scores) = s.node("MatMul", vec![], &[q, k]) else { return };
    let scale = s.constant(Tensor::scalar(0.3f32));
    let Some(scaled) = s.node("Mul", vec![], &[scores, scale]) else { return };
    let Some(weights) = s.node("Softmax", vec![("axis", Attribute::Int(-1))], &[scaled]) else { return };
    s.node("MatMul", vec![], &[weights, q]);
}

/// A product by weights, at times with a bias.
fn dense(
    s: &mut Sketch,
    g: &mut Gen,
    x: ValueId,
    rows: usize,
    columns: usize,
    biased: bool,
) -> Option<ValueId> {
    let w = g.tensor_in(DType::F32, &[rows, columns], -0.5, 0.5);
    let w = s.constant(w);
    let y = s.node("MatMul", vec![], &[x, w])?;
    if !biased {
        return Some(y);
    }
    let b = g.tensor_in(DType::F32, &[columns], -0.5, 0.5);
    let b = s.constant(b);
    let pair = if g.chance(0.5) { [y, b] } else { [b, y] };
    s.node("Add", vec![], &pair)
}

fn list(s: &mut Sketch, values: &[i64]) -> ValueId {
    s.constant(Tensor::new(&[values.len()], values.to_vec()).expect("a list"))
}

/// Queries, keys and values of one operand, and what heads make of them side by side.
pub(super) fn attention(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) -> Option<()> {
    let depth = shape[2];
    let (heads, size) = (*g.pick(&[1, 2, 3]), g.size(1, 5));
    let biased = g.chance(0.5);
    let perm = |p: [i64; 4]| vec![("perm", Attribute::Ints(p.to_vec()))];
    let mut parts = Vec::new();
    for which in 0..3 {
        let y = dense(s, g, x, depth, heads * size, biased)?;
        // Positive, so that sums do not cancel.
        let y = if g.chance(0.2) { s.node("Sigmoid", vec![], &[y])? } else { y };
        let target = list(s, &[0, 0, heads as i64, size as i64]);
        let y = s.node("Reshape", vec![], &[y, target])?;
        let order = if which == 1 { [0, 2, 3, 1] } else { [0, 2, 1, 3] };
        parts.push(s.node("Transpose", perm(order), &[y])?);
    }
    let scores = s.node("MatMul", vec![], &parts[..2])?;
    let scale = s.constant(Tensor::scalar(0.4f32));
    let scaled = s.node("Mul", vec![], &[scores, scale])?;
    let share = s.node("Softmax", vec![("axis", Attribute::Int(-1))], &[scaled])?;
    let y = s.node("MatMul", vec![], &[share, parts[2]])?;
    let y = if g.chance(0.3) { s.node("Tanh", vec![], &[y])? } else { y };
    let y = s.node("Transpose", perm([0, 2, 1, 3]), &[y])?;
    let target = list(s, &[0, 0, (heads * size) as i64]);
    let y = s.node("Reshape", vec![], &[y, target])?;
    dense(s, g, y, heads * size, depth, true).map(|_| ())
}

/// Products of one operand that meet in a map, or do not.
pub(super) fn gates(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) -> Option<()> {
    let (depth, width, biased) = (*shape.last()?, g.positive_extent(), g.chance(0.6));
    let mut all = Vec::new();
    for _ in 0..g.size(2, 4) {
        let y = dense(s, g, x, depth, width, biased)?;
        let y = if g.chance(0.7) { s.node(*g.pick(&["Sigmoid", "Tanh", "Relu"]), vec![], &[y])? } else { y };
        all.push(y);
    }
    if g.chance(0.8) {
        let mut sum = all[0];
        for &next in &all[1..] {
            sum = s.node(*g.pick(&["Add", "Mul"]), vec![], &[sum, next])?;
        }
    }
    Some(())
}

/// One computation on the elements of a sequence, stacked.
pub(super) fn steps(s: &mut Sketch, g: &mut Gen, x: ValueId, shape: &[usize]) -> Option<()> {
    let (count, depth, width) = (shape[0], shape[2], g.positive_extent());
    if !(2..=6).contains(&count) {
        return None;
    }
    let w = g.tensor_in(DType::F32, &[depth, width], -0.5, 0.5);
    let w = s.constant(w);
    let axes = list(s, &[0]);
    let (activated, reversed, unsqueezed) = (g.chance(0.5), g.chance(0.1), g.chance(0.7));
    let gemm = g.chance(0.5);
    let mut all = Vec::new();
    for step in 0..count {
        let at = if reversed { count - 1 - step } else { step };
        let at = s.constant(Tensor::scalar(at as i64));
        let mut y = s.node("Gather", vec![], &[x, at])?;
        y = s.node(if gemm { "Gemm" } else { "MatMul" }, vec![], &[y, w])?;
        if activated {
            y = s.node("Relu", vec![], &[y])?;
        }
        all.push(if unsqueezed { s.node("Unsqueeze", vec![], &[y, axes])? } else { y });
    }
    s.node("Concat", vec![("axis", Attribute::Int(0))], &all).map(|_| ())
}
