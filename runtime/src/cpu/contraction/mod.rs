//! Batched matrix products of every numeric type, cut into blocks of the output.
//!
//! A block of at most [`SKINNY`] rows reads the right matrix once, along its contiguous axis; other float blocks go through
//! the `gemm` crate ([`term`]), or panels where the right matrix is a constant in them. Blocks depend on shapes alone.

mod term;

use super::RunContext;
use super::constant_matrix::ConstantMatrix;
use super::gemm::{Block, Blocks, Matrix, MatrixMut};
use super::number::Number;
use super::panel_matrix::WIDTH;
use super::panels::GROUP;
use super::tiles::{Lanes, for_each_own_tile, for_each_tile};
use crate::error::OpError;
pub(crate) use term::{Panel, Term, add_product, convert_block};

/// Up to this many rows a product is bound by reading the right matrix.
pub(crate) const SKINNY: usize = 4;
/// Up to this many rows each thread has its own columns of the right matrix.
pub(crate) const SHARED: usize = 16;
/// Depth of the panels that 16-bit floats are converted into: with [`PANEL_COLS`] columns half of a 1 MiB L2.
pub(super) const PANEL_DEPTH: usize = 256;
/// Columns of such a panel.
const PANEL_COLS: usize = 512;
/// Columns of a block of few rows: at least these, since they are read in runs, and a multiple of a line of the caches.
const COLUMNS: usize = 128;
const LINE: usize = 16;
/// Blocks aimed at, so that a few threads share them evenly.
const BLOCKS: usize = 16;
/// Groups of rows from which blocks are cut by rows alone, where the right matrix lies in panels.
const LEAST_GROUPS: usize = 8;
/// Multiply–adds under which a block is not cut further.
const SMALL_BLOCK: usize = 1 << 19;
/// Bytes of the right matrix of a block of few rows, where there is one for each of some threads.
const SHARE: usize = 1 << 16;
/// Multiply–adds above which a block is cut in any case: deadlines are checked between blocks.
pub(crate) const LARGE_BLOCK: usize = 1 << 27;

/// What is done to each finished block: its first row, counted over all matrices, first column, and values.
pub(crate) type Epilogue<'a, T> =
    &'a (dyn Fn(usize, usize, &mut MatrixMut<'_, <T as Number>::Compute>) -> Result<(), OpError> + Sync);

/// The same where the place of the block is known.
pub(crate) type Finish<'a, C> = &'a dyn Fn(&mut MatrixMut<'_, C>) -> Result<(), OpError>;

/// Makes rows of the left matrix: the first one's number among all of the operand's, and their elements.
pub(crate) type Make<'a, T> = &'a (dyn Fn(usize, &mut [T]) -> Result<(), OpError> + Sync);

/// Where the left operand comes from.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a, T> {
    /// It lies in memory.
    Given(&'a [T]),
    /// Its rows, which the contraction takes to be row-major, are made for each block.
    Made(Make<'a, T>),
}

/// Where the right operand comes from.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a, T> {
    /// It lies in memory.
    Given(&'a [T]),
    /// It is kept in another form; `T` is `f32`.
    Constant(&'a ConstantMatrix),
}

/// Bytes of rows that are made for a block: they stay in a second cache beside what they are multiplied by.
const MADE: usize = 1 << 17;
/// Rows for which the right operand is worth being read whole.
const MANY_MADE: usize = 16;

/// The first `count` elements of scratch memory.
pub(crate) fn scratch_of<T: Number>(scratch: &mut [u8], count: usize) -> Result<&mut [T], OpError> {
    // An empty part of the memory may lie anywhere.
    if count == 0 {
        return Ok(&mut []);
    }
    let short = || OpError::internal("the scratch memory is too small");
    let bytes = scratch.get_mut(..count * size_of::<T>()).ok_or_else(short)?;
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| OpError::internal("scratch memory is not aligned"))
}

/// One axis of a batch: its extent, and how far it moves in the left and right operand (0 where broadcast) and in the
/// result.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchAxis {
    pub(crate) extent: usize,
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) y: usize,
}

/// The form of a batched product `[…, m, k] · [k, n]`, the columns of the result neighbours.
#[derive(Clone, Debug)]
pub(crate) struct Contraction {
    /// Batch axes, outermost first.
    pub(crate) batch: Vec<BatchAxis>,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Row and column strides of one left matrix.
    pub(crate) a: (usize, usize),
    /// Row and column strides of one right matrix.
    pub(crate) b: (usize, usize),
    /// Row stride of one matrix of the result.
    pub(crate) y: usize,
}

/// A way of running blocks.
type Each<'b, T> = fn(
    RunContext<'_>,
    usize,
    Lanes<'_>,
    &Blocks<'b, T>,
    super::tiles::Body<'_, Block<'b, T>>,
) -> Result<(), OpError>;

impl Contraction {
    /// The same where the matrices of the result lie one behind the other, row by row.
    pub(crate) fn row_major(mut self) -> Self {
        let mut step = self.m.saturating_mul(self.n);
        for axis in self.batch.iter_mut().rev() {
            axis.y = step;
            step = step.saturating_mul(axis.extent);
        }
        Self { y: self.n, ..self }
    }

    /// Number of matrices.
    pub(crate) fn matrices(&self) -> usize {
        self.batch.iter().fold(1usize, |n, axis| n.saturating_mul(axis.extent))
    }

    /// Whether it is one product that is bound by reading the right matrix.
    fn is_read_once(&self) -> bool {
        self.m <= SHARED && self.matrices() == 1
    }

    /// Extents of a block; where rows of the left matrix are `made`, all columns if there are rows enough for the
    /// threads, so that each row is made once. Of a `constant` right matrix, columns whose panels stay in a cache, or whole
    /// panels.
    fn block<T: Term>(&self, made: bool, constant: Option<&ConstantMatrix>) -> (usize, usize) {
        if matches!(constant, Some(ConstantMatrix::Panels(_))) {
            return self.panel_block(made);
        }
        let panels = constant.is_some() && self.m > SHARED;
        let most = if panels { (usize::MAX, PANEL_COLS) } else { T::largest_block() };
        let form = (self.m, self.n, self.k);
        if self.is_read_once() && !made {
            let bytes = self.n.saturating_mul(self.k).saturating_mul(size_of::<T>());
            let most_blocks = (self.n / COLUMNS).min(bytes / SHARE).clamp(1, BLOCKS);
            // A power of two, so that a few threads have equal shares.
            let blocks = 1 << most_blocks.ilog2();
            return (self.m, self.n.div_ceil(blocks).next_multiple_of(LINE).min(most.1));
        }
        let (rows, cols) = cut_blocks(self.matrices(), (self.m.min(most.0), self.n.min(most.1)), form);
        let share = self.m.saturating_mul(self.matrices()).div_ceil(BLOCKS).max(MANY_MADE);
        let fits = MADE / self.k.saturating_mul(size_of::<T>()).max(1);
        let whole = share.min(fits).min(self.m);
        let work = whole.saturating_mul(self.n).saturating_mul(self.k);
        if made && self.m > SKINNY && whole >= MANY_MADE.min(self.m) && work <= LARGE_BLOCK {
            return (whole, self.n.min(most.1));
        }
        (rows, cols)
    }

    /// Extents of a block by panels: of few rows, whole panels of which each thread has its own. Others are turned for
    /// each block that they are in, at a part of the cost of a panel's product: blocks of all columns where there are
    /// rows enough, otherwise of some panels.
    fn panel_block(&self, made: bool) -> (usize, usize) {
        let Self { m, n, k, .. } = *self;
        let panels = n.div_ceil(WIDTH);
        if self.is_read_once() && !made {
            let most = panels
                .min(panels.saturating_mul(k).saturating_mul(WIDTH * size_of::<f32>()) / SHARE)
                .clamp(1, BLOCKS);
            return (m, panels.div_ceil(1 << most.ilog2()) * WIDTH);
        }
        let rows = m.saturating_mul(self.matrices());
        let (mut rows, mut panels) = if rows >= LEAST_GROUPS * GROUP || made && rows > GROUP {
            (m.min((rows / BLOCKS).next_multiple_of(GROUP).max(GROUP)), panels)
        } else {
            // Rows that are made are made for each block again, which is little beside 128 columns and more.
            let work = m.saturating_mul(n).saturating_mul(k);
            let blocks = (panels / 2).min(work / SMALL_BLOCK).clamp(1, LEAST_GROUPS);
            // A power of two, so that a few threads have equal shares.
            (m, panels.div_ceil(1 << blocks.ilog2()))
        };
        let each = k.saturating_mul(WIDTH);
        while rows > GROUP && rows.saturating_mul(panels).saturating_mul(each) > LARGE_BLOCK {
            rows = (rows / 2).next_multiple_of(GROUP);
        }
        while panels > 1 && rows.saturating_mul(panels).saturating_mul(each) > LARGE_BLOCK {
            panels = panels.div_ceil(2);
        }
        (rows.max(1), panels.saturating_mul(WIDTH).max(1))
    }

    /// Scratch bytes of the rows that are made for a block.
    fn made<T: Term>(&self, rows: usize) -> usize {
        rows.saturating_mul(self.k).saturating_mul(size_of::<T>()).div_ceil(64).saturating_mul(64)
    }

    /// Scratch bytes for `threads` threads, where rows of the left matrix are `made` or the right one is `constant`.
    pub(crate) fn scratch<T: Term>(
        &self,
        threads: usize,
        made: bool,
        constant: Option<&ConstantMatrix>,
    ) -> usize {
        let (rows, cols) = self.block::<T>(made, constant);
        let own = if made { self.made::<T>(rows) } else { 0 };
        let in_pieces = made || self.a.1 == 1;
        Lanes::bytes(own.saturating_add(self.block_scratch::<T>(rows, cols, constant, in_pieces)), threads)
    }

    fn block_scratch<T: Term>(
        &self,
        rows: usize,
        cols: usize,
        constant: Option<&ConstantMatrix>,
        in_pieces: bool,
    ) -> usize {
        match constant {
            Some(matrix) => matrix.scratch(rows, cols, self.k, in_pieces),
            None => T::scratch(rows, cols, self.k),
        }
    }

    /// Multiplies, and passes each block through `epilogue`.
    pub(crate) fn run<T: Term>(
        &self,
        context: RunContext<'_>,
        (left, right): (&[T], &[T]),
        memory: (&mut [T], &mut [u8]),
        epilogue: Epilogue<'_, T>,
    ) -> Result<(), OpError> {
        self.run_from(context, (Left::Given(left), Right::Given(right)), memory, epilogue)
    }

    /// The same of a left operand that may be made as it is read, and a right one that may be stored in another format.
    pub(crate) fn run_from<T: Term>(
        &self,
        context: RunContext<'_>,
        (left, right): (Left<'_, T>, Right<'_, T>),
        (out, scratch): (&mut [T], &mut [u8]),
        epilogue: Epilogue<'_, T>,
    ) -> Result<(), OpError> {
        let &Self { m, n, k, .. } = self;
        if out.is_empty() {
            return Ok(());
        }
        let constant = if let Right::Constant(matrix) = right { Some(matrix) } else { None };
        let made = matches!(left, Left::Made(_));
        let (rows, cols) = self.block::<T>(made, constant);
        let own = if made { self.made::<T>(rows) } else { 0 };
        let bytes = self.block_scratch::<T>(rows, cols, constant, made || self.a.1 == 1);
        let lanes = Lanes::new(scratch, own.saturating_add(bytes));
        let work = out.len().saturating_mul(k);
        let axes = self.batch.iter().map(|axis| (axis.extent, axis.y)).collect();
        let blocks = Blocks::strided(out, axes, (m, n, self.y), (rows, cols))?;
        // Weights that are read once per run stay in the caches of the threads that read them.
        let own_share = self.is_read_once() && !made;
        let (each, work) = if own_share {
            (for_each_own_tile as Each<'_, T>, n.saturating_mul(k).saturating_mul(size_of::<T>()) / 4)
        } else {
            (for_each_tile as Each<'_, T>, work)
        };
        each(context, work, lanes, &blocks, &|_, mut block, scratch| {
            let (a, b) = offsets(&self.batch, block.batch);
            let (made, scratch) = scratch.split_at_mut(own.min(scratch.len()));
            let a = match left {
                Left::Given(left) => {
                    Matrix::new(tail(left, a), (m, k), self.a)?.block(block.rows.clone(), 0..k)
                }
                Left::Made(make) => {
                    let made = scratch_of::<T>(made, block.rows.len() * k)?;
                    make(a.checked_div(k).unwrap_or(0) + block.rows.start, made)?;
                    Matrix::new(made, (block.rows.len(), k), (k, 1))?
                }
            };
            let row = block.batch * m + block.rows.start;
            let finish = |y: &mut MatrixMut<'_, T::Compute>| epilogue(row, block.cols.start, y);
            let right = match right {
                Right::Given(right) => right,
                Right::Constant(right) => {
                    let other = || OpError::internal("a constant matrix of another type");
                    let a = a.of_type().ok_or_else(other)?;
                    let out = &mut block.out.of_type().ok_or_else(other)?;
                    right.product(out, a, block.cols.clone(), scratch)?;
                    return finish(&mut block.out.of_type().ok_or_else(other)?);
                }
            };
            let b = Matrix::new(tail(right, b), (k, n), self.b)?.block(0..k, block.cols.clone());
            T::product(&mut block.out, a, b, scratch, &finish)
        })
    }
}

/// Offsets of the operands of matrix `index` of a batch.
pub(super) fn offsets(batch: &[BatchAxis], mut index: usize) -> (usize, usize) {
    let (mut a, mut b) = (0, 0);
    for axis in batch.iter().rev() {
        a += index % axis.extent * axis.a;
        b += index % axis.extent * axis.b;
        index /= axis.extent;
    }
    (a, b)
}

pub(crate) fn tail<T>(data: &[T], from: usize) -> &[T] {
    data.get(from..).unwrap_or(&[])
}

/// Extents of a block, at most `most`, of `batch` products `(m, k) · (k, n)`.
pub(crate) fn cut_blocks(
    batch: usize,
    most: (usize, usize),
    (m, n, k): (usize, usize, usize),
) -> (usize, usize) {
    const LEAST: usize = 64;
    let (mut rows, mut cols) = (most.0.max(1), most.1.max(1));
    let half = |extent: usize| (extent / 2).next_multiple_of(16);
    loop {
        let size = rows.saturating_mul(cols).saturating_mul(k);
        let count = batch.saturating_mul(m.div_ceil(rows)).saturating_mul(n.div_ceil(cols));
        if size <= SMALL_BLOCK || (count >= BLOCKS && size <= LARGE_BLOCK) {
            return (rows, cols);
        }
        if cols > LEAST && (cols >= rows || rows <= 2 * LEAST) {
            cols = half(cols);
        } else if rows > LEAST {
            rows = half(rows);
        } else {
            return (rows, cols);
        }
    }
}
