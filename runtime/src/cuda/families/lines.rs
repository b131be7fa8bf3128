//! What works along axes: softmax, reductions, and the place of an extreme.

use super::composition::{Composition, Place};
use super::{element, extent, looped, map};
use crate::cpu::lines::Lines;
use crate::cpu::program::Layout;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::{Dim, TensorFact};
use crate::loops::{Affine, Fold, Outside, Stages};
use recurve_kernels::det::Determinants;
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::{arg_extreme as extreme, cumulative as running, reduce, softmax, top_k as top};
use std::sync::Arc;

/// Softmax, or its logarithm, of input 0 along `lines`.
pub(crate) fn softmax(site: &GpuSite<'_>, lines: Lines, logarithm: bool) -> Result<GpuKernel, GpuReject> {
    if site.dtype(0)? == DType::F64 {
        return wide_softmax(site, lines, logarithm);
    }
    let shape = softmax::Shape {
        outer: extent(lines.outer)?,
        depth: extent(lines.length)?,
        inner: extent(lines.inner)?,
        element: element(site.dtype(0)?)?,
        logarithm,
    };
    if lines.outer == 0 || lines.length == 0 || lines.inner == 0 {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let (variant, device) = (softmax::VARIANTS.choose(&shape)?, site.device);
    Ok(GpuKernel::new(move |operands| {
        let buffers = softmax::Buffers { x: operands.inputs[0], y: operands.outputs[0] };
        Ok(vec![Arc::new(variant.prepare(&shape, &buffers, &device)?)])
    }))
}

/// The same in f64, as a nest.
fn wide_softmax(site: &GpuSite<'_>, lines: Lines, logarithm: bool) -> Result<GpuKernel, GpuReject> {
    let extents = [lines.outer, lines.length, lines.inner];
    let form = TensorFact::known(DType::F64, &extents);
    looped::nest(site, vec![form.clone()], form, |facts, made| {
        let here: Vec<Affine> = (0..3).map(Affine::axis).collect();
        let mut nest = Stages::over(facts, made, extents.map(Dim::Known).to_vec())?;
        let x = nest.read(0, here.clone(), Outside::Never)?;
        let most = nest.fold(Fold::Max, &[1], &[x], |_, v| v[0])?;
        let sum = nest.fold(Fold::Sum, &[1], &[x, most], |p, v| {
            let relative = p.sub(v[0], v[1]);
            p.exp(relative)
        })?;
        nest.store(here, &[1], &[x, most, sum], |p, v| {
            let relative = p.sub(v[0], v[1]);
            if logarithm {
                let log = p.log(v[2]);
                return p.sub(relative, log);
            }
            let power = p.exp(relative);
            p.div(power, v[2])
        })
    })
}

/// The place of the largest or smallest element of input 0 along `lines`.
pub(crate) fn arg_extreme(
    site: &GpuSite<'_>,
    lines: Lines,
    smallest: bool,
    last: bool,
) -> Result<GpuKernel, GpuReject> {
    let shape = extreme::Shape {
        outer: extent(lines.outer)?,
        depth: extent(lines.length)?,
        inner: extent(lines.inner)?,
        element: site.dtype(0)?,
        smallest,
        last,
    };
    if lines.outer == 0 || lines.inner == 0 {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    shape.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        Ok(vec![Arc::new(shape.prepare(operands.inputs[0], operands.outputs[0], &device)?)])
    }))
}

/// A fold of input 0 over the axes of `shape` that are `reduced`. Where others lie between them, a copy brings them to the
/// end first.
pub(crate) fn reduce(
    site: &GpuSite<'_>,
    shape: &[usize],
    reduced: &[bool],
    fold: reduce::Fold,
) -> Result<GpuKernel, GpuReject> {
    let wide = |axis: &usize| shape[*axis] != 1;
    let mut folded = (0..shape.len()).filter(|axis| reduced[*axis]).filter(wide);
    let (first, last) = match (folded.next(), folded.next_back()) {
        (Some(first), last) => (first, last.unwrap_or(first) + 1),
        (None, _) => (shape.len(), shape.len()),
    };
    if (first..last).filter(wide).all(|axis| reduced[axis]) {
        return neighbours(site, [&shape[..first], &shape[first..last], &shape[last..]], fold);
    }
    let (kept, gone): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|&axis| !reduced[axis]);
    let of = |axes: &[usize], from: &[usize]| axes.iter().map(|&axis| from[axis]).collect::<Vec<usize>>();
    let strides = Layout::dense(shape).strides;
    let (outer, depth) = (of(&kept, shape), of(&gone, shape));
    let dtype = site.dtype(0)?;
    let mut whole = Composition::new("");
    let bytes = site.inputs.tensor(0).ok().and_then(TensorFact::bytes).ok_or(GpuReject::DataDependent)?;
    let turned = whole.between(bytes)?;
    let copy = map::moved(
        site,
        [dtype, dtype],
        &[outer.clone(), depth.clone()].concat(),
        &[of(&kept, &strides), of(&gone, &strides)].concat(),
    )?;
    whole.add("turned", copy, vec![Place::Input(0)], vec![turned])?;
    let kernel = neighbours(site, [&outer, &depth, &[]], fold)?;
    whole.add("fold", kernel, vec![turned], vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// A fold over the axes in the middle.
fn neighbours(
    site: &GpuSite<'_>,
    [outer, depth, inner]: [&[usize]; 3],
    fold: reduce::Fold,
) -> Result<GpuKernel, GpuReject> {
    let product = |extents: &[usize]| extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
    let too_many = || GpuReject::Form("a reduction of so many elements".into());
    let part = |extents: &[usize]| extent(product(extents).ok_or_else(too_many)?);
    let form = reduce::Shape {
        outer: part(outer)?,
        depth: part(depth)?,
        inner: part(inner)?,
        element: element(site.dtype(0)?)?,
        fold,
    };
    if form.outer == 0 || form.inner == 0 {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let (variant, device) = (reduce::VARIANTS.choose(&form)?, site.device);
    Ok(GpuKernel::new(move |operands| {
        let buffers = reduce::Buffers { x: operands.inputs[0], y: operands.outputs[0] };
        Ok(vec![Arc::new(variant.prepare(&form, &buffers, &device)?)])
    }))
}

/// Extents in front of `axis`, along it and behind it.
fn around(shape: &[usize], axis: usize) -> Result<[u32; 3], GpuReject> {
    let product = |extents: &[usize]| extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
    let part = |extents: &[usize]| {
        extent(product(extents).ok_or_else(|| GpuReject::Form("lines of so many elements".into()))?)
    };
    Ok([part(&shape[..axis])?, extent(shape[axis])?, part(&shape[axis + 1..])?])
}

/// The `k` largest or smallest elements of each line of input 0 along `axis`, and their places.
pub(crate) fn top_k(
    site: &GpuSite<'_>,
    shape: &[usize],
    axis: usize,
    k: usize,
    smallest: bool,
) -> Result<GpuKernel, GpuReject> {
    let [outer, depth, inner] = around(shape, axis)?;
    let shape = top::Shape { dtype: site.dtype(0)?, outer, depth, inner, k: extent(k)?, smallest };
    shape.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let of = |at: usize| operands.outputs.get(at).copied().unwrap_or(Buffer::default());
        let prepared = shape.prepare([operands.inputs[0], of(0), of(1)], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// Running sums or products of input 0 along `axis`.
pub(crate) fn cumulative(
    site: &GpuSite<'_>,
    shape: &[usize],
    axis: usize,
    product: bool,
    (reverse, exclusive): (bool, bool),
) -> Result<GpuKernel, GpuReject> {
    let [outer, depth, inner] = around(shape, axis)?;
    let dtype = site.dtype(0)?;
    let shape = running::Shape { dtype, outer, depth, inner, product, reverse, exclusive };
    shape.accepts()?;
    let device = site.device;
    Ok(GpuKernel::new(move |operands| {
        let prepared = shape.prepare(operands.inputs[0], operands.outputs[0], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    }))
}

/// The determinants of the matrices of the last two axes of input 0.
pub(crate) fn determinants(site: &GpuSite<'_>, matrices: usize, n: usize) -> Result<GpuKernel, GpuReject> {
    let shape = Determinants { matrices: extent(matrices)?, n: extent(n)?, dtype: site.dtype(0)? };
    shape.accepts()?;
    let device = site.device;
    let bytes = shape.workspace(&device)? as usize;
    let kernel = GpuKernel::new(move |operands| {
        let buffers = [operands.inputs[0], operands.outputs[0], operands.workspace];
        let prepared = shape.prepare(buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_workspace(bytes))
}
