//! Panels of `f32` by many rows on the matrix unit ([`crate::cpu::amx`]).
//!
//! Rows are taken apart once for all panels. A panel is taken apart beside the products of the first rows, those of two
//! tiles, with it; the others find it in the second cache. A row's sums do not depend on the rows beside it.

use super::{Factored, Product, Starts};
use crate::cpu::amx::{
    self, Columns, DEPTH, Line, PARTS, Place, SIDE, Session, Start, Unit, lines_of, tile_lines,
};
use crate::cpu::number::Float;
use crate::cpu::simd::{Lane, fetch};
use crate::cpu::stored::same;
use std::ops::Range;
use std::slice::Chunks;
use std::sync::OnceLock;

/// Rows from which on the unit is worth while: a tile is as long with fewer, and so is taking weights apart.
const LEAST: usize = 24;
/// Terms of all rows from which on it is.
const LEAST_TERMS: usize = 8192;
/// Terms from which on it is: fewer fill no line of a tile, or leave most time to what begins and ends a product.
const LEAST_DEPTH: usize = 64;
/// Rows of two tiles.
const TILES: usize = 2 * SIDE;
/// Bytes of the rows that are multiplied at once: with a panel they stay in the second cache.
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
pub(crate) fn least_rows(depth: usize) -> usize {
    LEAST_TERMS.div_ceil(depth.max(1)).max(LEAST)
}

/// Of `rows` rows of `depth` terms those that are multiplied at once, so that all groups are of nearly equal size; `None`
/// where the unit is not worth while.
pub(crate) fn group_rows(depth: usize, rows: usize) -> Option<usize> {
    let most = most_rows(depth).filter(|_| rows >= least_rows(depth))?;
    Some(rows.div_ceil(rows.div_ceil(most)))
}

/// Blocks of terms.
fn blocks(depth: usize) -> usize {
    depth.div_ceil(DEPTH)
}

/// Lines of `rows` rows.
fn row_lines(depth: usize, rows: usize) -> usize {
    rows.next_multiple_of(TILES).saturating_mul(PARTS).saturating_mul(blocks(depth))
}

/// Lines of a panel of `width` columns by `rows` rows: where those are of two tiles at most, nobody needs all of it.
fn panel_lines(depth: usize, rows: usize, width: usize) -> usize {
    if rows <= TILES {
        2 * tile_lines(2)
    } else {
        blocks(depth).saturating_mul(tile_lines(width.div_ceil(SIDE)))
    }
}

/// Lines of the places of blocks.
fn start_lines(depth: usize) -> usize {
    blocks(depth).saturating_mul(size_of::<usize>()).div_ceil(size_of::<Line>())
}

/// Bytes of memory for products of at most `rows` rows with panels of `width` columns.
pub(crate) fn memory_bytes(depth: usize, rows: usize, width: usize) -> usize {
    let Some(most) = most_rows(depth).filter(|_| rows >= least_rows(depth)) else { return 0 };
    let rows = rows.min(most);
    let lines = row_lines(depth, rows).saturating_add(panel_lines(depth, rows, width));
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

/// Takes the rows `rows` apart. Those of two tiles lie together, `pair` lines: for each 32 terms, for each part, theirs.
fn split_rows<F: Float, const W: usize>(
    unit: Unit,
    rows: Range<usize>,
    (to, pair): (&mut [Line], usize),
    product: &impl Product<F, W>,
) -> bool {
    rows.enumerate().all(|(at, row)| {
        let terms = same::<F, f32>(product.operand(row));
        terms.is_some_and(|terms| split_row(unit, terms, &mut to[at / TILES * pair + at % TILES..]))
    })
}

/// The columns of a panel of `width` that are multiplied at once: the first, and how many groups of 16.
fn columns(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).step_by(2 * SIDE).map(move |first| (first, ((width - first) / SIDE).min(2)))
}

/// Multiplies the rows `rows`, as many as [`group_rows`] says, with `panels`, which the unit may multiply; `memory` is
/// [`memory_bytes`], and sums start as `begin` says. Gives `false`, with nothing done, where a row holds a value that is no
/// ordinary number.
pub(super) fn sweep<F: Float + Lane, const W: usize>(
    unit: Unit,
    panels: &Factored<'_, F, F>,
    (rows, memory): (Range<usize>, &mut [F]),
    begin: Starts,
    product: &mut impl Product<F, W>,
) -> bool {
    let (depth, blocks) = (panels.depth, blocks(panels.depth));
    let Some(data) = same::<F, f32>(panels.panels) else { return false };
    let lines = lines_of(memory);
    let (own, all) = (row_lines(depth, rows.len()), panel_lines(depth, rows.len(), W));
    let Some((left, rest)) = lines.split_at_mut_checked(own) else { return false };
    let Some((made, starts)) = rest.split_at_mut_checked(all) else { return false };
    let Some(starts) = starts.get_mut(..start_lines(depth)) else { return false };
    let starts = &mut bytemuck::cast_slice_mut::<Line, usize>(starts)[..blocks];
    let pair = PARTS * TILES * blocks;
    starts.iter_mut().enumerate().for_each(|(block, start)| *start = block * PARTS * TILES);
    if !split_rows::<F, W>(unit, rows.clone(), (left, pair), product) {
        return false;
    }
    let (left, starts, mut session) = (&*left, &*starts, unit.session());
    for turn in 0..panels.count {
        let index = panels.index(turn);
        let next = (turn + 1 < panels.count).then(|| panels.index(turn + 1));
        let panel_of = |index: usize| data[index * depth * W..(index + 1) * depth * W].as_chunks::<W>().0;
        let each = depth.div_ceil(rows.len().div_ceil(TILES)).max(1);
        let part = each.div_ceil(columns(W).count()).max(1);
        let mut ahead = next.map_or(&[][..], panel_of).chunks(each);
        let mut same_start = [F::zero(); W];
        product.start(index, rows.start, &mut same_start);
        for (turn, first) in rows.clone().step_by(TILES).enumerate() {
            let rows = first..rows.end.min(first + TILES);
            let mut sums = [[[0.0f32; SIDE]; TILES]; GROUPS];
            if begin == Starts::Own {
                for (at, row) in rows.clone().enumerate() {
                    let mut start = [F::zero(); W];
                    product.start(index, row, &mut start);
                    sums.iter_mut().zip(groups_of(&mut start)).for_each(|(sums, start)| sums[at] = *start);
                }
                if let Some(next) = next {
                    rows.clone().for_each(|row| product.fetch(next, row));
                }
            }
            let start = match begin {
                Starts::Alike => Start::Same(groups_of(&mut same_start)),
                Starts::Own => Start::Own,
            };
            let mut pass = Pass {
                session: &mut session,
                place: Place { lines: left, first: turn * pair, starts, plane: TILES },
                many: rows.len(),
                panel: (turn == 0).then(|| panel_of(index)),
                ahead: ahead.next().unwrap_or_default().chunks(part),
            };
            pass.columns(&mut *made, start, &mut sums);
            for (at, row) in rows.enumerate() {
                let mut end = [F::zero(); W];
                groups_of(&mut end).iter_mut().zip(&sums).for_each(|(to, sums)| *to = sums[at]);
                panels.finish(index, row, &mut end, product);
            }
        }
    }
    true
}

/// A row of a panel's sums, by groups of columns.
fn groups_of<F: Float, const W: usize>(row: &mut [F; W]) -> &mut [[f32; SIDE]] {
    bytemuck::cast_slice_mut::<F, f32>(row).as_chunks_mut().0
}

/// The rows of two tiles by a panel.
struct Pass<'s, 'l, const W: usize> {
    session: &'s mut Session,
    place: Place<'l>,
    many: usize,
    /// The panel, where it is taken apart now.
    panel: Option<&'s [[f32; W]]>,
    /// What is read after it, a part for each two groups of columns.
    ahead: Chunks<'s, [f32; W]>,
}

impl<const W: usize> Pass<'_, '_, W> {
    /// `made` holds the panel's tiles, or has room for those of two blocks.
    fn columns(
        &mut self,
        mut made: &mut [Line],
        start: Start<'_>,
        sums: &mut [[[f32; SIDE]; TILES]; GROUPS],
    ) {
        let blocks = self.place.starts.len();
        let all = made.len() >= blocks * tile_lines(W / SIDE);
        for (sums, (first, groups)) in sums.chunks_mut(2).zip(columns(W)) {
            let start = match start {
                Start::Same(start) => Start::Same(&start[first / SIDE..]),
                Start::Own => Start::Own,
            };
            let own = if all {
                let (own, rest) = std::mem::take(&mut made).split_at_mut(blocks * tile_lines(groups));
                made = rest;
                own
            } else {
                &mut *made
            };
            match sums {
                [one, two] if groups == 2 => self.tiles(first, own, start, [one, two]),
                [one, ..] => self.tiles(first, own, start, [one]),
                [] => {}
            }
        }
    }

    /// One group of columns or two.
    fn tiles<const N: usize>(
        &mut self,
        first: usize,
        made: &mut [Line],
        start: Start<'_>,
        sums: [&mut [[f32; SIDE]; TILES]; N],
    ) {
        let (place, sums) = (self.place, (sums.map(|sums| sums.as_flattened_mut()), SIDE));
        let ahead = self.ahead.next().unwrap_or_default();
        let Some(lines) = self.panel else {
            fetch(bytemuck::cast_slice(ahead.as_flattened()));
            return if self.many > SIDE {
                self.session.product::<2, N>(place, made, start, sums);
            } else {
                self.session.product::<1, N>(place, made, start, sums);
            };
        };
        let columns = Columns { lines, first, ahead };
        if self.many > SIDE {
            self.session.product_apart::<2, N, W>(place, columns, made, start, sums);
        } else {
            self.session.product_apart::<1, N, W>(place, columns, made, start, sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Panels, Stored, sweep_wide, wide_elements};
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
        let mut memory = vec![f32::NAN; wide_elements::<f32>((depth, W), rows)];
        let panels = Panels { data: Stored::Own(&weights), depth, count, backwards: seed % 2 == 1 };
        let on = (Level::detect(), Unit::detect());
        sweep_wide::<f32, W>(on, panels, (rows, &mut memory), Starts::Own, &mut product);
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
        on.1.is_some() && group_rows(depth, rows).is_some() && !odd
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
