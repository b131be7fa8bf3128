//! Products of few rows: bound by reading the right matrix, which is read once, in the order in which it lies.
//!
//! Where its rows lie in one piece, some of them are added to the rows of the result at a time, each scaled by an
//! element of the left matrix; where its columns do, some of them are multiplied by the rows of the left matrix,
//! element by element. An element of the result is the same sum in the same order whatever block it is computed in:
//! in the first form from the front to the end, in the second in as many parts as a vector has lanes.
//!
//! Arrays are filled by loops: closures given to functions of arrays are not compiled for the instruction set.

use super::gemm::{Matrix, MatrixMut};
use super::number::Float;
use super::simd::{Lane, Level, Simd, Work};
use super::stored::Weight;

/// Rows of the result that are computed at once.
const ROWS: usize = 4;

/// `out = a · b`, or `out += a · b` where `accumulate`, if `b` or its transpose has neighbours in its rows and, in the
/// latter case, `a` does; whether that was so, and so the product made. The extents must agree. Factors of `b` are left out.
pub(super) fn multiply_few<F: Float + Lane, E: Weight<F>>(
    out: &mut MatrixMut<'_, F>,
    a: Matrix<'_, F>,
    b: Matrix<'_, E>,
    accumulate: bool,
) -> bool {
    debug_assert_eq!((a.rows(), b.cols(), a.cols()), (out.rows(), out.cols(), b.rows()));
    let ((b_row, b_col), (_, a_col)) = (b.strides(), a.strides());
    let level = Level::detect();
    let in_columns = b_row == 1 && (a_col == 1 || a.cols() <= 1);
    if in_columns && (b_col != 1 || b.cols() == 1) {
        F::run(level, Dots { out, a, b: b.transposed(), accumulate });
    } else if b_col == 1 {
        F::run(level, Lines { out, a, b, accumulate });
    } else {
        return false;
    }
    true
}

/// The form for rows of `b` in one piece.
struct Lines<'s, 'o, F, E> {
    out: &'s mut MatrixMut<'o, F>,
    a: Matrix<'s, F>,
    b: Matrix<'s, E>,
    accumulate: bool,
}

impl<F: Float + Lane, E: Weight<F>> Work for Lines<'_, '_, F, E> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { out, a, b, accumulate } = self;
        let (rows, depth) = (out.rows(), a.cols());
        if depth == 0 && !accumulate {
            (0..rows).for_each(|i| out.row(i).fill(F::zero()));
        }
        // As many lines at a time as leave the scaling elements in registers.
        let deep = if rows <= 2 { 8 } else { 4 };
        let mut at = 0;
        while at < depth {
            let many = if depth - at >= deep { deep } else { 1 };
            let begin = at == 0 && !accumulate;
            let mut row = 0;
            while row < rows {
                let (left, lines) = (rows - row, Part { a, b, at, row, begin });
                match (left.min(ROWS), many) {
                    (1, 8) => lines.add::<S, 1, 8>(simd, out),
                    (2, 8) => lines.add::<S, 2, 8>(simd, out),
                    (1, 4) => lines.add::<S, 1, 4>(simd, out),
                    (2, 4) => lines.add::<S, 2, 4>(simd, out),
                    (3, 4) => lines.add::<S, 3, 4>(simd, out),
                    (_, 4) => lines.add::<S, 4, 4>(simd, out),
                    (1, _) => lines.add::<S, 1, 1>(simd, out),
                    (2, _) => lines.add::<S, 2, 1>(simd, out),
                    (3, _) => lines.add::<S, 3, 1>(simd, out),
                    _ => lines.add::<S, 4, 1>(simd, out),
                }
                row += left.min(ROWS);
            }
            at += many;
        }
    }
}

/// The lines of `b` from `at` on and the rows from `row` on.
#[derive(Clone, Copy)]
struct Part<'s, F, E> {
    a: Matrix<'s, F>,
    b: Matrix<'s, E>,
    at: usize,
    row: usize,
    /// Whether the sums begin with these lines.
    begin: bool,
}

impl<F: Float, E: Weight<F>> Part<'_, F, E> {
    /// Adds `D` lines to `R` rows.
    #[inline(always)]
    fn add<S: Simd<F>, const R: usize, const D: usize>(self, simd: S, out: &mut MatrixMut<'_, F>) {
        let Self { a, b, at, row, begin } = self;
        let n = b.cols();
        let mut factors = [[F::zero(); D]; R];
        let mut spread = [[simd.splat(F::zero()); D]; R];
        for (i, (factors, spread)) in factors.iter_mut().zip(&mut spread).enumerate() {
            for (l, (factor, spread)) in factors.iter_mut().zip(spread).enumerate() {
                *factor = a.at(row + i, at + l);
                *spread = simd.splat(*factor);
            }
        }
        let mut lines: [&[E]; D] = [&[]; D];
        for (l, line) in lines.iter_mut().enumerate() {
            *line = b.piece(at + l);
        }
        let mut sums: [&mut [F]; R] = out.rows_from(row);
        let whole = n - n % S::LANES;
        for j in (0..whole).step_by(S::LANES) {
            let mut acc = [simd.splat(F::zero()); R];
            if !begin {
                for (acc, sums) in acc.iter_mut().zip(&sums) {
                    *acc = simd.load(&sums[j..]);
                }
            }
            for l in 0..D {
                let line = E::load(simd, &lines[l][j..]);
                for (acc, spread) in acc.iter_mut().zip(&spread) {
                    *acc = simd.mul_add(spread[l], line, *acc);
                }
            }
            for (acc, sums) in acc.iter().zip(&mut sums) {
                simd.store(*acc, &mut sums[j..]);
            }
        }
        for j in whole..n {
            for (factors, sums) in factors.iter().zip(&mut sums) {
                let start = if begin { F::zero() } else { sums[j] };
                let terms = factors.iter().zip(&lines);
                sums[j] = terms.fold(start, |sum, (f, line)| simd.scalar_mul_add(*f, line[j].widen(), sum));
            }
        }
    }
}

/// The form for columns of the right matrix in one piece: the rows of `b`.
struct Dots<'s, 'o, F, E> {
    out: &'s mut MatrixMut<'o, F>,
    a: Matrix<'s, F>,
    b: Matrix<'s, E>,
    accumulate: bool,
}

impl<F: Float + Lane, E: Weight<F>> Work for Dots<'_, '_, F, E> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { out, a, b, accumulate } = self;
        let (rows, cols) = (out.rows(), out.cols());
        // One row takes eight columns, so that as many sums hide the latency of an addition.
        let wide = if rows == 1 { 8 } else { 4 };
        let mut col = 0;
        while col < cols {
            let many = if cols - col >= wide { wide } else { 1 };
            let mut row = 0;
            while row < rows {
                let left = (rows - row).min(ROWS);
                let at = (row, col, accumulate);
                match (left, many) {
                    (_, 8) => dots::<F, E, S, 1, 8>(simd, out, a, b, at),
                    (1, 4) => dots::<F, E, S, 1, 4>(simd, out, a, b, at),
                    (2, 4) => dots::<F, E, S, 2, 4>(simd, out, a, b, at),
                    (3, 4) => dots::<F, E, S, 3, 4>(simd, out, a, b, at),
                    (_, 4) => dots::<F, E, S, 4, 4>(simd, out, a, b, at),
                    (1, _) => dots::<F, E, S, 1, 1>(simd, out, a, b, at),
                    (2, _) => dots::<F, E, S, 2, 1>(simd, out, a, b, at),
                    (3, _) => dots::<F, E, S, 3, 1>(simd, out, a, b, at),
                    _ => dots::<F, E, S, 4, 1>(simd, out, a, b, at),
                }
                row += left;
            }
            col += many;
        }
    }
}

/// Most lanes of a vector.
const LANES: usize = 16;

/// `R` rows of `a` by `C` rows of `b`, from those that `at` names on.
#[inline(always)]
fn dots<F: Float, E: Weight<F>, S: Simd<F>, const R: usize, const C: usize>(
    simd: S,
    out: &mut MatrixMut<'_, F>,
    a: Matrix<'_, F>,
    b: Matrix<'_, E>,
    (row, col, accumulate): (usize, usize, bool),
) {
    let (mut x, mut w): ([&[F]; R], [&[E]; C]) = ([&[]; R], [&[]; C]);
    for (i, x) in x.iter_mut().enumerate() {
        *x = a.piece(row + i);
    }
    for (j, w) in w.iter_mut().enumerate() {
        *w = b.piece(col + j);
    }
    let depth = x[0].len();
    let whole = depth - depth % S::LANES;
    let mut acc = [[simd.splat(F::zero()); C]; R];
    for l in (0..whole).step_by(S::LANES) {
        let mut columns = [simd.splat(F::zero()); C];
        for (column, w) in columns.iter_mut().zip(&w) {
            *column = E::load(simd, &w[l..]);
        }
        for (acc, x) in acc.iter_mut().zip(&x) {
            let x = simd.load(&x[l..]);
            for (acc, column) in acc.iter_mut().zip(&columns) {
                *acc = simd.mul_add(x, *column, *acc);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        let y = &mut out.row(row + i)[col..col + C];
        for (j, (acc, y)) in acc.iter().zip(y).enumerate() {
            let mut parts = [F::zero(); LANES];
            simd.store(*acc, &mut parts);
            let mut width = LANES;
            while width > 1 {
                width /= 2;
                for l in 0..width {
                    parts[l] = parts[l].add(parts[l + width]);
                }
            }
            let rest = x[i][whole..].iter().zip(&w[j][whole..]);
            let sum = rest.fold(parts[0], |sum, (x, w)| simd.scalar_mul_add(*x, w.widen(), sum));
            *y = if accumulate { y.add(sum) } else { sum };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    /// Both forms, and the one element at a time, of every number of rows and of extents about vectors' edges.
    #[test]
    fn few_rows_match_a_triple_loop() {
        let mut g = Gen::new(11);
        for round in 0..600 {
            let (m, n, k) = (g.size(1, 16), g.size(0, 70), g.size(0, 70));
            let a: Vec<f32> = (0..m * k).map(|_| g.float(-1.0, 1.0) as f32).collect();
            let b: Vec<f32> = (0..n * k).map(|_| g.float(-1.0, 1.0) as f32).collect();
            let (across, accumulate) = (g.chance(0.5), g.chance(0.5));
            let a = Matrix::new(&a, (m, k), (k, 1)).expect("fits");
            let b =
                Matrix::new(&b, (k, n), if across { (n.max(1), 1) } else { (1, k.max(1)) }).expect("fits");
            let mut data = vec![1.0f32; m * n];
            let mut out = MatrixMut::new(&mut data, m, n).expect("fits");
            assert!(multiply_few(&mut out, a, b, accumulate), "round {round}");
            for i in 0..m {
                for j in 0..n {
                    let terms = (0..k).map(|l| f64::from(a.at(i, l)) * f64::from(b.at(l, j)));
                    let want = if accumulate { 1.0 } else { 0.0 } + terms.sum::<f64>();
                    let got = f64::from(data[i * n + j]);
                    assert!((got - want).abs() < 1e-5, "{m}x{k}x{n} ({i}, {j}): {got} instead of {want}");
                }
            }
        }
    }

    /// A block of columns gives what the whole gives, bit for bit.
    #[test]
    fn blocks_of_columns_change_nothing() {
        let mut g = Gen::new(12);
        for across in [true, false] {
            for m in [1, 3, 8] {
                let (n, k) = (83, 45);
                let a: Vec<f64> = (0..m * k).map(|_| g.float(-1.0, 1.0)).collect();
                let b: Vec<f64> = (0..n * k).map(|_| g.float(-1.0, 1.0)).collect();
                let a = Matrix::new(&a, (m, k), (k, 1)).expect("fits");
                let b = Matrix::new(&b, (k, n), if across { (n, 1) } else { (1, k) }).expect("fits");
                let product = |b: Matrix<'_, f64>| {
                    let mut data = vec![0.0; m * b.cols()];
                    let mut out = MatrixMut::new(&mut data, m, b.cols()).expect("fits");
                    assert!(multiply_few(&mut out, a, b, false));
                    data
                };
                let whole = product(b);
                for (from, to) in [(0, 1), (5, 29), (16, 83), (80, 83)] {
                    let part = product(b.block(0..k, from..to));
                    for i in 0..m {
                        assert_eq!(part[i * (to - from)..][..to - from], whole[i * n + from..i * n + to]);
                    }
                }
            }
        }
    }

    #[test]
    fn strides_of_neither_form_are_left_alone() {
        let data = [1.0f32; 64];
        let spread = Matrix::new(&data, (4, 4), (8, 2)).expect("fits");
        let plain = Matrix::new(&data, (4, 4), (4, 1)).expect("fits");
        let mut out = [0.0; 16];
        let mut out = MatrixMut::new(&mut out, 4, 4).expect("fits");
        assert!(!multiply_few(&mut out, plain, spread, false));
        // Products along columns want the left rows in one piece.
        assert!(!multiply_few(&mut out, plain.transposed(), plain.transposed(), false));
    }
}
