//! Panels of `f32` by many rows on the matrix unit ([`crate::cpu::amx`]).
//!
//! Rows are taken apart once for all panels, and panels beside the products with them: for the rows of two tiles column by
//! column ([`single`]), for more of them chunk by chunk ([`chunks`]). A row's sums do not depend on the rows beside it.

mod chunks;
mod single;

use super::{Factored, Product, Starts};
use crate::cpu::amx::{self, DEPTH, Line, PARTS, Place, SIDE, Unit, lines_of};
use crate::cpu::number::Float;
use crate::cpu::simd::Lane;
use crate::cpu::stored::same;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows from which on the unit is worth while: a tile is as long with fewer, and so is taking weights apart.
const LEAST: usize = 24;
/// Terms of all rows from which on it is.
const LEAST_TERMS: usize = 8192;
/// Terms from which on it is: fewer fill no line of a tile, or leave most time to what begins and ends a product.
const LEAST_DEPTH: usize = 64;
/// Rows of two tiles.
const TILES: usize = 2 * SIDE;
/// Bytes of the rows that are multiplied at once: with what is asked for ahead they stay in the second cache.
const GROUP_BYTES: usize = 5 << 18;
/// Rows that are multiplied at once at most.
const MOST: usize = 256;
/// Groups of 16 columns of the widest panel.
const GROUPS: usize = 4;

/// Whether the parts of floats stand for all of some weights, which is found out when it is first asked.
#[derive(Debug, Default)]
pub(crate) struct Ordinary(OnceLock<bool>);

impl Ordinary {
    /// The unit, where it may multiply `weights`, the same ones each time.
    pub(crate) fn unit(&self, weights: &[f32]) -> Option<Unit> {
        Unit::detect().filter(|unit| *self.0.get_or_init(|| unit.stand_for(weights)))
    }
}

/// Rows of `depth` terms that are multiplied at once at most; `None` where the unit is not there, terms are few, or those of
/// two tiles would not stay in the second cache.
fn most_rows(depth: usize) -> Option<usize> {
    let most = GROUP_BYTES / (PARTS * size_of::<u16>() * depth.max(1)) / TILES * TILES;
    Unit::detect().map(|_| most.min(MOST)).filter(|most| *most > 0 && depth >= LEAST_DEPTH)
}

/// Rows of `depth` terms from which on the unit is worth while.
fn least_rows(depth: usize) -> usize {
    LEAST_TERMS.div_ceil(depth.max(1)).max(LEAST)
}

/// Of `rows` rows of `depth` terms those that are multiplied at once, so that all groups are of nearly equal size; `None`
/// where the unit is not worth while for the product of `whole` rows that they are of.
pub(crate) fn group_rows(depth: usize, (rows, whole): (usize, usize)) -> Option<usize> {
    let most = most_rows(depth).filter(|_| whole >= least_rows(depth))?;
    Some(rows.div_ceil(rows.div_ceil(most).max(1)))
}

/// Blocks of terms.
fn blocks(depth: usize) -> usize {
    depth.div_ceil(DEPTH)
}

/// Lines of `rows` rows.
fn row_lines(depth: usize, rows: usize) -> usize {
    rows.next_multiple_of(TILES).saturating_mul(PARTS).saturating_mul(blocks(depth))
}

/// Lines of tiles and sums for products of `rows` rows.
fn own_lines(rows: usize) -> usize {
    if rows <= TILES { single::LINES } else { chunks::lines(rows) }
}

/// Lines of the places of blocks.
fn start_lines(depth: usize) -> usize {
    blocks(depth).saturating_mul(size_of::<usize>()).div_ceil(size_of::<Line>())
}

/// Bytes of memory for at most `rows` rows of products of at most `whole`.
pub(crate) fn memory_bytes(depth: usize, (rows, whole): (usize, usize)) -> usize {
    let Some(most) = most_rows(depth).filter(|_| whole >= least_rows(depth)) else { return 0 };
    let rows = rows.min(most);
    let lines = row_lines(depth, rows).saturating_add(own_lines(rows));
    amx::bytes_of(lines.saturating_add(start_lines(depth)))
}

/// Takes `row` apart: `to[b · step + p · TILES]` becomes part `p` of the terms from `32 · b` on.
fn split_row(unit: Unit, row: &[f32], to: &mut [Line]) -> bool {
    let mut ordinary = true;
    for (terms, to) in row.chunks(DEPTH).zip(to.chunks_mut(PARTS * TILES)) {
        let mut last = [0.0; DEPTH];
        let terms = terms.first_chunk().unwrap_or_else(|| {
            last[..terms.len()].copy_from_slice(terms);
            &last
        });
        let ([low, high], _) = terms.as_chunks::<SIDE>() else { return false };
        let (first, rest) = to.split_at_mut(TILES);
        let (second, third) = rest.split_at_mut(TILES);
        ordinary &= unit.split_line([low, high], [&mut first[0], &mut second[0], &mut third[0]]);
    }
    ordinary
}

/// Rows that are left to other instructions, since parts do not stand for all of their values, in ascending order.
pub(super) struct Left {
    rows: [usize; MOST],
    count: usize,
}

impl Left {
    /// Those of `rows` for which it is so.
    fn of(rows: Range<usize>, mut left: impl FnMut(usize) -> bool) -> Self {
        let mut found = Self { rows: [0; MOST], count: 0 };
        for (row, to) in rows.filter(|row| left(*row)).zip(0..MOST) {
            found.rows[to] = row;
            found.count = to + 1;
        }
        found
    }

    pub(super) fn rows(&self) -> &[usize] {
        &self.rows[..self.count]
    }

    fn has(&self, row: usize) -> bool {
        self.count > 0 && self.rows().binary_search(&row).is_ok()
    }
}

/// Takes the rows `rows` apart. Those of two tiles lie together, `pair` lines: for each 32 terms, for each part, theirs.
fn split_rows<F: Float, const W: usize>(
    unit: Unit,
    rows: Range<usize>,
    (to, pair): (&mut [Line], usize),
    product: &impl Product<F, W>,
) -> Left {
    let first = rows.start;
    Left::of(rows, |row| {
        let (at, terms) = (row - first, same::<F, f32>(product.operand(row)));
        !terms.is_some_and(|terms| split_row(unit, terms, &mut to[at / TILES * pair + at % TILES..]))
    })
}

/// Rows that are taken apart.
#[derive(Clone, Copy)]
struct Rows<'s> {
    lines: &'s [Line],
    /// For each block, where it lies among the lines of two tiles.
    starts: &'s [usize],
    count: usize,
    /// Those whose sums are not taken.
    left: &'s Left,
}

impl<'s> Rows<'s> {
    /// The rows of two tiles, those of `turn`, and `blocks` of their terms.
    fn place(&self, turn: usize, blocks: Range<usize>) -> Place<'s> {
        let first = turn * PARTS * TILES * self.starts.len();
        Place { lines: self.lines, first, starts: &self.starts[blocks], plane: TILES }
    }
}

/// Multiplies the rows `rows`, as many as [`group_rows`] says, with `panels`, which the unit may multiply; `memory` is
/// [`memory_bytes`], and sums start as `begin` says. Gives the rows with values that are no ordinary numbers, with which
/// nothing was done.
pub(super) fn sweep<F: Float + Lane, const W: usize>(
    unit: Unit,
    panels: &Factored<'_, F, F>,
    (rows, memory): (Range<usize>, &mut [F]),
    begin: Starts,
    product: &mut impl Product<F, W>,
) -> Left {
    let depth = panels.depth;
    let Some(data) = same::<F, f32>(panels.panels) else { return Left::of(rows, |_| true) };
    let lines = lines_of(memory);
    let of = [row_lines(depth, rows.len()), own_lines(rows.len()), start_lines(depth)];
    let Some([left, own, starts]) = cut(lines, of) else { return Left::of(rows, |_| true) };
    let starts = &mut bytemuck::cast_slice_mut::<Line, usize>(starts)[..blocks(depth)];
    starts.iter_mut().enumerate().for_each(|(block, start)| *start = block * PARTS * TILES);
    let odd = split_rows::<F, W>(unit, rows.clone(), (left, PARTS * TILES * blocks(depth)), product);
    if odd.count == rows.len() {
        return odd;
    }
    let split = Rows { lines: left, starts, count: rows.len(), left: &odd };
    let matrix = Matrix { panels, data };
    if rows.len() <= TILES {
        single::sweep(unit, split, &matrix, own, (rows, begin), product);
    } else {
        chunks::sweep(unit, split, &matrix, own, (rows, begin), product);
    }
    odd
}

/// The first lines, as many as `counts` says; `None` where there are fewer.
fn cut<const N: usize>(mut lines: &mut [Line], counts: [usize; N]) -> Option<[&mut [Line]; N]> {
    let mut parts = [(); N].map(|()| Default::default());
    for (part, count) in parts.iter_mut().zip(counts) {
        (*part, lines) = std::mem::take(&mut lines).split_at_mut_checked(count)?;
    }
    Some(parts)
}

/// Panels of `f32`.
struct Matrix<'s, 'p, F> {
    panels: &'s Factored<'p, F, F>,
    data: &'s [f32],
}

impl<F: Float + Lane> Matrix<'_, '_, F> {
    /// The lines of the panel whose turn is `turn`; none behind the last one.
    fn panel<const W: usize>(&self, turn: usize) -> &[[f32; W]] {
        if turn >= self.panels.count {
            return &[];
        }
        let size = self.panels.depth * W;
        self.data[self.panels.index(turn) * size..][..size].as_chunks().0
    }
}

/// A row of a panel's sums, by groups of columns.
fn groups_of<F: Float, const W: usize>(row: &mut [F; W]) -> &mut [[f32; SIDE]] {
    bytemuck::cast_slice_mut::<F, f32>(row).as_chunks_mut().0
}

#[cfg(test)]
mod tests {
    use super::super::{Chosen, Panels, RowsOf, Stored, sweep_wide, wide_elements};
    use super::*;
    use crate::cpu::simd::Level;
    use crate::testing::Gen;

    /// Every row with starts of its own, and what its sums became.
    struct Drawn {
        depth: usize,
        panels: usize,
        rows: Vec<f32>,
        starts: Vec<f32>,
        sums: Vec<f32>,
    }

    impl<const W: usize> Product<f32, W> for Drawn {
        fn operand(&self, row: usize) -> &[f32] {
            &self.rows[row * self.depth..][..self.depth]
        }

        fn start(&self, panel: usize, row: usize, sums: &mut [f32; W]) {
            *sums = self.starts.as_chunks().0[row * self.panels + panel];
        }

        fn finish(&mut self, panel: usize, row: usize, sums: &mut [f32; W]) {
            self.sums.as_chunks_mut().0[row * self.panels + panel] = *sums;
        }
    }

    /// Whether the unit had part in it.
    fn check<const W: usize>(seed: u64) -> bool {
        let g = &mut Gen::new(seed);
        let (rows, depth, count) = (g.size(1, 150), g.size(0, 400), g.size(1, 4));
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| g.float(-1.0, 1.0) as f32).collect() };
        let (mut operand, weights, starts) =
            (draw(rows * depth), draw(depth * count * W), draw(rows * count * W));
        // What the unit may not be given.
        let odd = seed.is_multiple_of(3);
        operand.iter_mut().skip(depth / 2).take(usize::from(odd)).for_each(|value| *value = 1e20);
        let sums = vec![f32::NAN; starts.len()];
        let mut product = Drawn { depth, panels: count, rows: operand, starts, sums };
        let mut memory = vec![f32::NAN; wide_elements::<f32>(depth, (rows, rows))];
        let panels = Panels { data: Stored::Own(&weights), depth, count, backwards: seed % 2 == 1 };
        let on = (Level::detect(), Unit::detect());
        let all = RowsOf { count: rows, whole: rows, memory: &mut memory };
        sweep_wide::<f32, W>(on, panels, all, Starts::Own, &mut product);
        for (at, got) in product.sums.iter().enumerate() {
            let (row, panel, column) = (at / (count * W), at / W % count, at % W);
            let terms = || {
                (0..depth).map(|k| {
                    let weight = weights[(panel * depth + k) * W + column];
                    f64::from(product.rows[row * depth + k]) * f64::from(weight)
                })
            };
            let start = f64::from(product.starts[at]);
            let (sum, size) =
                (start + terms().sum::<f64>(), start.abs() + terms().map(f64::abs).sum::<f64>());
            let bound = (depth + 1) as f64 * f64::from(f32::EPSILON) * size;
            assert!(
                (f64::from(*got) - sum).abs() <= bound,
                "{seed}: row {row}, {panel}, {column}: {got} for {sum}"
            );
        }
        // Parts of the rows have the same sums.
        let whole: Vec<u32> = product.sums.iter().map(|sum| sum.to_bits()).collect();
        product.sums.fill(f32::NAN);
        let all: Vec<usize> = (0..rows).collect();
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(g.size(1, rest.len().min(50)));
            let count = part.len();
            let mut memory = vec![f32::NAN; wide_elements::<f32>(depth, (count, rows))];
            let of = RowsOf { count, whole: rows, memory: &mut memory };
            sweep_wide::<f32, W>(
                on,
                panels,
                of,
                Starts::Own,
                &mut Chosen { product: &mut product, rows: part },
            );
            rest = behind;
        }
        let parts: Vec<u32> = product.sums.iter().map(|sum| sum.to_bits()).collect();
        assert!(parts == whole, "{seed}: parts of {rows} rows of {depth} terms");
        on.1.is_some() && group_rows(depth, (rows, rows)).is_some() && !odd
    }

    #[test]
    fn sums_that_start_from_their_own_are_those_of_the_matrix() {
        let on_unit = (0..60).filter(|&seed| check::<64>(seed) & check::<48>(seed)).count();
        assert!(on_unit > 20 || Unit::detect().is_none(), "{on_unit} of 60");
    }

    #[test]
    fn weights_that_are_no_ordinary_numbers_are_not_for_the_unit() {
        for value in [f32::NAN, f32::INFINITY, -1.2e18, f32::from_bits(0x7fff_ffff)] {
            let mut weights = vec![0.5; 100];
            weights[97] = value;
            assert!(Ordinary::default().unit(&weights).is_none(), "{value}");
        }
        assert_eq!(Ordinary::default().unit(&[1.1e18, -0.0]).is_some(), Unit::detect().is_some());
    }
}
