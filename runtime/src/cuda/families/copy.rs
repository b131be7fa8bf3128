//! What moves elements and computes nothing: transposes, slices, splits, joins, repetitions, paddings. Each is a few boxes,
//! copied one after the other.

use crate::cpu::pad_copy::PadAxis;
use crate::cpu::strided_copy::{StridedCopy, dense_strides};
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::graph::TensorFact;
use crate::loops::Affine;
use crate::tensor::Shape;
use recurve_kernels::copy::{Region, Side};
use recurve_kernels::launch::{Buffer, Launch};
use std::sync::Arc;

/// The most boxes of one operator: each is a launch.
const MOST_REGIONS: usize = 64;
/// Elements put on an axis that are looked at one by one.
const MOST_PADDING: usize = 1 << 16;

/// Where a region's elements come from.
#[derive(Clone, Copy, Debug)]
enum From {
    Input(usize),
    /// The bytes that the kernel keeps on the device.
    Constant,
}

/// Regions in order, each from its source to its output.
struct Copies {
    regions: Vec<(From, usize, Region)>,
}

/// Bytes of an element of `dtype`.
pub(super) fn size(dtype: DType) -> Result<u32, GpuReject> {
    match dtype.bits() {
        bits if bits % 8 == 0 && bits > 0 => Ok(bits as u32 / 8),
        _ => Err(GpuReject::ElementType(dtype)),
    }
}

fn wide(extents: &[usize]) -> Vec<u64> {
    extents.iter().map(|&extent| extent as u64).collect()
}

fn steps(strides: &[isize]) -> Vec<i64> {
    strides.iter().map(|&stride| stride as i64).collect()
}

impl Copies {
    fn kernel(self, site: &GpuSite<'_>) -> GpuKernel {
        let device = site.device;
        let regions = self.regions;
        GpuKernel::new(move |operands| {
            let mut launches: Vec<Arc<dyn Launch>> = Vec::with_capacity(regions.len());
            for (from, to, region) in &regions {
                let from = match from {
                    From::Input(at) => operands.inputs.get(*at),
                    From::Constant => operands.data.first(),
                };
                let (from, to) = (from.copied().unwrap_or_default(), operands.outputs.get(*to).copied());
                // An output that nobody wants is not written.
                let Some(to) = to.filter(Buffer::is_some) else { continue };
                let prepared = region.prepare(from, to, &device)?;
                launches.extend(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>));
            }
            Ok(launches)
        })
    }
}

/// Output `k` is what copy `k` takes out of input 0.
pub(crate) fn strided(site: &GpuSite<'_>, copies: &[StridedCopy]) -> Result<GpuKernel, GpuReject> {
    let size = size(site.dtype(0)?)?;
    let mut regions = Vec::with_capacity(copies.len());
    for (output, copy) in copies.iter().enumerate() {
        let (extents, strides, offset) = copy.parts();
        let (from, to) = (steps(strides), steps(&dense_strides(extents)));
        let x = Side { first: offset as u64, steps: &from };
        let region = Region::new(size, &wide(extents), x, Side { first: 0, steps: &to })?;
        regions.push((From::Input(0), output, region));
    }
    Ok(Copies { regions }.kernel(site))
}

/// Output 0, of extents `space`, is input `input`, of shape `shape`, at `index`.
pub(crate) fn layout(
    site: &GpuSite<'_>,
    dtype: DType,
    space: &[u64],
    (input, shape): (usize, &[usize]),
    index: &[Affine],
) -> Result<GpuKernel, GpuReject> {
    let against = || GpuReject::Form("an operand that is read out of order".into());
    let mut strides = vec![0i64; space.len()];
    let (mut first, mut stride) = (0i64, 1i64);
    for (affine, &extent) in index.iter().zip(shape).rev() {
        let moved = |k: i64| k.checked_mul(stride).ok_or_else(against);
        first = first.checked_add(moved(affine.offset())?).ok_or_else(against)?;
        for &(axis, k) in affine.terms() {
            strides[axis] = strides[axis].checked_add(moved(k)?).ok_or_else(against)?;
        }
        stride = stride.checked_mul(i64::try_from(extent).map_err(|_| against())?).ok_or_else(against)?;
    }
    let first = u64::try_from(first).map_err(|_| against())?;
    let extents: Vec<usize> = space.iter().map(|&extent| extent as usize).collect();
    let to = steps(&dense_strides(&extents));
    let x = Side { first, steps: &strides };
    let region = Region::new(size(dtype)?, space, x, Side { first: 0, steps: &to })?;
    Ok(Copies { regions: vec![(From::Input(input), 0, region)] }.kernel(site))
}

/// Output 0 is input 0, a tensor of this fact.
pub(super) fn whole(site: &GpuSite<'_>, fact: &TensorFact) -> Result<GpuKernel, GpuReject> {
    Ok(Copies { regions: vec![(From::Input(0), 0, region(fact)?)] }.kernel(site))
}

/// All elements of a tensor of this fact.
pub(super) fn region(fact: &TensorFact) -> Result<Region, GpuReject> {
    let count = fact.element_count().ok_or(GpuReject::DataDependent)? as u64;
    let side = Side { first: 0, steps: &[1] };
    Ok(Region::new(size(fact.dtype)?, &[count], side, side)?)
}

/// Columns of rows that move: of input `input`, whose rows are as wide as `from` says behind the first column, to those of
/// output 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    pub(super) input: usize,
    /// The first column, and columns of a row.
    pub(super) from: (usize, usize),
    pub(super) to: (usize, usize),
    /// How many.
    pub(super) count: usize,
}

/// Output 0 is made of columns of the inputs, of so many rows.
pub(super) fn columns(
    site: &GpuSite<'_>,
    dtype: DType,
    rows: usize,
    parts: &[Columns],
) -> Result<GpuKernel, GpuReject> {
    let size = size(dtype)?;
    let mut regions = Vec::with_capacity(parts.len());
    for part in parts {
        let (from, to) = ([part.from.1 as i64, 1], [part.to.1 as i64, 1]);
        let x = Side { first: part.from.0 as u64, steps: &from };
        let y = Side { first: part.to.0 as u64, steps: &to };
        regions.push((From::Input(part.input), 0, Region::new(size, &wide(&[rows, part.count]), x, y)?));
    }
    Ok(Copies { regions }.kernel(site))
}

/// Whether slices are taken out of a whole, or put into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Out,
    In,
}

/// The copies of all slices of `whole` along `axis`, from the last one on where `reversed`.
pub(super) fn slices(
    whole: &TensorFact,
    axis: usize,
    reversed: bool,
    direction: Direction,
) -> Result<Vec<Region>, GpuReject> {
    let shape = whole.known_shape().ok_or(GpuReject::DataDependent)?;
    let count = *shape.get(axis).ok_or(GpuReject::NoKernel)?;
    let mut of_slice = shape.to_vec();
    of_slice.remove(axis);
    let mut strides = steps(&dense_strides(&shape));
    let stride = strides.remove(axis) as u64;
    let dense = steps(&dense_strides(&of_slice));
    let region = |at: usize| {
        let at = if reversed { count - 1 - at } else { at } as u64;
        let of_whole = Side { first: at.saturating_mul(stride), steps: &strides };
        let alone = Side { first: 0, steps: &dense };
        let (x, y) = if direction == Direction::Out { (of_whole, alone) } else { (alone, of_whole) };
        Region::new(size(whole.dtype)?, &wide(&of_slice), x, y).map_err(GpuReject::from)
    };
    (0..count).map(region).collect()
}

/// Output 0 is all inputs one behind the other along `axis`.
pub(crate) fn joined(site: &GpuSite<'_>, axis: usize) -> Result<GpuKernel, GpuReject> {
    let whole = site.output_shape(0)?;
    let strides = dense_strides(&whole);
    let to = steps(&strides);
    let mut regions = Vec::with_capacity(site.inputs.len());
    let mut at = 0u64;
    for input in 0..site.inputs.len() {
        let shape = site.input_shape(input)?;
        let from = steps(&dense_strides(&shape));
        let first = at.saturating_mul(strides[axis] as u64);
        let x = Side { first: 0, steps: &from };
        let region = Region::new(size(site.dtype(input)?)?, &wide(&shape), x, Side { first, steps: &to })?;
        regions.push((From::Input(input), 0, region));
        at = at.saturating_add(shape[axis] as u64);
    }
    Ok(Copies { regions }.kernel(site))
}

/// Output 0 is input 0 with padded axes; constants are input `value`, or have the low bytes of `bits`.
pub(crate) fn padded(
    site: &GpuSite<'_>,
    axes: &[PadAxis],
    value: Option<usize>,
    bits: u64,
) -> Result<GpuKernel, GpuReject> {
    let size = size(site.dtype(0)?)?;
    let (from, to) = (site.input_shape(0)?, site.output_shape(0)?);
    let (x_strides, y_strides) = (dense_strides(&from), dense_strides(&to));
    let y_steps = steps(&y_strides);
    let mut regions = Vec::new();
    let constant = value.map_or(From::Constant, From::Input);
    if axes.iter().any(PadAxis::has_constants) {
        // All of it is the constant first; what is not is copied over it.
        let still = vec![0; to.len()];
        let x = Side { first: 0, steps: &still };
        regions.push((constant, 0, Region::new(size, &wide(&to), x, Side { first: 0, steps: &y_steps })?));
    }
    // Each axis is a few runs, along which the source moves evenly; a box is one run of each axis.
    let mut boxes: Vec<Part> = vec![Part::default()];
    for (axis, padding) in axes.iter().enumerate() {
        let runs = padding.runs(MOST_PADDING).ok_or_else(many)?;
        if boxes.len().saturating_mul(runs.len()) > MOST_REGIONS {
            return Err(many());
        }
        let with = |part: &Part| {
            let mut parts = Vec::with_capacity(runs.len());
            for run in &runs {
                let mut part = part.clone();
                part.extents.push(run.length as u64);
                part.steps.push(run.step * x_strides[axis] as i64);
                part.x_first += run.from as u64 * x_strides[axis] as u64;
                part.y_first += run.to as u64 * y_strides[axis] as u64;
                parts.push(part);
            }
            parts
        };
        boxes = boxes.iter().flat_map(with).collect();
    }
    for part in boxes {
        let x = Side { first: part.x_first, steps: &part.steps };
        let y = Side { first: part.y_first, steps: &y_steps };
        regions.push((From::Input(0), 0, Region::new(size, &part.extents, x, y)?));
    }
    let kernel = Copies { regions }.kernel(site);
    Ok(if value.is_some() { kernel } else { kernel.with_data(bits.to_le_bytes()[..size as usize].to_vec()) })
}

fn many() -> GpuReject {
    GpuReject::Form("a padding of so many parts".into())
}

/// A box under construction.
#[derive(Clone, Default)]
struct Part {
    extents: Vec<u64>,
    steps: Vec<i64>,
    x_first: u64,
    y_first: u64,
}

/// Rows of input 0 that input 1 names, along `axis`.
pub(crate) fn gathered(site: &GpuSite<'_>, axis: usize) -> Result<GpuKernel, GpuReject> {
    let (from, picked): (Shape, Shape) = (site.input_shape(0)?, site.input_shape(1)?);
    rows(site, [site.dtype(0)?, site.dtype(1)?], (&from, axis), &picked)
}

/// Rows of input 0, of shape `from`, along `axis`: as many as `picked` has elements, which input 1 names.
pub(super) fn rows(
    site: &GpuSite<'_>,
    [dtype, index]: [DType; 2],
    (from, axis): (&[usize], usize),
    picked: &[usize],
) -> Result<GpuKernel, GpuReject> {
    use super::extent;
    use recurve_kernels::gather;
    let product = |extents: &[usize]| extents.iter().try_fold(1usize, |n, &e| n.checked_mul(e));
    let part = |extents: &[usize]| {
        extent(product(extents).ok_or_else(|| GpuReject::Form("a gather of so many elements".into()))?)
    };
    let shape = gather::Shape {
        size: size(dtype)?,
        outer: part(&from[..axis])?,
        extent: extent(from[axis])?,
        picked: part(picked)?,
        inner: part(&from[axis + 1..])?,
        index: size(index)?,
    };
    shape.accepts()?;
    let device = site.device;
    let kernel = GpuKernel::new(move |operands| {
        let buffers = gather::Buffers {
            x: operands.inputs[0],
            indices: operands.inputs[1],
            y: operands.outputs[0],
            fault: operands.fault,
        };
        let prepared = shape.prepare(&buffers, &device)?;
        Ok(prepared.map(|prepared| Arc::new(prepared) as Arc<dyn Launch>).into_iter().collect())
    });
    Ok(kernel.with_fault())
}
