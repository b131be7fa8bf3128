//! Batched matrix products of every numeric type, cut into blocks of the output.
//!
//! Accumulation: f32 and f64 in their own type, f16 and bf16 in f32 over panels converted as they are used,
//! integers wrapping. A block of at most [`SKINNY`] rows reads the right matrix once, along its contiguous
//! axis; other float blocks go through [`multiply`]. Blocks depend on shapes alone.

use super::RunContext;
use super::constant_matrix::ConstantMatrix;
use super::gemm::{Block, Blocks, Matrix, MatrixMut, Scalar, multiply};
use super::number::{Compute, Number, Real};
use super::panel_matrix::WIDTH;
use super::panels::GROUP;
use super::skinny::multiply_few;
use super::tiles::{Lanes, for_each_own_tile, for_each_tile};
use crate::error::OpError;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

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

/// An element type of contractions.
pub(crate) trait Term: Number {
    /// Scratch bytes that [`Term::product`] needs for a block.
    fn scratch(rows: usize, cols: usize, depth: usize) -> usize;
    /// The block `out = a · b`, passed through `finish`.
    fn product(
        out: &mut MatrixMut<'_, Self>,
        a: Matrix<'_, Self>,
        b: Matrix<'_, Self>,
        scratch: &mut [u8],
        finish: Finish<'_, Self::Compute>,
    ) -> Result<(), OpError>;
    /// Largest block (rows, columns) that suits the type.
    fn largest_block() -> (usize, usize) {
        (usize::MAX, usize::MAX)
    }
}

macro_rules! scalar_term {
    ($($t:ty),*) => { $(
        impl Term for $t {
            fn scratch(_: usize, _: usize, _: usize) -> usize { 0 }
            fn product(
                out: &mut MatrixMut<'_, Self>,
                a: Matrix<'_, Self>,
                b: Matrix<'_, Self>,
                _: &mut [u8],
                finish: Finish<'_, Self>,
            ) -> Result<(), OpError> {
                add_product(out, a, b, false)?;
                finish(out)
            }
        }
    )* };
}

macro_rules! half_term {
    ($($t:ty),*) => { $(
        impl Term for $t {
            fn scratch(rows: usize, cols: usize, depth: usize) -> usize {
                let depth = depth.min(PANEL_DEPTH);
                (rows * depth + depth * cols + rows * cols) * size_of::<f32>()
            }
            fn product(
                out: &mut MatrixMut<'_, Self>,
                a: Matrix<'_, Self>,
                b: Matrix<'_, Self>,
                scratch: &mut [u8],
                finish: Finish<'_, f32>,
            ) -> Result<(), OpError> {
                half_product(out, a, b, scratch, finish)
            }
            fn largest_block() -> (usize, usize) { (PANEL_DEPTH, PANEL_COLS) }
        }
    )* };
}

macro_rules! integer_term {
    ($($t:ty),*) => { $(
        impl Term for $t {
            fn scratch(_: usize, _: usize, _: usize) -> usize { 0 }
            fn product(
                out: &mut MatrixMut<'_, Self>,
                a: Matrix<'_, Self>,
                b: Matrix<'_, Self>,
                _: &mut [u8],
                finish: Finish<'_, Self>,
            ) -> Result<(), OpError> {
                row_product(out, a, b);
                finish(out)
            }
        }
    )* };
}

/// A floating element type, whose products are made in its compute type.
pub(crate) trait Panel: Term + Real<Compute: Scalar> {
    /// `from` in the compute type.
    fn widen(from: &[Self], to: &mut [Self::Compute]);
}

macro_rules! scalar_panel {
    ($($t:ty),*) => { $(
        impl Panel for $t {
            fn widen(from: &[Self], to: &mut [Self]) { to.copy_from_slice(from); }
        }
    )* };
}

macro_rules! half_panel {
    ($($t:ty),*) => { $(
        impl Panel for $t {
            fn widen(from: &[Self], to: &mut [f32]) { from.convert_to_f32_slice(to); }
        }
    )* };
}

scalar_panel!(f32, f64);
half_panel!(f16, bf16);
scalar_term!(f32, f64);
half_term!(f16, bf16);
integer_term!(i8, i16, i32, i64, u8, u16, u32, u64);

/// `out (+)= a · b`, by rows where there are few of them.
pub(crate) fn add_product<T: Scalar>(
    out: &mut MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    accumulate: bool,
) -> Result<(), OpError> {
    if out.rows() <= SKINNY && multiply_few(out, a, b, accumulate) {
        return Ok(());
    }
    multiply(out, a, b, accumulate)
}

/// `out = a · b` of integers row by row: eight rows of `b` are added to a row of `out` at a time, in order. For any
/// strides; quick where the columns of `b` are neighbours.
fn row_product<T: Compute>(out: &mut MatrixMut<'_, T>, a: Matrix<'_, T>, b: Matrix<'_, T>) {
    const TOGETHER: usize = 8;
    let (n, depth) = (out.cols(), a.cols());
    (0..out.rows()).for_each(|i| out.row(i).fill(T::zero()));
    if n == 0 {
        return;
    }
    if b.strides().1 != 1 {
        for i in 0..out.rows() {
            for (j, y) in out.row(i).iter_mut().enumerate() {
                *y = (0..depth).fold(*y, |sum, l| sum.add(a.at(i, l).mul(b.at(l, j))));
            }
        }
        return;
    }
    let mut at = 0;
    while at < depth {
        let many = (depth - at).min(TOGETHER);
        for i in 0..out.rows() {
            let y = out.row(i);
            if many == TOGETHER {
                let f: [T; TOGETHER] = std::array::from_fn(|l| a.at(i, at + l));
                let [b0, b1, b2, b3, b4, b5, b6, b7]: [&[T]; TOGETHER] =
                    std::array::from_fn(|l| b.row(at + l, 0..n));
                for j in 0..n {
                    let sum = y[j].add(f[0].mul(b0[j])).add(f[1].mul(b1[j])).add(f[2].mul(b2[j]));
                    let sum = sum.add(f[3].mul(b3[j])).add(f[4].mul(b4[j])).add(f[5].mul(b5[j]));
                    y[j] = sum.add(f[6].mul(b6[j])).add(f[7].mul(b7[j]));
                }
            } else {
                for l in at..at + many {
                    let f = a.at(i, l);
                    y.iter_mut().zip(b.row(l, 0..n)).for_each(|(y, &b)| *y = y.add(f.mul(b)));
                }
            }
        }
        at += many;
    }
}

/// The product of 16-bit floats: panels of both sides are converted to f32 and multiplied there.
fn half_product<T: Panel<Compute = f32>>(
    out: &mut MatrixMut<'_, T>,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    scratch: &mut [u8],
    finish: Finish<'_, f32>,
) -> Result<(), OpError> {
    let (m, n, k) = (out.rows(), out.cols(), a.cols());
    let depth = k.min(PANEL_DEPTH);
    let scratch = scratch_of::<f32>(scratch, m * depth + depth * n + m * n)?;
    let (panel_a, rest) = scratch.split_at_mut(m * depth);
    let (panel_b, sums) = rest.split_at_mut(depth * n);
    let mut sums = MatrixMut::new(sums, m, n)?;
    (0..m).for_each(|i| sums.row(i).fill(0.0));
    let mut at = 0;
    while at < k {
        let many = (k - at).min(depth);
        let a = convert_block(a.block(0..m, at..at + many), panel_a)?;
        let b = convert_block(b.block(at..at + many, 0..n), panel_b)?;
        add_product(&mut sums, a, b, true)?;
        at += many;
    }
    finish(&mut sums)?;
    for i in 0..m {
        out.row(i).iter_mut().zip(sums.row(i)).for_each(|(y, sum)| *y = T::store(*sum));
    }
    Ok(())
}

/// `block` in its compute type: itself where that is its own, or else converted into `panel`, in its own
/// order of rows and columns.
pub(crate) fn convert_block<'p, T: Panel>(
    block: Matrix<'p, T>,
    panel: &'p mut [T::Compute],
) -> Result<Matrix<'p, T::Compute>, OpError> {
    if let Some(same) = block.of_type() {
        return Ok(same);
    }
    let (rows, cols) = (block.rows(), block.cols());
    let across = block.strides().1 == 1;
    let lines = if across { block } else { block.transposed() };
    let (count, length) = (lines.rows(), lines.cols());
    for (i, line) in panel.chunks_exact_mut(length.max(1)).take(count).enumerate() {
        if lines.strides().1 == 1 {
            T::widen(lines.row(i, 0..length), line);
        } else {
            line.iter_mut().enumerate().for_each(|(j, v)| *v = lines.at(i, j).load());
        }
    }
    Matrix::new(panel, (rows, cols), if across { (cols, 1) } else { (1, rows) })
}

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

    /// Extents of a block by panels. Rows are turned for each block that they are in, at the cost of some panel's
    /// product: blocks of all columns where there are rows enough, otherwise of some panels.
    fn panel_block(&self, made: bool) -> (usize, usize) {
        let Self { m, n, k, .. } = *self;
        let panels = n.div_ceil(WIDTH);
        let rows = m.saturating_mul(self.matrices());
        let (mut rows, mut panels) = if rows >= LEAST_GROUPS * GROUP || made && rows > GROUP {
            (m.min((rows / BLOCKS).next_multiple_of(GROUP).max(GROUP)), panels)
        } else if made {
            (m, panels)
        } else {
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
