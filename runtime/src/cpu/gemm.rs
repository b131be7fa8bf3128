//! Matrix views, and the product of two matrices through the `gemm` crate.
//!
//! `out = a · b` or `out += a · b`, accumulated in the element type. This is the only file that calls the
//! crate: views are checked against their slices when they are made, so that the call cannot leave them.

use super::number::Float;
use super::simd::Lane;
use super::tiles::Pieces;
use crate::dtype::Element;
use crate::error::OpError;
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::ops::Range;

/// Element types that the crate multiplies at speed.
pub(crate) trait Scalar: Float + Lane {}

impl Scalar for f32 {}
impl Scalar for f64 {}

/// A matrix in a slice: element (i, j) is at `i · row_stride + j · col_stride`.
#[derive(Debug)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<T> Clone for Matrix<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Matrix<'_, T> {}

impl<'a, T> Matrix<'a, T> {
    /// A matrix at the start of `data`, with (row, column) strides.
    pub(crate) fn new(
        data: &'a [T],
        (rows, cols): (usize, usize),
        (row_stride, col_stride): (usize, usize),
    ) -> Result<Self, OpError> {
        if last_index(rows, cols, row_stride, col_stride).is_some_and(|last| last < data.len())
            || rows == 0
            || cols == 0
        {
            Ok(Self { data, rows, cols, row_stride, col_stride })
        } else {
            Err(OpError::internal(format!("a {rows}x{cols} matrix does not fit {} elements", data.len())))
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Distance of neighbours in a column and in a row.
    pub(crate) fn strides(&self) -> (usize, usize) {
        (self.row_stride, self.col_stride)
    }

    /// Element (i, j).
    pub(crate) fn at(&self, i: usize, j: usize) -> T
    where
        T: Copy,
    {
        self.data[i * self.row_stride + j * self.col_stride]
    }

    /// Row `i` from column `cols.start` on, where columns are neighbours in memory.
    pub(crate) fn row(&self, i: usize, cols: Range<usize>) -> &'a [T] {
        debug_assert_eq!(self.col_stride, 1);
        &self.data[i * self.row_stride..][cols]
    }

    /// Row `i`, where it lies in one piece.
    pub(crate) fn piece(&self, i: usize) -> &'a [T] {
        if self.cols == 0 { &[] } else { &self.data[i * self.row_stride..][..self.cols] }
    }

    /// The part in `rows` and `cols`, which must be inside.
    pub(crate) fn block(&self, rows: Range<usize>, cols: Range<usize>) -> Self {
        debug_assert!(rows.end <= self.rows && cols.end <= self.cols);
        let at = (rows.start * self.row_stride + cols.start * self.col_stride).min(self.data.len());
        Self { data: &self.data[at..], rows: rows.len(), cols: cols.len(), ..*self }
    }

    /// The same matrix when `U` is `T`.
    pub(crate) fn of_type<U: Element>(&self) -> Option<Matrix<'a, U>>
    where
        T: Element,
    {
        let data =
            if T::DTYPE == U::DTYPE { bytemuck::try_cast_slice(self.data).ok()? } else { return None };
        let Self { rows, cols, row_stride, col_stride, .. } = *self;
        Some(Matrix { data, rows, cols, row_stride, col_stride })
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(&self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// Index of the last element of a matrix that is not empty.
fn last_index(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> Option<usize> {
    let down = rows.checked_sub(1)?.checked_mul(row_stride)?;
    let across = cols.checked_sub(1)?.checked_mul(col_stride)?;
    down.checked_add(across)
}

/// A matrix to write, whose columns are neighbours in memory.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    data: PhantomData<&'a mut [T]>,
}

impl<'a, T> MatrixMut<'a, T> {
    /// A matrix over the start of `data`, its rows one behind the other.
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self, OpError> {
        if rows.checked_mul(cols).is_some_and(|n| n <= data.len()) {
            Ok(Self { start: data.as_mut_ptr(), rows, cols, row_stride: cols, data: PhantomData })
        } else {
            Err(OpError::internal(format!("a {rows}x{cols} matrix does not fit {} elements", data.len())))
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// The same matrix when `U` is `T`.
    pub(crate) fn of_type<U: Element>(&mut self) -> Option<MatrixMut<'_, U>>
    where
        T: Element,
    {
        let same = T::DTYPE == U::DTYPE;
        let Self { rows, cols, row_stride, .. } = *self;
        same.then(|| MatrixMut { start: self.start.cast(), rows, cols, row_stride, data: PhantomData })
    }

    /// All elements in order, where rows lie one behind the other.
    pub(crate) fn whole(&mut self) -> Option<&mut [T]> {
        if self.row_stride != self.cols && self.rows > 1 {
            return None;
        }
        // SAFETY: the rows of this matrix were inside a borrowed slice when it was made, and have no gaps.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start, self.rows * self.cols) })
    }

    /// Row `i`.
    pub(crate) fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        // SAFETY: the rows of this matrix were inside a borrowed slice when it was made; `i` is one of them.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.row_stride), self.cols) }
    }

    /// `R` rows from row `first` on.
    pub(crate) fn rows_from<const R: usize>(&mut self, first: usize) -> [&mut [T]; R] {
        assert!(first + R <= self.rows, "rows from {first} on of {}", self.rows);
        std::array::from_fn(|i| {
            let at = (first + i) * self.row_stride;
            // SAFETY: the rows of this matrix were inside a borrowed slice when it was made, and share no element;
            // these are different ones of them, borrowed as long as the matrix is.
            unsafe { std::slice::from_raw_parts_mut(self.start.add(at), self.cols) }
        })
    }
}

/// A batch of matrices that fill a slice, cut into blocks of rows and columns.
#[derive(Debug)]
pub(crate) struct Blocks<'a, T> {
    start: *mut T,
    batch: usize,
    /// Axes of the batch, outermost first: extent, and elements between neighbours.
    axes: SmallVec<[(usize, usize); 4]>,
    row_stride: usize,
    rows: usize,
    cols: usize,
    row_block: usize,
    col_block: usize,
    data: PhantomData<&'a mut [T]>,
}

/// One block of [`Blocks`].
#[derive(Debug)]
pub(crate) struct Block<'a, T> {
    /// Which matrix of the batch.
    pub(crate) batch: usize,
    /// Its rows.
    pub(crate) rows: Range<usize>,
    /// Its columns.
    pub(crate) cols: Range<usize>,
    /// The elements.
    pub(crate) out: MatrixMut<'a, T>,
}

// SAFETY: `Blocks` is a mutable slice that is handed out in disjoint parts, each to one thread.
unsafe impl<T: Send> Sync for Blocks<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Blocks<'_, T> {}
// SAFETY: a matrix view is a mutable borrow of its elements.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}

impl<'a, T> Blocks<'a, T> {
    /// Cuts the `batch` row-major matrices of `rows` by `cols` elements that fill `data` one behind the other.
    pub(crate) fn new(
        data: &'a mut [T],
        (batch, rows, cols): (usize, usize, usize),
        (row_block, col_block): (usize, usize),
    ) -> Result<Self, OpError> {
        let axes = SmallVec::from_slice(&[(batch, rows.saturating_mul(cols))]);
        Self::strided(data, axes, (rows, cols, cols), (row_block, col_block))
    }

    /// Cuts matrices of `rows` by `cols` elements, columns neighbours and rows `row_stride` apart, one for each point of
    /// `axes`, that fill `data` without gaps and without sharing an element.
    pub(crate) fn strided(
        data: &'a mut [T],
        axes: SmallVec<[(usize, usize); 4]>,
        (rows, cols, row_stride): (usize, usize, usize),
        (row_block, col_block): (usize, usize),
    ) -> Result<Self, OpError> {
        // From the innermost on, each axis steps over all that is inside it.
        let mut steps: SmallVec<[(usize, usize); 6]> = axes.iter().map(|&(n, step)| (step, n)).collect();
        steps.extend([(row_stride, rows), (1, cols)]);
        steps.retain(|(_, extent)| *extent != 1);
        steps.sort_unstable();
        let batch = axes.iter().try_fold(1usize, |n, axis| n.checked_mul(axis.0));
        let elements = batch.and_then(|n| n.checked_mul(rows)?.checked_mul(cols));
        let whole =
            steps.iter().try_fold(
                1usize,
                |reach, &(step, extent)| {
                    if step == reach { reach.checked_mul(extent) } else { None }
                },
            );
        if elements != Some(data.len()) || whole != elements && elements != Some(0) {
            let found = data.len();
            return Err(OpError::internal(format!("{axes:?} of {rows}x{cols} do not fill {found} elements")));
        }
        Ok(Self {
            start: data.as_mut_ptr(),
            batch: batch.unwrap_or(0),
            axes,
            row_stride,
            rows,
            cols,
            row_block: row_block.max(1),
            col_block: col_block.max(1),
            data: PhantomData,
        })
    }
}

// SAFETY: a block is rows × columns of one matrix, and blocks of different indices differ in the matrix, the
// range of rows or the range of columns; matrices share no element, and all are inside the slice that is borrowed
// mutably: axes from the innermost on step over all that is inside them.
unsafe impl<'a, T: Send> Pieces for Blocks<'a, T> {
    type Piece = Block<'a, T>;

    fn count(&self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        self.batch * self.rows.div_ceil(self.row_block) * self.cols.div_ceil(self.col_block)
    }

    unsafe fn take(&self, index: usize) -> Block<'a, T> {
        assert!(index < self.count(), "block {index} of {}", self.count());
        let (down, across) = (self.rows.div_ceil(self.row_block), self.cols.div_ceil(self.col_block));
        let (batch, within) = (index / (down * across), index % (down * across));
        let row = within / across * self.row_block;
        let col = within % across * self.col_block;
        let rows = row..self.rows.min(row + self.row_block);
        let cols = col..self.cols.min(col + self.col_block);
        let (mut at, mut rest) = (row * self.row_stride + col, batch);
        for (extent, stride) in self.axes.iter().rev() {
            at += rest % extent * stride;
            rest /= extent;
        }
        // SAFETY: `batch < self.batch`, `row < self.rows` and `col < self.cols`, and the axes step over each other
        // inside the borrowed slice, which was checked when the blocks were made.
        let start = unsafe { self.start.add(at) };
        let row_stride = self.row_stride;
        let out = MatrixMut { start, rows: rows.len(), cols: cols.len(), row_stride, data: PhantomData };
        Block { batch, rows, cols, out }
    }
}

/// `out = a · b`, or `out += a · b` when `accumulate`. One thread.
pub(crate) fn multiply<T: Scalar>(
    out: &mut MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    accumulate: bool,
) -> Result<(), OpError> {
    if (a.rows, b.cols, a.cols) != (out.rows, out.cols, b.rows) {
        return Err(OpError::internal(format!(
            "{}x{} by {}x{} is not {}x{}",
            a.rows, a.cols, b.rows, b.cols, out.rows, out.cols
        )));
    }
    if out.rows == 0 || out.cols == 0 {
        return Ok(());
    }
    if a.cols == 0 {
        if !accumulate {
            (0..out.rows).for_each(|i| out.row(i).fill(T::zero()));
        }
        return Ok(());
    }
    // A stride that is never taken may be anything; the crate's dispatch on strides wants a small one.
    let stride = |extent: usize, stride: usize| if extent == 1 { 1 } else { stride as isize };
    // SAFETY: the extents agree (above); the elements of `a` and `b` are inside their slices and those of
    // `out` inside what it borrows mutably (checked when the views were made), so `out` overlaps neither;
    // extents times strides were computed without overflow and stay below `isize::MAX` elements, as slices
    // do.
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            a.cols,
            out.start,
            1,
            out.row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            stride(a.cols, a.col_stride),
            stride(a.rows, a.row_stride),
            b.data.as_ptr(),
            stride(b.cols, b.col_stride),
            stride(b.rows, b.row_stride),
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    #[test]
    fn products_of_strided_blocks_match_a_triple_loop() {
        let mut g = Gen::new(3);
        for _ in 0..300 {
            let (m, n, k) = (g.size(0, 20), g.size(0, 20), g.size(0, 20));
            let a: Vec<f64> = (0..m * k).map(|_| g.float(-1.0, 1.0)).collect();
            let b: Vec<f64> = (0..n * k).map(|_| g.float(-1.0, 1.0)).collect();
            let (ta, tb, accumulate) = (g.chance(0.5), g.chance(0.5), g.chance(0.5));
            let a = Matrix::new(&a, (m, k), if ta { (1, m.max(1)) } else { (k, 1) }).expect("fits");
            let b = Matrix::new(&b, (k, n), if tb { (1, k.max(1)) } else { (n, 1) }).expect("fits");
            let mut out = vec![1.0; m * n];
            let blocks = Blocks::new(&mut out, (1, m, n), (g.size(1, 9), g.size(1, 9))).expect("fits");
            for i in 0..blocks.count() {
                // SAFETY: each index once.
                let mut block = unsafe { blocks.take(i) };
                let (a, b) = (a.block(block.rows.clone(), 0..k), b.block(0..k, block.cols.clone()));
                multiply(&mut block.out, a, b, accumulate).expect("fits");
            }
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..k).map(|l| a.at(i, l) * b.at(l, j)).sum();
                    let want = if accumulate { 1.0 + sum } else { sum };
                    assert!((out[i * n + j] - want).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn blocks_of_interleaved_matrices_are_disjoint() {
        // Two by two matrices of 3×4 elements, the rows of all of them in turn.
        let mut data = vec![0u32; 2 * 2 * 3 * 4];
        let axes = SmallVec::from_slice(&[(2, 8), (2, 4)]);
        let blocks = Blocks::strided(&mut data, axes, (3, 4, 16), (2, 3)).expect("fits");
        for index in 0..blocks.count() {
            // SAFETY: each index once.
            let mut block = unsafe { blocks.take(index) };
            for i in 0..block.out.rows() {
                let (row, first) = (block.rows.start + i, block.cols.start);
                for (j, y) in block.out.row(i).iter_mut().enumerate() {
                    *y += 1 + (row * 16 + block.batch * 4 + first + j) as u32;
                }
            }
        }
        assert!(data.iter().enumerate().all(|(i, &y)| y == i as u32 + 1), "{data:?}");
    }

    #[test]
    fn views_that_do_not_fit_are_refused() {
        let data = [0f32; 10];
        assert!(Matrix::new(&data, (2, 5), (5, 1)).is_ok());
        assert!(Matrix::new(&data, (2, 5), (6, 1)).is_err());
        assert!(Matrix::new(&data, (usize::MAX, 2), (usize::MAX, 1)).is_err());
        assert!(Matrix::new(&data, (0, usize::MAX), (usize::MAX, 7)).is_ok());
        let mut data = [0f32; 10];
        assert!(MatrixMut::new(&mut data, usize::MAX, 2).is_err());
        assert!(Blocks::new(&mut data, (2, 2, 3), (1, 1)).is_err());
        let two = |step| SmallVec::from_slice(&[(2, step)]);
        let mut data = [0f32; 12];
        // Rows of both matrices in turn; then rows and matrices that meet, and such as leave gaps.
        assert!(Blocks::strided(&mut data, two(3), (2, 3, 6), (1, 1)).is_ok());
        assert!(Blocks::strided(&mut data, two(3), (2, 3, 3), (1, 1)).is_err());
        assert!(Blocks::strided(&mut data, two(12), (2, 3, 6), (1, 1)).is_err());
    }
}
