//! Constant right matrices of products in panels: `y = a · w` for `f32`, brought into the order in which it is read once.

use super::contraction::scratch_of;
use super::gemm::{Matrix, MatrixMut};
use super::panels::{
    GROUP, Panels, Product, RowsOf, Starts, Stored, next_group, sweep_wide, turned_elements, unit,
    wide_elements,
};
use super::simd::Level;
use crate::error::OpError;
use crate::memory::{Budget, Buffer};
use std::ops::Range;

/// Columns of a panel.
pub(super) const WIDTH: usize = 64;
/// Bytes read from a constant between two calls to let go of them.
const PIECE: usize = 1 << 20;
/// Elements of a row that are moved at once: a line of the caches.
const STRIP: usize = 16;

/// A matrix of `f32` in panels of [`WIDTH`] columns; the last one is filled with zeros.
#[derive(Debug)]
pub(crate) struct PanelMatrix {
    panels: Buffer,
    depth: usize,
    cols: usize,
    ordinary: unit::Ordinary,
}

/// Whether panels of `cols` columns hold few that are none.
pub(crate) fn suits(cols: usize) -> bool {
    cols > 0 && cols.next_multiple_of(WIDTH).saturating_mul(3) <= cols.saturating_mul(4)
}

/// Packs `bytes`, little-endian f32 at any address, `first` rows of `second` elements; with rows and columns exchanged if
/// `transposed`.
pub(crate) fn pack(
    bytes: &[u8],
    (first, second, transposed): (usize, usize, bool),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<PanelMatrix, OpError> {
    let (depth, cols) = if transposed { (second, first) } else { (first, second) };
    let count = cols.checked_next_multiple_of(WIDTH).and_then(|cols| cols.checked_mul(depth));
    let mut panels = Buffer::zeroed_for::<f32>(count.ok_or_else(|| budget.overflow())?, budget)?;
    let row_bytes = second * size_of::<f32>();
    if row_bytes == 0 {
        return Ok(PanelMatrix { panels, depth, cols, ordinary: unit::Ordinary::default() });
    }
    let to = panels.elements_mut::<f32>();
    let rows_of_piece = (PIECE / row_bytes).max(1);
    for (piece, bytes) in bytes.chunks(rows_of_piece * row_bytes).enumerate() {
        for (at, row) in bytes.chunks_exact(row_bytes).enumerate() {
            let at = piece * rows_of_piece + at;
            if transposed {
                write_column(row, &mut to[at / WIDTH * depth * WIDTH..][..depth * WIDTH], at % WIDTH);
            } else {
                for (panel, part) in row.chunks(WIDTH * size_of::<f32>()).enumerate() {
                    let line = &mut to[(panel * depth + at) * WIDTH..][..part.len() / size_of::<f32>()];
                    bytemuck::cast_slice_mut::<f32, u8>(line).copy_from_slice(part);
                }
            }
        }
        release(bytes);
    }
    Ok(PanelMatrix { panels, depth, cols, ordinary: unit::Ordinary::default() })
}

/// Writes `row` down column `column` of `panel`.
fn write_column(row: &[u8], panel: &mut [f32], column: usize) {
    let strips = panel.chunks_mut(STRIP * WIDTH).zip(row.chunks(STRIP * size_of::<f32>()));
    for (lines, part) in strips {
        let weights = part.chunks_exact(size_of::<f32>()).map(bytemuck::pod_read_unaligned::<f32>);
        lines.iter_mut().skip(column).step_by(WIDTH).zip(weights).for_each(|(to, weight)| *to = weight);
    }
}

impl PanelMatrix {
    /// Scratch bytes that [`PanelMatrix::product`] needs for a block of `rows` rows, whose elements lie in one piece or do
    /// not.
    pub(super) fn scratch(rows: usize, depth: usize, in_pieces: bool) -> usize {
        let elements = if in_pieces {
            wide_elements::<f32>(depth, (rows, rows))
        } else {
            turned_elements(depth, rows).saturating_add(rows.min(GROUP).saturating_mul(depth))
        };
        elements.saturating_mul(size_of::<f32>())
    }

    /// Panels `range`, and the depth of each.
    pub(super) fn panels(&self, range: Range<usize>) -> (&[f32], usize) {
        let each = self.depth * WIDTH;
        (&self.panels.elements::<f32>()[range.start * each..range.end * each], self.depth)
    }

    /// `out = a · w`, of columns `cols` of the matrix, the first of which begins a panel.
    pub(super) fn product(
        &self,
        out: &mut MatrixMut<'_, f32>,
        a: Matrix<'_, f32>,
        cols: Range<usize>,
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        if !cols.start.is_multiple_of(WIDTH) || cols.end > self.cols || a.cols() != self.depth {
            return Err(OpError::internal("a block of other extents than the panels have"));
        }
        let (rows, depth) = (out.rows(), self.depth);
        let in_pieces = a.strides().1 == 1 || depth <= 1;
        let copied = if in_pieces { 0 } else { rows.min(GROUP) * depth };
        let unit = self.ordinary.unit(self.panels.elements()).filter(|_| in_pieces);
        let together = unit.and_then(|_| unit::group_rows(depth, (rows, rows)));
        let scratch = scratch_of::<f32>(scratch, Self::scratch(rows, depth, in_pieces) / size_of::<f32>())?;
        let (copy, turned) = scratch.split_at_mut(copied);
        let range = cols.start / WIDTH..cols.end.div_ceil(WIDTH);
        let data = Stored::Own(self.panels(range.clone()).0);
        let panels = Panels { data, depth, count: range.len(), backwards: false };
        let mut from = 0;
        while from < rows {
            let many = together.map_or_else(|| next_group(rows - from), |most| most.min(rows - from));
            let mut a = a.block(from..from + many, 0..depth);
            if !in_pieces {
                for (i, row) in copy.chunks_exact_mut(depth).take(many).enumerate() {
                    row.iter_mut().enumerate().for_each(|(k, to)| *to = a.at(i, k));
                }
                a = Matrix::new(&*copy, (many, depth), (depth, 1))?;
            }
            let mut block = Block { a, out, from };
            let part = RowsOf { count: many, whole: rows, memory: &mut *turned };
            sweep_wide::<f32, WIDTH>((Level::detect(), unit), panels, part, Starts::Alike, &mut block);
            from += many;
        }
        Ok(())
    }
}

/// Some rows of a product.
struct Block<'s, 'o, 'm> {
    a: Matrix<'s, f32>,
    out: &'o mut MatrixMut<'m, f32>,
    /// The first row in `out`.
    from: usize,
}

impl Product<f32, WIDTH> for Block<'_, '_, '_> {
    fn operand(&self, row: usize) -> &[f32] {
        self.a.piece(row)
    }

    #[inline(always)]
    fn start(&self, _: usize, _: usize, sums: &mut [f32; WIDTH]) {
        sums.fill(0.0);
    }

    #[inline(always)]
    fn finish(&mut self, panel: usize, row: usize, sums: &mut [f32; WIDTH]) {
        let to = &mut self.out.row(self.from + row)[panel * WIDTH..];
        match to.first_chunk_mut() {
            Some(to) => *to = *sums,
            None => to.copy_from_slice(&sums[..to.len()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Gen;

    #[test]
    fn products_with_panels_are_those_of_the_matrix() {
        let budget = Budget::unlimited();
        let mut g = Gen::new(5);
        for seed in 0..120 {
            let (rows, depth, cols) = (g.size(1, 240), g.size(0, 300), g.size(1, 200));
            let (transposed, turned) = (g.chance(0.5), g.chance(0.3));
            let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| g.float(-1.0, 1.0) as f32).collect() };
            let (mut a, mut w) = (draw(rows * depth), draw(depth * cols));
            // What the matrix unit may not be given.
            if seed % 4 == 0 {
                let values = if seed % 8 == 0 { &mut a } else { &mut w };
                values.iter_mut().take(1).for_each(|value| *value = 1e20);
            }
            let form = if transposed { (cols, depth, true) } else { (depth, cols, false) };
            let packed = pack(bytemuck::cast_slice(&w), form, &budget, &|_| ());
            let packed = packed.expect("room");
            let a =
                Matrix::new(&a, (rows, depth), if turned { (1, rows) } else { (depth, 1) }).expect("fits");
            let w_at = |k: usize, j: usize| if transposed { w[j * depth + k] } else { w[k * cols + j] };
            let first = g.size(0, (cols - 1) / WIDTH) * WIDTH;
            let mut out = vec![f32::NAN; rows * (cols - first)];
            let bytes = PanelMatrix::scratch(rows, depth, !turned);
            let mut scratch = vec![f32::NAN; bytes / 4];
            let mut to = MatrixMut::new(&mut out, rows, cols - first).expect("fits");
            packed.product(&mut to, a, first..cols, bytemuck::cast_slice_mut(&mut scratch)).expect("runs");
            for (at, got) in out.iter().enumerate() {
                let (i, j) = (at / (cols - first), first + at % (cols - first));
                let terms = || (0..depth).map(|k| f64::from(a.at(i, k)) * f64::from(w_at(k, j)));
                let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
                let bound = (depth + 1) as f64 * f64::from(f32::EPSILON) * size;
                assert!((f64::from(*got) - sum).abs() <= bound, "seed {seed}, ({i}, {j}): {got} for {sum}");
            }
        }
    }
}
