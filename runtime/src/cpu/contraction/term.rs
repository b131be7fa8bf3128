//! Products of one block in every element type. Accumulation: f32 and f64 in their own type, f16 and bf16 in f32 over
//! panels converted as they are used, integers wrapping.

use super::{Finish, PANEL_COLS, PANEL_DEPTH, SKINNY, scratch_of};
use crate::cpu::gemm::{Matrix, MatrixMut, Scalar, multiply};
use crate::cpu::number::{Compute, Number, Real};
use crate::cpu::skinny::multiply_few;
use crate::error::OpError;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

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
