//! Quantisation, back again, and products of quantised operands. They are exact: quotients and factors are rounded as the
//! operators say, sums are 32-bit integers. As nests and maps of their own, which no fusion sees.

use super::composition::{Composition, Place};
use super::{lines, located, map};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::loops::program::{Builder, Kind, Opcode, Program, Reg, quantised as program};
use recurve_kernels::reduce;

fn refused<E>(_: E) -> GpuReject {
    GpuReject::Form("a quantisation of these types".into())
}

/// The axis of `x` that scales lie along.
fn axis_of(x: &[usize], axis: i64) -> Result<usize, GpuReject> {
    let at = if x.len() == 1 {
        0
    } else if axis < 0 {
        axis + x.len() as i64
    } else {
        axis
    };
    usize::try_from(at).ok().filter(|&at| at < x.len()).ok_or(GpuReject::NoKernel)
}

/// How a tensor of shape `x` lies beside its scales: extents, strides of the tensor, and strides of the scales; a blocked axis
/// is two.
fn granularity(x: &[usize], scale: &[usize], axis: i64, block: usize) -> Result<[Vec<usize>; 3], GpuReject> {
    let mut space = x.to_vec();
    let mut steps = vec![0usize; x.len()];
    let one = scale.is_empty() || (scale == [1] && block == 0);
    if !one {
        let at = axis_of(x, axis)?;
        // A block of 0 is none.
        if let Some(blocks) = x[at].checked_div(block) {
            let mut stride = 1;
            for (step, &extent) in steps.iter_mut().zip(scale).rev() {
                *step = stride;
                stride = stride.saturating_mul(extent);
            }
            space.splice(at..=at, [blocks, block]);
            steps.insert(at + 1, 0);
        } else {
            steps[at] = 1;
        }
    }
    let mut dense = vec![0usize; space.len()];
    let mut stride = 1usize;
    for (step, &extent) in dense.iter_mut().zip(&space).rev() {
        *step = stride;
        stride = stride.saturating_mul(extent);
    }
    Ok([space, dense, steps])
}

fn wide(of: &[usize]) -> Vec<u64> {
    of.iter().map(|&v| v as u64).collect()
}

/// Types of input 0, the scale of input 1 and, where there is one, the zero point of input 2.
fn types(site: &GpuSite<'_>) -> Result<Vec<DType>, GpuReject> {
    (0..3).filter(|&index| site.inputs.has(index)).map(|index| site.dtype(index)).collect()
}

/// Runs `program` over a tensor and its scales and zero points.
fn beside_scales(
    site: &GpuSite<'_>,
    program: &Program,
    types: &[DType],
    (axis, block): (i64, usize),
) -> Result<GpuKernel, GpuReject> {
    let (x, scale) = (site.input_shape(0)?, site.input_shape(1)?);
    if x.contains(&0) {
        return Ok(GpuKernel::new(|_| Ok(Vec::new())));
    }
    if block > 0 && scale.len() == x.len() && !x[axis_of(&x, axis)?].is_multiple_of(block) {
        return beside_repeated(site, program, types, (axis_of(&x, axis)?, block));
    }
    let [space, dense, steps] = granularity(&x, &scale, axis, block)?;
    let strides = |index: usize| wide(if index == 0 { &dense } else { &steps });
    let inputs: Vec<_> = types.iter().enumerate().map(|(at, &dtype)| (dtype, strides(at), 0)).collect();
    map::launched(site, program, &wide(&space), &inputs, (0..types.len()).collect())
}

/// The same where the last block does not fill the axis: scales and zero points are written out first, one for each element
/// that blocks could have.
fn beside_repeated(
    site: &GpuSite<'_>,
    program: &Program,
    types: &[DType],
    (at, block): (usize, usize),
) -> Result<GpuKernel, GpuReject> {
    let (x, scale) = (site.input_shape(0)?, site.input_shape(1)?);
    let product = |of: &[usize]| of.iter().product::<usize>();
    let (outer, count, inner) = (product(&scale[..at]), scale[at], product(&scale[at + 1..]));
    let (space, all) = ([outer, x[at], inner], [outer, count, block, inner]);
    let mut whole = Composition::new("blocks");
    let mut places = vec![Place::Input(0)];
    let mut inputs = vec![(types[0], located::dense(&space), 0)];
    for (input, &dtype) in types.iter().enumerate().skip(1) {
        let to = whole.between(located::bytes(dtype, &all)?)?;
        let repeated = map::moved(site, [dtype; 2], &all, &[count * inner, inner, 0, 1])?;
        whole.add(&format!("input {input}"), repeated, vec![Place::Input(input)], vec![to])?;
        places.push(to);
        inputs.push((dtype, wide(&[count * block * inner, inner, 1]), 0));
    }
    let kernel = map::launched(site, program, &wide(&space), &inputs, (0..types.len()).collect())?;
    whole.add("all", kernel, places, vec![Place::Output(0)])?;
    Ok(whole.finish())
}

/// Input 0 divided by its scales, rounded, moved by its zero points, as `result`; the quotient is rounded to `precision`.
pub(crate) fn quantise(
    site: &GpuSite<'_>,
    granularity: (i64, usize),
    precision: DType,
    result: DType,
) -> Result<GpuKernel, GpuReject> {
    let types = types(site)?;
    let mut b = Builder::new(&types);
    let given: Vec<Reg> = (0..types.len()).map(|at| b.input(at)).collect();
    let operands = [0, 1].map(|at| (given[at], types[at]));
    let y = program::quantised(&mut b, operands, given.get(2).copied(), precision, result);
    let y = y.ok_or_else(|| refused(()))?;
    let program = b.finish(&[(y, result)]).map_err(refused)?;
    beside_scales(site, &program, &types, granularity)
}

/// Input 0 less its zero points, times its scales, as `result`.
pub(crate) fn dequantise(
    site: &GpuSite<'_>,
    granularity: (i64, usize),
    result: DType,
) -> Result<GpuKernel, GpuReject> {
    let types = types(site)?;
    let mut b = Builder::new(&types);
    let given: Vec<Reg> = (0..types.len()).map(|at| b.input(at)).collect();
    let y = program::dequantised(&mut b, (given[0], types[0]), given[1], given.get(2).copied());
    let program = b.finish(&[(y, result)]).map_err(refused)?;
    beside_scales(site, &program, &types, granularity)
}

/// Input 0 as bytes by the scale and zero point of its own range with zero, outputs 1 and 2.
pub(crate) fn dynamically(site: &GpuSite<'_>) -> Result<GpuKernel, GpuReject> {
    let x = site.input_shape(0)?;
    let all = vec![true; x.len()];
    let mut whole = Composition::new("quantise");
    let (least, most) = (whole.between(4)?, whole.between(4)?);
    for (name, fold, to) in [("least", reduce::Fold::Min, least), ("most", reduce::Fold::Max, most)] {
        whole.add(name, lines::reduce(site, &x, &all, fold)?, vec![Place::Input(0)], vec![to])?;
    }
    let count = x.iter().try_fold(1usize, |n, &e| n.checked_mul(e)).ok_or(GpuReject::NoKernel)?;
    if count == 0 {
        return Err(GpuReject::Form("the scale of a tensor without elements".into()));
    }
    let parts = [("y", DType::U8, count), ("scale", DType::F32, 1), ("zero", DType::U8, 1)];
    for (output, (name, dtype, extent)) in parts.into_iter().enumerate() {
        let mut b = Builder::new(&[DType::F32; 3]);
        let (x, low, high) = (b.input(0), b.input(1), b.input(2));
        let none = b.constant_as(x, 0.0);
        let (low, high) = (b.min(low, none), b.max(high, none));
        let (flat, span) = (b.binary(Opcode::Eq, low, high), b.sub(high, low));
        let (one, steps) = (b.constant_as(x, 1.0), b.constant_as(x, 255.0));
        let span = b.select(flat, one, span);
        let scale = b.div(span, steps);
        let below = b.neg(low);
        let zero = b.div(below, scale);
        let zero = b.max(zero, none);
        let zero = b.min(zero, steps);
        let zero = b.round(zero);
        let made = match name {
            "scale" => scale,
            "zero" => b.convert(zero, Kind::I32),
            _ => {
                let quotient = b.div(x, scale);
                let whole = b.round(quotient);
                let moved = b.add(whole, zero);
                let moved = b.max(moved, none);
                let moved = b.min(moved, steps);
                b.convert(moved, Kind::I32)
            }
        };
        let program = b.finish(&[(made, dtype)]).map_err(refused)?;
        let step = u64::from(output == 0);
        let inputs = [(DType::F32, vec![step], 0), (DType::F32, vec![0], 0), (DType::F32, vec![0], 0)];
        let kernel = map::launched(site, &program, &[extent as u64], &inputs, vec![0, 1, 2])?;
        let from = vec![Place::Input(0), least, most];
        whole.add(name, kernel, from, vec![Place::Output(output)])?;
    }
    Ok(whole.finish())
}

/// The program of `round((sum + bias) · (a · b / y)) + zero`, in f64, of a sum, two scales, that of the result, its zero point
/// and perhaps a bias.
pub(super) fn requantise(types: &[DType], result: DType, biased: bool) -> Result<Program, GpuReject> {
    program::requantised(types, result, biased).ok_or_else(|| refused(()))
}
