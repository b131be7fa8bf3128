//! Normalisation by the moments of the batch at hand, and running moments, as nests with a fold over each channel.

use super::composition::{Composition, Place};
use super::looped;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::graph::{Dim, TensorFact};
use crate::loops::program::{Builder, Reg};
use crate::loops::{Affine, Fold, Opaque, Outside, Source, Stages};

/// The two folds over a channel: its sum, and the sum of the squares of what differs from the mean.
fn moments(nest: &mut Stages<'_>, x: Source, over: &[usize], count: f64) -> Result<[Source; 2], Opaque> {
    let sum = nest.fold(Fold::Sum, over, &[x], |_, v| v[0])?;
    let squares = nest.fold(Fold::Sum, over, &[x, sum], |p, v| {
        let mean = divided(p, v[1], count);
        let centred = p.sub(v[0], mean);
        p.mul(centred, centred)
    })?;
    Ok([sum, squares])
}

fn divided(p: &mut Builder, sum: Reg, count: f64) -> Reg {
    let count = p.constant_as(sum, count);
    p.div(sum, count)
}

/// The launches: inputs are x, scale, bias, and running mean and variance; outputs are y and both of them after this batch.
pub(crate) fn kernel(site: &GpuSite<'_>, epsilon: f64, momentum: f64) -> Result<GpuKernel, GpuReject> {
    let shape = site.input_shape(0)?;
    let fact = |at: usize| -> Result<TensorFact, GpuReject> {
        Ok(TensorFact::known(site.dtype(at)?, &site.input_shape(at)?))
    };
    let axes: Vec<Dim> = shape.iter().map(|&extent| Dim::Known(extent)).collect();
    let over: Vec<usize> = (0..shape.len()).filter(|&axis| axis != 1).collect();
    let count = over.iter().map(|&axis| shape[axis] as f64).product::<f64>();
    let here: Vec<Affine> = (0..shape.len()).map(Affine::axis).collect();
    let channel = vec![if shape.len() > 1 { Affine::axis(1) } else { Affine::constant(0) }];
    let wants = |at: usize| site.wanted.get(at).copied().unwrap_or(false);
    let mut whole = Composition::new("");
    if wants(0) {
        let operands = [0, 1, 2].map(fact).into_iter().collect::<Result<Vec<_>, _>>()?;
        let made = TensorFact::known(site.dtype(0)?, &shape);
        let kernel = looped::nest(site, operands, made, |facts, made| {
            let mut nest = Stages::over(facts, made, axes.clone())?;
            let x = nest.read(0, here.clone(), Outside::Never)?;
            let [sum, squares] = moments(&mut nest, x, &over, count)?;
            let mut sources = vec![x, sum, squares];
            for of_channel in [1, 2] {
                sources.push(nest.read(of_channel, channel.clone(), Outside::Never)?);
            }
            nest.store(here.clone(), &over, &sources, |p, v| {
                let (mean, variance) = (divided(p, v[1], count), divided(p, v[2], count));
                let epsilon = p.constant_as(variance, epsilon);
                let raised = p.add(variance, epsilon);
                let deviation = p.sqrt(raised);
                let factor = p.div(v[3], deviation);
                let centred = p.sub(v[0], mean);
                let scaled = p.mul(centred, factor);
                p.add(scaled, v[4])
            })
        })?;
        whole.add("normal", kernel, [0, 1, 2].map(Place::Input).to_vec(), vec![Place::Output(0)])?;
    }
    for output in [1, 2] {
        if !wants(output) {
            continue;
        }
        let held = output + 2;
        let (operands, made) = (vec![fact(0)?, fact(held)?], fact(held)?);
        let kernel = looped::nest(site, operands, made, |facts, made| {
            let mut nest = Stages::over(facts, made, axes.clone())?;
            let x = nest.read(0, here.clone(), Outside::Never)?;
            let both = moments(&mut nest, x, &over, count)?;
            let held = nest.read(1, channel.clone(), Outside::Never)?;
            nest.store(channel.clone(), &[], &[both[output - 1], held], |p, v| {
                let batch = divided(p, v[0], count);
                let (kept, new) = (p.constant_as(batch, momentum), p.constant_as(batch, 1.0 - momentum));
                let (kept, new) = (p.mul(v[1], kept), p.mul(batch, new));
                p.add(kept, new)
            })
        })?;
        let name = if output == 1 { "mean" } else { "variance" };
        whole.add(name, kernel, vec![Place::Input(0), Place::Input(held)], vec![Place::Output(output)])?;
    }
    Ok(whole.finish())
}
