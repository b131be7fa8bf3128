//! Panels of `f32` by many rows on the matrix unit ([`crate::cpu::amx`]).
//!
//! Rows are taken apart once for all panels, a panel once for all rows, into memory that stays in the second cache. A
//! row's sums do not depend on the rows beside it, as long as all of them are ordinary numbers.

use super::{Factored, Product, begin};
use crate::cpu::amx::{self, DEPTH, Line, PARTS, Place, SIDE, Session, Unit, lines_of, tile_lines};
use crate::cpu::number::Float;
use crate::cpu::simd::{Lane, Level, Simd, Work, fetch};
use crate::cpu::stored::{Weight, same};

/// Rows from which on the unit is worth while: with fewer, taking weights apart is most of the work.
pub(crate) const LEAST: usize = 96;
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

/// Rows of `depth` terms that are multiplied at once at most; `None` where the unit is not there, terms are few, or those of
/// rows enough would not stay in the second cache.
fn most_rows(depth: usize) -> Option<usize> {
    let most = GROUP_BYTES / (PARTS * size_of::<u16>() * depth.max(1)) / TILES * TILES;
    Unit::detect().map(|_| most.min(MOST)).filter(|most| *most >= LEAST && depth >= LEAST_DEPTH)
}

/// Of `rows` rows of `depth` terms those that are multiplied at once, so that all groups are of nearly equal size; `None`
/// where the unit is not worth while.
pub(crate) fn group_rows(depth: usize, rows: usize) -> Option<usize> {
    let most = most_rows(depth).filter(|_| rows >= LEAST)?;
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

/// Lines of a panel of `width` columns.
fn panel_lines(depth: usize, width: usize) -> usize {
    blocks(depth).saturating_mul(tile_lines(width.div_ceil(SIDE)))
}

/// Lines of the places of blocks.
fn start_lines(depth: usize) -> usize {
    blocks(depth).saturating_mul(size_of::<usize>()).div_ceil(size_of::<Line>())
}

/// Bytes of memory for products of at most `rows` rows with panels of `width` columns.
pub(crate) fn memory_bytes(depth: usize, rows: usize, width: usize) -> usize {
    let Some(most) = most_rows(depth).filter(|_| rows >= LEAST) else { return 0 };
    let lines = row_lines(depth, rows.min(most)).saturating_add(panel_lines(depth, width));
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

/// Takes a panel of `W` columns apart: for each 32 columns, and those that are left, for each 32 lines their tiles.
fn split_panel<const W: usize>(unit: Unit, panel: &[f32], mut to: &mut [Line]) -> bool {
    let (lines, mut ordinary) = (panel.as_chunks::<W>().0, true);
    for (first, groups) in columns(W) {
        let own = blocks(lines.len()) * tile_lines(groups);
        let Some((part, rest)) = std::mem::take(&mut to).split_at_mut_checked(own) else { return false };
        to = rest;
        for (lines, to) in lines.chunks(DEPTH).zip(part.chunks_exact_mut(tile_lines(groups))) {
            let (low, high) = lines.split_at(SIDE.min(lines.len()));
            ordinary &= unit.split_columns([low, high], (first, groups), to);
        }
    }
    ordinary
}

/// The columns of a panel of `width` that are multiplied at once: the first, and how many groups of 16.
fn columns(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).step_by(2 * SIDE).map(move |first| (first, ((width - first) / SIDE).min(2)))
}

/// Multiplies the `rows` rows from `first` on, whose sums all start from the same, with `panels`; `memory` is
/// [`memory_bytes`]. Gives `false`, with nothing done, where a row holds a value that is no ordinary number or the type is
/// another one.
pub(super) fn sweep<F: Float + Lane, E: Weight<F>, const W: usize>(
    (unit, level): (Unit, Level),
    panels: &Factored<'_, F, E>,
    (first, rows): (usize, usize),
    memory: &mut [F],
    product: &mut impl Product<F, W>,
) -> bool {
    let (depth, blocks) = (panels.depth, blocks(panels.depth));
    let Some(data) = same::<E, f32>(panels.panels) else { return false };
    let lines = lines_of(memory);
    let (own, all) = (row_lines(depth, rows), panel_lines(depth, W));
    let Some((left, rest)) = lines.split_at_mut_checked(own) else { return false };
    let Some((right, starts)) = rest.split_at_mut_checked(all) else { return false };
    let Some(starts) = starts.get_mut(..start_lines(depth)) else { return false };
    let starts = &mut bytemuck::cast_slice_mut::<Line, usize>(starts)[..blocks];
    // The rows of two tiles lie together: for each 32 terms, for each part, theirs.
    let (pair, tile) = (PARTS * TILES * blocks, PARTS * TILES);
    starts.iter_mut().enumerate().for_each(|(block, start)| *start = block * tile);
    for row in 0..rows {
        let Some(terms) = same::<F, f32>(product.operand(first + row)) else { return false };
        if !split_row(unit, terms, &mut left[row / TILES * pair + row % TILES..]) {
            return false;
        }
    }
    let (left, starts) = (&*left, &*starts);
    let mut session = unit.session();
    for turn in 0..panels.count {
        let index = panels.index(turn);
        let panel = &data[index * depth * W..(index + 1) * depth * W];
        if !split_panel::<W>(unit, panel, right) {
            for row in first..first + rows {
                by_terms::<F, E, W>(level, panels, (index, row), product);
            }
            continue;
        }
        let mut start = [F::zero(); W];
        begin::<F, E, W>(product, (index, first), &mut start);
        let start = bytemuck::cast_slice::<F, f32>(&start).as_chunks::<SIDE>().0;
        let next = (turn + 1 < panels.count).then(|| panels.index(turn + 1) * depth * W);
        let next = next.map_or(&[][..], |next| &data[next..next + depth * W]);
        let mut ahead = next.chunks(next.len().div_ceil(rows.div_ceil(TILES)).max(1));
        for row in (0..rows).step_by(TILES) {
            fetch(bytemuck::cast_slice(ahead.next().unwrap_or_default()));
            let many = TILES.min(rows - row);
            let place = Place { lines: left, first: row / TILES * pair, starts, plane: TILES };
            let mut sums = [[[0.0f32; SIDE]; TILES]; GROUPS];
            let mut right = &*right;
            for (sums, (first, groups)) in sums.chunks_mut(2).zip(columns(W)) {
                let part = right.split_off(..blocks * tile_lines(groups)).unwrap_or_default();
                let start = &start[first / SIDE..];
                match sums {
                    [one, two] if groups == 2 => tiles(&mut session, place, (part, start), [one, two], many),
                    [one, ..] => tiles(&mut session, place, (part, start), [one], many),
                    [] => {}
                }
            }
            for at in 0..many {
                let mut end = [F::zero(); W];
                let to = bytemuck::cast_slice_mut::<F, f32>(&mut end).as_chunks_mut::<SIDE>().0;
                for (sums, to) in sums.iter().zip(to) {
                    *to = sums[at];
                }
                panels.finish(index, first + row + at, &mut end, product);
            }
        }
    }
    true
}

/// The sums of `many` rows, those of two tiles at most.
fn tiles<const N: usize>(
    session: &mut Session,
    place: Place<'_>,
    (right, start): (&[Line], &[[f32; SIDE]]),
    sums: [&mut [[f32; SIDE]; TILES]; N],
    many: usize,
) {
    let sums = sums.map(|sums| sums.as_flattened_mut());
    if many > SIDE {
        session.product::<2, N>(place, right, start, (sums, SIDE));
    } else {
        session.product::<1, N>(place, right, start, (sums, SIDE));
    }
}

/// A row by a panel, by multiply–adds.
fn by_terms<F: Float + Lane, E: Weight<F>, const W: usize>(
    level: Level,
    panels: &Factored<'_, F, E>,
    (index, row): (usize, usize),
    product: &mut impl Product<F, W>,
) {
    let mut sums = [F::zero(); W];
    begin::<F, E, W>(product, (index, row), &mut sums);
    let panel = panels.lines::<W>(index, 0..panels.depth);
    F::run(level, ByTerms { panel, operand: product.operand(row), sums: &mut sums });
    panels.finish(index, row, &mut sums, product);
}

struct ByTerms<'s, F, E, const W: usize> {
    panel: &'s [E],
    operand: &'s [F],
    sums: &'s mut [F; W],
}

impl<F: Float + Lane, E: Weight<F>, const W: usize> Work for ByTerms<'_, F, E, W> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        for at in (0..W).step_by(S::LANES) {
            let mut sum = simd.load(&self.sums[at..]);
            for (line, &x) in self.panel.as_chunks::<W>().0.iter().zip(self.operand) {
                sum = simd.mul_add(simd.splat(x), E::load(simd, &line[at..]), sum);
            }
            simd.store(sum, &mut self.sums[at..]);
        }
    }
}
