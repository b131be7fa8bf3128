//! Operators whose elements follow from where they are: maps that read coordinates, of which each is a table of the numbers
//! along one axis.

use super::composition::{Composition, Place};
use super::{indexed, map};
use crate::cpu::strided_copy::dense_strides;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::loops::program::{Builder, Kind, Reg};
use crate::tensor::Tensor;
use recurve_kernels::places::Form;

/// A map in the making.
struct Located<'a> {
    site: &'a GpuSite<'a>,
    whole: Composition,
    builder: Builder,
    space: Vec<usize>,
    operands: Vec<(DType, Vec<u64>, u64)>,
    places: Vec<Place>,
}

fn wide(of: &[usize]) -> Vec<u64> {
    of.iter().map(|&v| v as u64).collect()
}

/// Elements between neighbours along each axis.
fn dense(shape: &[usize]) -> Vec<u64> {
    dense_strides(shape).iter().map(|&stride| stride as u64).collect()
}

/// The registers of elements of `dtype`.
fn kind(dtype: DType) -> Result<Kind, GpuReject> {
    Kind::of(dtype).ok_or(GpuReject::ElementType(dtype))
}

fn nothing() -> GpuKernel {
    GpuKernel::new(|_| Ok(Vec::new()))
}

impl<'a> Located<'a> {
    fn over(site: &'a GpuSite<'a>, space: &[usize]) -> Self {
        let (builder, operands, places) = (Builder::new(&[]), Vec::new(), Vec::new());
        Self { site, whole: Composition::new(""), builder, space: space.to_vec(), operands, places }
    }

    /// The elements at `place` of these strides, from element `first` on.
    fn read(&mut self, place: Place, dtype: DType, strides: Vec<u64>, first: u64) -> Result<Reg, GpuReject> {
        kind(dtype)?;
        self.operands.push((dtype, strides, first));
        self.places.push(place);
        Ok(self.builder.add_input(dtype))
    }

    /// Element `at` of input `input`, wherever an element is.
    fn scalar(&mut self, input: usize, at: u64) -> Result<Reg, GpuReject> {
        let strides = vec![0; self.space.len()];
        self.read(Place::Input(input), self.site.dtype(input)?, strides, at)
    }

    /// Where an element is along `axis`, as a 64-bit integer.
    fn coordinate(&mut self, axis: usize) -> Result<Reg, GpuReject> {
        let numbers: Vec<i64> = (0..self.space[axis] as i64).collect();
        let table = Tensor::new(&[numbers.len()], numbers).map_err(|_| GpuReject::NoKernel)?;
        let place = self.whole.derived(&table);
        let mut strides = vec![0; self.space.len()];
        strides[axis] = 1;
        self.read(place, DType::I64, strides, 0)
    }

    /// How far an element of the last two axes is right of the diagonal.
    fn off_diagonal(&mut self) -> Result<Reg, GpuReject> {
        let last = self.space.len().checked_sub(2).ok_or(GpuReject::NoKernel)?;
        let (row, column) = (self.coordinate(last)?, self.coordinate(last + 1)?);
        Ok(self.builder.sub(column, row))
    }

    /// Stores `y` as elements of `dtype` at `to`.
    fn store(mut self, name: &str, y: Reg, dtype: DType, to: Place) -> Result<Composition, GpuReject> {
        let program = self.builder.finish(&[(y, dtype)]).map_err(|_| GpuReject::NoKernel)?;
        let reads = (0..self.operands.len()).collect();
        let kernel = map::launched(self.site, &program, &wide(&self.space), &self.operands, reads)?;
        self.whole.add(name, kernel, self.places, vec![to])?;
        Ok(self.whole)
    }
}

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
