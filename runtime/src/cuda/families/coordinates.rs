//! Operators whose elements follow from where they are: maps that read coordinates.

use super::composition::{Composition, Place};
use super::located::{Located, bytes, dense, kind, nothing};
use super::{indexed, lines};
use crate::cpu::lines::Lines;
use crate::cpu::scatter::Reduction;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use crate::graph::fact::{Fact, Facts};
use crate::loops::program::Kind;
use crate::tensor::Tensor;
use recurve_kernels::places::Form;

/// Ones of `dtype` on diagonal `k` of output 0, zeros elsewhere.
pub(crate) fn eye(site: &GpuSite<'_>, dtype: DType, k: i64) -> Result<GpuKernel, GpuReject> {
    let shape = site.output_shape(0)?;
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let mut map = Located::over(site, &shape);
    let from = map.off_diagonal()?;
    let at = map.builder.integer(Kind::I64, k.into());
    let on = map.builder.eq(from, at);
    let one = map.builder.constant(kind(dtype)?, 1.0);
    let zero = map.builder.constant(kind(dtype)?, 0.0);
    let y = map.builder.select(on, one, zero);
    Ok(map.store("eye", y, dtype, Place::Output(0))?.finish())
}

/// Of each matrix of input 0 the elements on one side of the diagonal that input 1 names, zeros elsewhere.
pub(crate) fn triangle(site: &GpuSite<'_>, upper: bool) -> Result<GpuKernel, GpuReject> {
    let (shape, dtype) = (site.output_shape(0)?, site.dtype(0)?);
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let mut map = Located::over(site, &shape);
    let x = map.read(Place::Input(0), dtype, dense(&shape), 0)?;
    let from = map.off_diagonal()?;
    let k = if site.inputs.has(1) { map.scalar(1, 0)? } else { map.builder.integer(Kind::I64, 0) };
    let kept = if upper { map.builder.ge(from, k) } else { map.builder.ge(k, from) };
    let zero = map.builder.constant(kind(dtype)?, 0.0);
    let y = map.builder.select(kept, x, zero);
    Ok(map.store("triangle", y, dtype, Place::Output(0))?.finish())
}

/// The second element of input 2 where an element's place along `axis` is what input 0 says, the first one elsewhere.
pub(crate) fn one_hot(site: &GpuSite<'_>, axis: usize) -> Result<GpuKernel, GpuReject> {
    let (shape, indices, dtype) = (site.output_shape(0)?, site.input_shape(0)?, site.dtype(2)?);
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let mut map = Located::over(site, &shape);
    let mut strides = dense(&indices);
    strides.insert(axis, 0);
    let index = map.read(Place::Input(0), site.dtype(0)?, strides, 0)?;
    let (off, on) = (map.scalar(2, 0)?, map.scalar(2, 1)?);
    let here = map.coordinate(axis)?;
    let b = &mut map.builder;
    // By way of f64, as numbers of all types become places: truncated, and what it does not hold is outside.
    let index = b.convert(index, Kind::F64);
    let index = b.convert(index, Kind::I64);
    let (zero, depth) = (b.integer(Kind::I64, 0), b.integer(Kind::I64, shape[axis] as i128));
    let (negative, from_end) = (b.lt(index, zero), b.add(index, depth));
    let at = b.select(negative, from_end, index);
    let hot = b.eq(at, here);
    let y = b.select(hot, on, off);
    Ok(map.store("one hot", y, dtype, Place::Output(0))?.finish())
}

/// Input 0 with the first elements along axis `time`, as many as input 1 says for each row of the other one of the first
/// two axes, in reverse order.
pub(crate) fn reversed(site: &GpuSite<'_>, time: usize) -> Result<GpuKernel, GpuReject> {
    let shape = site.output_shape(0)?;
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let mut map = Located::over(site, &shape[..2]);
    let mut strides = vec![1; 2];
    strides[time] = 0;
    let length = map.read(Place::Input(1), site.dtype(1)?, strides, 0)?;
    let here = map.coordinate(time)?;
    let b = &mut map.builder;
    let (one, zero) = (b.integer(Kind::I64, 1), b.integer(Kind::I64, 0));
    let last = b.sub(length, one);
    let (inside, back) = (b.lt(here, length), b.sub(last, here));
    let from = b.select(inside, back, here);
    // A length below 0 names a place outside, as one beyond the axis does by itself.
    let (wrong, outside) = (b.lt(length, zero), b.integer(Kind::I64, shape[time] as i128));
    let from = b.select(wrong, outside, from);
    let rows = shape[0].checked_mul(shape[1]).and_then(|rows| rows.checked_mul(8));
    let places = map.whole.between(rows.ok_or_else(|| GpuReject::Form("so many elements".into()))?)?;
    let mut whole = map.store("places", from, DType::I64, places)?;
    let (steps, tuples) = (dense(&shape), dense(&shape[..2]));
    let mut axes: Vec<[u64; 3]> = shape.iter().zip(&steps).map(|(&e, &step)| [e as u64, step, 0]).collect();
    axes[time][1] = 0;
    (axes[0][2], axes[1][2]) = (tuples[0], tuples[1]);
    let elements = shape.iter().map(|&extent| extent as u64).product();
    let named = [[shape[time] as u64, steps[time]]];
    let form = Form::new(&axes, &named, (8, shape[0] as u64 * shape[1] as u64), elements)?;
    let gathered = indexed::gathered(site, form)?;
    whole.add("elements", gathered, vec![Place::Input(0), places], vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// Ones where the first largest element of each of `lines` of input 0 is, zeros elsewhere.
pub(crate) fn hardmax(site: &GpuSite<'_>, of: Lines) -> Result<GpuKernel, GpuReject> {
    let (space, dtype) = ([of.outer, of.length, of.inner], site.dtype(0)?);
    if space.contains(&0) {
        return Ok(nothing());
    }
    let mut map = Located::over(site, &space);
    let at = map.whole.between(bytes(DType::I64, &[of.outer, of.inner])?)?;
    map.whole.add("largest", lines::arg_extreme(site, of, false, false)?, vec![Place::Input(0)], vec![at])?;
    let largest = map.read(at, DType::I64, vec![of.inner as u64, 0, 1], 0)?;
    let here = map.coordinate(1)?;
    let (one, zero) = (map.builder.constant(kind(dtype)?, 1.0), map.builder.constant(kind(dtype)?, 0.0));
    let first = map.builder.eq(largest, here);
    let y = map.builder.select(first, one, zero);
    Ok(map.store("ones", y, dtype, Place::Output(0))?.finish())
}

/// The positions that affine maps, input 0, give to the pixels of output 0; `along` gives the positions of the pixels of an
/// axis of so many before.
pub(crate) fn affine_grid(
    site: &GpuSite<'_>,
    along: impl Fn(usize) -> Vec<f64>,
) -> Result<GpuKernel, GpuReject> {
    let (shape, dtype) = (site.output_shape(0)?, site.dtype(0)?);
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let axes = shape.len() - 2;
    let mut map = Located::over(site, &shape);
    let mut strides = vec![0; shape.len()];
    (strides[0], strides[axes + 1]) = ((axes * (axes + 1)) as u64, (axes + 1) as u64);
    // Column `axes` is what is added; those before belong to the axes, the innermost first.
    let mut y = map.read(Place::Input(0), dtype, strides.clone(), axes as u64)?;
    for column in 0..axes {
        let axis = axes - column;
        let positions = along(shape[axis]);
        let table = if dtype == DType::F64 {
            Tensor::new(&[positions.len()], positions)
        } else {
            Tensor::new(&[positions.len()], positions.into_iter().map(|p| p as f32).collect())
        };
        let position = map.table(&table.map_err(|_| GpuReject::NoKernel)?, axis)?;
        let factor = map.read(Place::Input(0), dtype, strides.clone(), column as u64)?;
        y = map.builder.mul_add(factor, position, y);
    }
    Ok(map.store("positions", y, dtype, Place::Output(0))?.finish())
}

/// Input 0 with the rows of input 1 along `axis` from the place on that input 2 tells for each batch, or the first one;
/// beyond the end from the start again where it is `circular`.
pub(crate) fn cache_update(site: &GpuSite<'_>, axis: usize, circular: bool) -> Result<GpuKernel, GpuReject> {
    let (shape, update) = (site.input_shape(0)?, site.input_shape(1)?);
    let (extent, rows) = (shape[axis], update[axis]);
    if update.contains(&0) {
        let fact = site.inputs.tensor(0).map_err(|_| GpuReject::NoKernel)?;
        return super::copy::whole(site, fact);
    }
    let space = [update[0], rows];
    let mut map = Located::over(site, &space);
    let here = map.coordinate(1)?;
    let start = if site.inputs.has(2) {
        map.read(Place::Input(2), DType::I64, vec![1, 0], 0)?
    } else {
        map.builder.integer(Kind::I64, 0)
    };
    let b = &mut map.builder;
    let (zero, length) = (b.integer(Kind::I64, 0), b.integer(Kind::I64, extent as i128));
    let at = if circular {
        let start = b.rem(start, length);
        let (negative, from_end) = (b.lt(start, zero), b.add(start, length));
        let start = b.select(negative, from_end, start);
        let at = b.add(start, here);
        let (beyond, around) = (b.ge(at, length), b.sub(at, length));
        b.select(beyond, around, at)
    } else {
        // What begins before the first row names a place outside, as what ends behind the last one does by itself.
        let (negative, at) = (b.lt(start, zero), b.add(start, here));
        b.select(negative, length, at)
    };
    let places = map.whole.between(bytes(DType::I64, &space)?)?;
    let mut whole = map.store("places", at, DType::I64, places)?;
    let steps = dense(&shape);
    let mut axes: Vec<[u64; 3]> = update.iter().zip(&steps).map(|(&e, &step)| [e as u64, step, 0]).collect();
    axes[0][2] = rows as u64;
    (axes[axis][1], axes[axis][2]) = (0, 1);
    let elements = shape.iter().map(|&extent| extent as u64).product();
    let named = [[extent as u64, steps[axis]]];
    let form = Form::new(&axes, &named, (8, space[0] as u64 * rows as u64), elements)?;
    let put = indexed::scattered(site, form, Reduction::None)?;
    whole.add("rows", put, vec![Place::Input(0), places, Place::Input(1)], vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// The elements of input 0 at the places that input 1 counts over a tensor of shape `own`, zeros elsewhere; output 0 may be
/// larger at the ends of its axes.
pub(crate) fn unpooled(site: &GpuSite<'_>, own: &[usize]) -> Result<GpuKernel, GpuReject> {
    let (from, shape, dtype) = (site.input_shape(0)?, site.output_shape(0)?, site.dtype(0)?);
    if shape.contains(&0) {
        return Ok(nothing());
    }
    let count: usize = from.iter().product();
    let mut map = Located::over(site, &[count]);
    let zeros = map.whole.between(bytes(dtype, &shape)?)?;
    map.whole.add("zeros", super::map::zeros(site, dtype, &shape)?, Vec::new(), vec![zeros])?;
    if count == 0 {
        let fact = TensorFact::known(dtype, &shape);
        map.whole.add("result", super::copy::whole(site, &fact)?, vec![zeros], vec![Place::Output(0)])?;
        return Ok(map.whole.finish());
    }
    // From the place in `own` to that in the output; what is not in the first names one behind the last.
    let index = map.read(Place::Input(1), DType::I64, vec![1], 0)?;
    let b = &mut map.builder;
    let (zero, all) = (b.integer(Kind::I64, 0), b.integer(Kind::I64, own.iter().product::<usize>() as i128));
    let outside = b.integer(Kind::I64, shape.iter().product::<usize>() as i128);
    let (mut rest, mut to, mut stride) = (index, zero, 1i128);
    for (&inner, &outer) in own.iter().zip(&shape).rev() {
        let (by, step) = (b.integer(Kind::I64, inner as i128), b.integer(Kind::I64, stride));
        let at = b.rem(rest, by);
        rest = b.div(rest, by);
        let far = b.mul(at, step);
        to = b.add(to, far);
        stride *= outer as i128;
    }
    let (negative, beyond) = (b.lt(index, zero), b.ge(index, all));
    let to = b.select(beyond, outside, to);
    let to = b.select(negative, outside, to);
    let places = map.whole.between(bytes(DType::I64, &[count])?)?;
    let mut whole = map.store("places", to, DType::I64, places)?;
    let total: u64 = shape.iter().map(|&extent| extent as u64).product();
    let form = Form::new(&[[count as u64, 0, 1]], &[[total, 1]], (8, count as u64), total)?;
    let facts = [Fact::from(TensorFact::known(dtype, &shape))];
    let given = [Some(&facts[0]), site.inputs.0[1], site.inputs.0[0]];
    let inner = GpuSite { inputs: Facts(&given), ..*site };
    let put = indexed::scattered(&inner, form, Reduction::None)?;
    whole.add("elements", put, vec![zeros, places, Place::Input(0)], vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// Input 0 as it is, and ones for all of its elements.
pub(crate) fn kept(site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
    let (shape, fact) = (site.output_shape(0)?, site.inputs.tensor(0).map_err(|_| GpuReject::NoKernel)?);
    let mut whole = Composition::new("");
    whole.add("kept", super::copy::whole(site, fact)?, vec![Place::Input(0)], vec![Place::Output(0)])?;
    if site.wanted.get(1) != Some(&true) || shape.contains(&0) {
        return Ok(whole.finish());
    }
    let dtype = site.outputs.get(1).and_then(Fact::tensor).ok_or(GpuReject::NoKernel)?.dtype;
    let mut map = Located::behind(whole, site, &shape);
    let one = map.builder.constant(kind(dtype)?, 1.0);
    Ok(map.store("mask", one, dtype, Place::Output(1))?.finish())
}
