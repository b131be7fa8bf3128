//! What works along one axis, or along neighbouring ones: softmax, reductions, and the place of an extreme.

use super::{element, extent};
use crate::cpu::lines::Lines;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use recurve_kernels::launch::{Buffer, Launch};
use recurve_kernels::{arg_extreme as extreme, cumulative as running, reduce, softmax, top_k as top};
use std::sync::Arc;

/// Softmax, or its logarithm, of input 0 along `lines`.
pub(crate) fn softmax(site: &GpuSite<'_>, lines: Lines, logarithm: bool) -> Result<GpuKernel, GpuReject> {
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
        element: element(site.dtype(0)?)?,
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

/// A fold of input 0 over the axes of `shape` that are `reduced`, which must be neighbours but for extents of 1.
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
    if (first..last).filter(wide).any(|axis| !reduced[axis]) {
        return Err(GpuReject::Form("a reduction over axes that are no neighbours".into()));
    }
    let product = |extents: &[usize]| extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
    let too_many = || GpuReject::Form("a reduction of so many elements".into());
    let part = |extents: &[usize]| extent(product(extents).ok_or_else(too_many)?);
    let form = reduce::Shape {
        outer: part(&shape[..first])?,
        depth: part(&shape[first..last])?,
        inner: part(&shape[last..])?,
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
