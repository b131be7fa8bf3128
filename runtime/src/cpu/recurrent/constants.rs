//! What is constant among a recurrence's inputs, packed when the model is loaded.

use super::layout::Layout;
use super::pack::{self, Vectors, Weights};
use super::{B, P, R, W, X};
use crate::cpu::number::dispatch;
use crate::error::OpError;
use crate::ops::recurrence::Recurrence;
use crate::ops::{PackSite, Packed};
use std::sync::Arc;

/// Packs what is constant among W, R, B and P.
pub(crate) fn pack(recurrence: &Recurrence, site: &PackSite<'_>) -> Result<Option<Packed>, OpError> {
    let constant = |index: usize| Ok(site.inputs.optional(index)?.and_then(|f| f.as_constant()));
    let (w, r) = (constant(W)?, constant(R)?);
    let shape = |t: Option<&crate::Tensor>, index: usize| -> Option<crate::tensor::Shape> {
        t.map(|t| t.shape().into()).or_else(|| site.inputs.optional(index).ok()??.known_shape())
    };
    let (Some(w_shape), Some(r_shape)) = (shape(w, W), shape(r, R)) else { return Ok(None) };
    let ([directions, w_rows, input], [r_directions, r_rows, hidden]) = (&w_shape[..], &r_shape[..]) else {
        return Ok(None);
    };
    // Inference refuses a node that does not fit its own weights, once all its inputs are known.
    let layout = Layout::new(recurrence.cell, *input, *hidden)?;
    let planes = recurrence.directions.len();
    let dtype = site.inputs.tensor(if w.is_some() { W } else { R })?.dtype;
    let fits = [*directions, *r_directions] == [planes; 2]
        && [*w_rows, *r_rows] == [recurrence.cell.gates() * hidden; 2]
        && [W, R, B, P].iter().all(|&i| constant(i).ok().flatten().is_none_or(|t| t.dtype() == dtype));
    if !fits {
        return Ok(None);
    }
    let computed = |index: usize, given: bool| Ok(given && constant(index)?.is_none());
    let vectors_constant = !computed(B, recurrence.has_bias)? && !computed(P, recurrence.has_peephole)?;
    let source = Vectors {
        bias: constant(B)?.map(crate::Tensor::bytes),
        peephole: constant(P)?.map(crate::Tensor::bytes),
    };
    let [time, batch] = extents(recurrence, site)?;
    // Rows of the products of all steps, and of each.
    let (all, each) = (time.zip(batch).map(|(time, batch)| time.saturating_mul(batch)), batch);
    dispatch!(dtype, floats, S => {
        let panels = |t: Option<&crate::Tensor>, (index, depth, rows): (usize, usize, Option<usize>)| {
            let size = (planes, depth);
            t.map(|t| pack::packed_panels::<S>(&layout, (index, t.bytes()), size, rows == Some(1), site)).transpose()
        };
        let weights = Weights {
            input: panels(w, (W, *input, all))?,
            recurrent: panels(r, (R, *hidden, each))?,
            vectors: if vectors_constant {
                Some(pack::packed_vectors::<S>(&layout, source, planes, site.budget)?)
            } else {
                None
            },
        };
        let mut consumed: Vec<usize> = Vec::new();
        consumed.extend(weights.input.is_some().then_some(W));
        consumed.extend(weights.recurrent.is_some().then_some(R));
        if weights.vectors.is_some() {
            consumed.extend([B, P]);
        }
        Ok(Some(Packed { data: Arc::new(weights), consumed }))
    })
}

/// The number of steps and the batch, where they are known.
fn extents(recurrence: &Recurrence, site: &PackSite<'_>) -> Result<[Option<usize>; 2], OpError> {
    let shape = site.inputs.optional(X)?.and_then(|fact| fact.shape.as_deref());
    let known = |axis: usize| shape.and_then(|dims| dims.get(axis)?.known());
    Ok(if recurrence.batch_first { [known(1), known(0)] } else { [known(0), known(1)] })
}
