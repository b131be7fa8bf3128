//! A normalisation with constant statistics folded into the convolution or product in front of it.
//!
//! `a_c · (W_c x + b_c) + t_c = (a_c W_c) x + (a_c b_c + t_c)`. It holds when weights, bias and statistics are
//! constants and nothing else reads the value between the two. The products are rounded once more than
//! before: within the accuracy class of contractions.

use crate::graph::fact::{Fact, Facts, TensorFact};
use crate::graph::model::{Graph, ValueId};
use crate::memory::Budget;
use crate::tensor::Tensor;

/// Folds every normalisation that can be.
pub(super) fn fold_batch_norm(graph: &mut Graph, budget: &Budget) -> bool {
    let mut writer: Vec<Option<usize>> = vec![None; graph.values.len()];
    let mut readers = vec![0usize; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for id in node.outputs.iter().flatten() {
            writer[id.index()] = Some(index);
        }
        for id in node.inputs.iter().flatten() {
            readers[id.index()] += 1;
        }
    }
    for id in &graph.outputs {
        readers[id.index()] += 1;
    }
    let mut folded = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let Some(Some(from)) = graph.nodes[index].inputs.first().copied() else { continue };
        let Some(linear) = writer[from.index()].filter(|&w| readers[from.index()] == 1 && !folded[w]) else {
            continue;
        };
        if fold(graph, linear, index, budget).is_some() {
            folded[index] = true;
            // A second normalisation behind this one waits for the next round.
            if let Some(Some(to)) = graph.nodes[linear].outputs.first() {
                writer[to.index()] = None;
            }
        }
    }
    let changed = folded.contains(&true);
    let mut folded = folded.iter();
    graph.nodes.retain(|_| !folded.next().copied().unwrap_or(false));
    changed
}

/// Lets node `linear` do what node `norm` did; the latter is then unused. Where the new weights do not fit the
/// budget, both stay.
fn fold(graph: &mut Graph, linear: usize, norm: usize, budget: &Budget) -> Option<()> {
    let (first, second) = (&graph.nodes[linear], &graph.nodes[norm]);
    if second.outputs.iter().skip(1).any(Option::is_some) || first.outputs.len() != 1 {
        return None;
    }
    let axis = first.op.weight_channel_axis()?;
    let facts: Vec<Option<Fact>> = second
        .inputs
        .iter()
        .map(|id| Some(TensorFact::constant(graph.constant((*id)?)?.clone()).into()))
        .collect();
    let given: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let affine = second.op.channel_affine(Facts(&given))?;

    let weights = graph.constant(first.inputs.get(1).copied().flatten()?)?;
    let channels = *weights.shape().get(axis)?;
    weights.dtype().is_float().then_some(())?;
    if affine.len() != channels || affine.iter().any(|(a, t)| !a.is_finite() || !t.is_finite()) {
        return None;
    }
    let bias = match first.inputs.get(2).copied().flatten() {
        Some(id) => graph.constant(id).filter(|b| b.shape() == [channels])?.to_f64s()?,
        None => vec![0.0; channels],
    };
    let inner: usize = weights.shape()[axis + 1..].iter().product();
    let (dtype, shape) = (weights.dtype(), weights.shape());
    let products = (0..weights.len())
        .map(|at| weights.f64_at(at).unwrap_or(f64::NAN) * affine[at / inner.max(1) % channels].0);
    let scaled = Tensor::from_f64s(dtype, shape, products, budget)?;
    let terms = bias.iter().zip(&affine).map(|(b, (a, t))| a * b + t);
    let shifted = Tensor::from_f64s(dtype, &[channels], terms, budget)?;

    let name = graph.nodes[linear].name.clone();
    let output = graph.nodes[norm].outputs.first().copied().flatten()?;
    let new_weights: ValueId = graph.add_constant(format!("{name}/weights"), scaled);
    let new_bias: ValueId = graph.add_constant(format!("{name}/bias"), shifted);
    let node = &mut graph.nodes[linear];
    node.inputs.resize(3, None);
    node.inputs[1] = Some(new_weights);
    node.inputs[2] = Some(new_bias);
    node.outputs[0] = Some(output);
    Some(())
}
