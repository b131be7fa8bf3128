//! Resizing, as `resample` computes it: axis by axis where elements are weighted sums, all axes at once where they are moved.

use super::composition::{Composition, Place};
use super::copy::size;
use super::located::{Located, bytes, dense};
use super::{extent, map};
use crate::cpu::interpolation::Interpolation;
use crate::cpu::resample::{AxisScale, NearestCopy};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use recurve_kernels::launch::{Launch, Reject};
use recurve_kernels::resample::{MOST_AXES, Nearest, OUTSIDE, Smooth};
use std::sync::Arc;

/// Input 0 with each element the nearest one along the axes of `copy`.
pub(crate) fn nearest(
    site: &GpuSite<'_>,
    copy: &NearestCopy,
    from: &[usize],
) -> Result<GpuKernel, GpuReject> {
    let (maps, inner, constant) = copy.parts();
    let far = || GpuReject::Form("an axis of so many elements".into());
    // Axes that stay as they are in front of the first one that does not are one.
    let is_whole = |map: &[Option<usize>], extent: usize| {
        map.len() == extent && map.iter().enumerate().all(|(i, at)| *at == Some(i))
    };
    let whole = maps.iter().zip(from).take_while(|((map, _), extent)| is_whole(map, **extent)).count();
    let outer: usize = from[..whole].iter().try_fold(1usize, |n, &e| n.checked_mul(e)).ok_or_else(far)?;
    let mut axes: Vec<[u32; 2]> = Vec::new();
    let mut table: Vec<u32> = Vec::new();
    if outer != 1 {
        let outer = extent(outer)?;
        axes.push([outer, outer]);
        table.extend(0..outer);
    }
    for ((map, _), &along) in maps.iter().zip(from).skip(whole) {
        axes.push([extent(along)?, extent(map.len())?]);
        for at in map {
            table.push(at.map_or(Ok(OUTSIDE), extent)?);
        }
    }
    let absent = MOST_AXES.checked_sub(axes.len());
    let absent = absent.ok_or_else(|| GpuReject::Form("a resize of so many axes".into()))?;
    let mut padded = [[1; 2]; MOST_AXES];
    padded[absent..].copy_from_slice(&axes);
    table.splice(..0, std::iter::repeat_n(0, absent));
    let axes = padded;
    let shape = Nearest { size: size(site.dtype(0)?)?, axes, inner: extent(inner)?, constant };
    shape.accepts()?;
    let device = site.device;
    let kernel = GpuKernel::new(move |operands| {
        let table = *operands.data.first().ok_or(Reject::Absent { operand: "table" })?;
        let prepared = shape.prepare([operands.inputs[0], operands.outputs[0], table], &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_data(table.into_iter().flat_map(u32::to_le_bytes).collect()))
}

/// Input 0 interpolated along `axes`. Between axes elements are f32, or f64 for f64 and integers, which are rounded to the
/// nearest in the end, ties to even.
pub(crate) fn smooth(
    site: &GpuSite<'_>,
    interpolation: &Interpolation,
    axes: &[AxisScale],
) -> Result<GpuKernel, GpuReject> {
    let (dtype, made) = (site.dtype(0)?, site.output_shape(0)?);
    if !dtype.is_float() && !dtype.is_int() {
        return Err(GpuReject::ElementType(dtype));
    }
    if made.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    let wide = dtype == DType::F64 || dtype.is_int();
    let inner = if wide { DType::F64 } else { DType::F32 };
    let passes = if wide { interpolation.tables::<f64>(axes) } else { interpolation.tables::<f32>(axes) };
    let Some(last) = passes.len().checked_sub(1) else {
        let fact = site.inputs.tensor(0).map_err(|_| GpuReject::NoKernel)?;
        return super::copy::whole(site, fact);
    };
    let mut whole = Composition::new("resize");
    let mut from = Place::Input(0);
    if dtype.is_int() {
        let x = site.input_shape(0)?;
        let to = whole.between(bytes(inner, &x)?)?;
        let strides: Vec<usize> = dense(&x).iter().map(|&stride| stride as usize).collect();
        whole.add("real", map::moved(site, [dtype, inner], &x, &strides)?, vec![from], vec![to])?;
        from = to;
    }
    for (number, pass) in passes.into_iter().enumerate() {
        let shape = Smooth {
            outer: extent(pass.outer)?,
            from: extent(pass.from)?,
            to: extent(pass.to)?,
            inner: extent(pass.inner)?,
            taps: extent(pass.taps)?,
            x: if number == 0 && dtype.is_float() { dtype } else { inner },
            y: if number == last && dtype.is_float() { dtype } else { inner },
            outside: pass.extrapolation,
        };
        let [_, count] = shape.accepts()?;
        let mut table = Vec::with_capacity(12 * pass.terms.len());
        for (term, (at, weight)) in pass.terms.iter().enumerate() {
            let outside = pass.outside.binary_search(&(term / pass.taps)).is_ok();
            let at = if outside { OUTSIDE } else { extent(*at)? };
            table.extend(at.to_le_bytes());
            if wide {
                table.extend(weight.to_le_bytes());
            } else {
                table.extend((*weight as f32).to_le_bytes());
            }
        }
        let device = site.device;
        let kernel = GpuKernel::new(move |operands| {
            let table = *operands.data.first().ok_or(Reject::Absent { operand: "table" })?;
            let prepared = shape.prepare([operands.inputs[0], operands.outputs[0], table], &device)?;
            Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
        });
        let ends = number == last && dtype.is_float();
        let to = if ends { Place::Output(0) } else { whole.between(bytes(inner, &[count as usize])?)? };
        whole.add(&number.to_string(), kernel.with_data(table), vec![from], vec![to])?;
        from = to;
    }
    if dtype.is_float() {
        return Ok(whole.finish());
    }
    let mut map = Located::behind(whole, site, &made);
    let y = map.read(from, inner, dense(&made), 0)?;
    let y = map.builder.round(y);
    let y = map.builder.cast(y, inner, dtype);
    Ok(map.store("rounded", y, dtype, Place::Output(0))?.finish())
}
