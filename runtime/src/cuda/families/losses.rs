//! Losses of classes: that of each sample, and of those that are not wanted one by one their sum or mean.

use super::composition::{Composition, Place};
use super::located::bytes;
use super::{extent, looped};
use crate::cpu::lines::Lines;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::{Dim, TensorFact};
use crate::loops::{Affine, Fold, Outside, Stages};
use recurve_kernels::class_loss::{Buffers, Losses};
use recurve_kernels::launch::Launch;
use std::sync::Arc;

/// What is made of the losses of all samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reduced {
    /// Each is an element of output 0.
    Not,
    Sum,
    /// The sum over the sum of the weights.
    Mean,
}

/// The launches: inputs are logarithms, or `scores`, the targets, and perhaps a weight for each class. Output 1, the
/// logarithms of scores, is what `logarithms` makes of input 0.
pub(crate) fn kernel(
    site: &GpuSite<'_>,
    lines: Lines,
    (ignored, scores, reduced): (Option<i64>, bool, Reduced),
    logarithms: impl FnOnce() -> Result<GpuKernel, GpuReject>,
) -> Result<GpuKernel, GpuReject> {
    let dtype = site.dtype(0)?;
    let losses = Losses {
        lines: [extent(lines.outer)?, extent(lines.length)?, extent(lines.inner)?],
        ignored,
        scores,
        dtype,
        wide: site.dtype(1)? == DType::I64,
        stored: if reduced == Reduced::Not || dtype == DType::F64 { dtype } else { DType::F32 },
    };
    losses.accepts()?;
    let (device, weighed) = (site.device, site.inputs.has(2));
    let each = GpuKernel::new(move |operands| {
        let buffers = Buffers {
            x: operands.inputs[0],
            targets: operands.inputs[1],
            weights: weighed.then(|| operands.inputs[2]),
            y: operands.outputs[0],
            total: operands.outputs.get(1).copied(),
            fault: operands.fault,
        };
        let prepared = losses.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    let each = each.with_fault();
    let mut whole = Composition::new("");
    if site.wanted.get(1).copied().unwrap_or(false) {
        whole.add("logarithms", logarithms()?, vec![Place::Input(0)], vec![Place::Output(1)])?;
    }
    let weight = if weighed { Place::Input(2) } else { Place::Nowhere };
    let from = vec![Place::Input(0), Place::Input(1), weight];
    if reduced == Reduced::Not {
        whole.add("losses", each, from, vec![Place::Output(0)])?;
        return Ok(whole.finish());
    }
    let samples = lines.outer * lines.inner;
    let between = [(); 2].map(|()| whole.between(bytes(losses.stored, &[samples])?));
    let [sums, total] = between;
    let mean = reduced == Reduced::Mean;
    let parts: Vec<Place> = [sums?].into_iter().chain(if mean { Some(total?) } else { None }).collect();
    whole.add("losses", each, from, parts.clone())?;
    let operands = vec![TensorFact::known(losses.stored, &[samples]); parts.len()];
    let sum = looped::nest(site, operands, TensorFact::known(dtype, &[]), |facts, made| {
        let mut nest = Stages::over(facts, made, vec![Dim::Known(samples)])?;
        let mut folds = Vec::with_capacity(2);
        for part in 0..if mean { 2 } else { 1 } {
            let read = nest.read(part, vec![Affine::axis(0)], Outside::Never)?;
            folds.push(nest.fold(Fold::Sum, &[0], &[read], |_, v| v[0])?);
        }
        nest.store(Vec::new(), &[], &folds, |p, v| v.get(1).map_or(v[0], |&total| p.div(v[0], total)))
    })?;
    whole.add("sum", sum, parts, vec![Place::Output(0)])?;
    Ok(whole.finish())
}
