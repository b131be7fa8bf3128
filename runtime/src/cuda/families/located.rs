//! Maps in the making that read coordinates, of which each is a table of the numbers along one axis, and operands under any
//! strides; alone or with other kernels before and behind them.

use super::composition::{Composition, Place};
use super::map;
use crate::cpu::strided_copy::dense_strides;
use crate::cuda::{GpuKernel, GpuReject, GpuSite};
use crate::dtype::DType;
use crate::loops::program::{Builder, Kind, Reg};
use crate::tensor::Tensor;

/// A map in the making.
pub(super) struct Located<'a> {
    site: &'a GpuSite<'a>,
    pub(super) whole: Composition,
    pub(super) builder: Builder,
    space: Vec<usize>,
    operands: Vec<(DType, Vec<u64>, u64)>,
    places: Vec<Place>,
}

pub(super) fn wide(of: &[usize]) -> Vec<u64> {
    of.iter().map(|&v| v as u64).collect()
}

/// Elements between neighbours along each axis.
pub(super) fn dense(shape: &[usize]) -> Vec<u64> {
    dense_strides(shape).iter().map(|&stride| stride as u64).collect()
}

/// The registers of elements of `dtype`.
pub(super) fn kind(dtype: DType) -> Result<Kind, GpuReject> {
    Kind::of(dtype).ok_or(GpuReject::ElementType(dtype))
}

/// No launches.
pub(super) fn nothing() -> GpuKernel {
    GpuKernel::new(|_| Ok(Vec::new()))
}

/// The bytes of so many elements of `dtype`.
pub(super) fn bytes(dtype: DType, shape: &[usize]) -> Result<usize, GpuReject> {
    let count = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let bytes = count.and_then(|count| count.checked_mul(dtype.bits() / 8));
    bytes.ok_or_else(|| GpuReject::Form("so many elements".into()))
}

impl<'a> Located<'a> {
    /// A map over `space` as the first of its composition.
    pub(super) fn over(site: &'a GpuSite<'a>, space: &[usize]) -> Self {
        Self::behind(Composition::new(""), site, space)
    }

    /// A map over `space` behind the kernels of `whole`.
    pub(super) fn behind(whole: Composition, site: &'a GpuSite<'a>, space: &[usize]) -> Self {
        let (builder, operands, places) = (Builder::new(&[]), Vec::new(), Vec::new());
        Self { site, whole, builder, space: space.to_vec(), operands, places }
    }

    /// The same behind the kernels of `whole`, where it has none and no tables of its own ahead of it.
    pub(super) fn onto(self, whole: Composition) -> Self {
        Self { whole, ..self }
    }

    /// What the map is a part of.
    pub(super) fn site(&self) -> &'a GpuSite<'a> {
        self.site
    }

    /// The elements at `place` of these strides, from element `first` on.
    pub(super) fn read(
        &mut self,
        place: Place,
        dtype: DType,
        strides: Vec<u64>,
        first: u64,
    ) -> Result<Reg, GpuReject> {
        kind(dtype)?;
        self.operands.push((dtype, strides, first));
        self.places.push(place);
        Ok(self.builder.add_input(dtype))
    }

    /// Element `at` of input `input`, wherever an element is.
    pub(super) fn scalar(&mut self, input: usize, at: u64) -> Result<Reg, GpuReject> {
        let strides = vec![0; self.space.len()];
        self.read(Place::Input(input), self.site.dtype(input)?, strides, at)
    }

    /// Where an element is along `axis`, as a 64-bit integer.
    pub(super) fn coordinate(&mut self, axis: usize) -> Result<Reg, GpuReject> {
        let numbers: Vec<i64> = (0..self.space[axis] as i64).collect();
        let table = Tensor::new(&[numbers.len()], numbers).map_err(|_| GpuReject::NoKernel)?;
        self.table(&table, axis)
    }

    /// The element of `table` that belongs to where an element is along `axis`.
    pub(super) fn table(&mut self, table: &Tensor, axis: usize) -> Result<Reg, GpuReject> {
        let place = self.whole.derived(table);
        let mut strides = vec![0; self.space.len()];
        strides[axis] = 1;
        self.read(place, table.dtype(), strides, 0)
    }

    /// How far an element of the last two axes is right of the diagonal.
    pub(super) fn off_diagonal(&mut self) -> Result<Reg, GpuReject> {
        let last = self.space.len().checked_sub(2).ok_or(GpuReject::NoKernel)?;
        let (row, column) = (self.coordinate(last)?, self.coordinate(last + 1)?);
        Ok(self.builder.sub(column, row))
    }

    /// Stores `y` as elements of `dtype` at `to`.
    pub(super) fn store(
        mut self,
        name: &str,
        y: Reg,
        dtype: DType,
        to: Place,
    ) -> Result<Composition, GpuReject> {
        let program = self.builder.finish(&[(y, dtype)]).map_err(|_| GpuReject::NoKernel)?;
        let reads = (0..self.operands.len()).collect();
        let kernel = map::launched(self.site, &program, &wide(&self.space), &self.operands, reads)?;
        self.whole.add(name, kernel, self.places, vec![to])?;
        Ok(self.whole)
    }
}
