//! The rows of two tiles by panels: 32 columns after 32, each taken apart while the products of what was taken apart before
//! are computed, whose sums stay in tiles until they are whole.

use super::{GROUPS, Matrix, Rows, Starts, TILES, groups_of};
use crate::cpu::amx::{Ahead, Columns, Line, SIDE, Start, Unit, tile_lines};
use crate::cpu::number::Float;
use crate::cpu::panels::Product;
use crate::cpu::simd::Lane;
use std::ops::Range;

/// Lines of the tiles of two blocks.
pub(super) const LINES: usize = 2 * tile_lines(2);

/// Multiplies `rows` with all panels; `made` is [`LINES`] lines.
pub(super) fn sweep<F: Float + Lane, const W: usize>(
    unit: Unit,
    split: Rows<'_>,
    matrix: &Matrix<'_, '_, F>,
    made: &mut [Line],
    (rows, begin): (Range<usize>, Starts),
    product: &mut impl Product<F, W>,
) {
    let (panels, mut session) = (matrix.panels, unit.session());
    let place = split.place(0, 0..split.starts.len());
    let mut sums = [[[0.0f32; SIDE]; TILES]; GROUPS];
    for turn in 0..panels.count {
        let index = panels.index(turn);
        let (lines, next) = (matrix.panel::<W>(turn), matrix.panel::<W>(turn + 1));
        let mut same_start = [F::zero(); W];
        product.start(index, rows.start, &mut same_start);
        if begin == Starts::Own {
            for (at, row) in rows.clone().enumerate() {
                let mut start = [F::zero(); W];
                product.start(index, row, &mut start);
                sums.iter_mut().zip(groups_of(&mut start)).for_each(|(sums, start)| sums[at] = *start);
                if turn + 1 < panels.count {
                    product.fetch(panels.index(turn + 1), row);
                }
            }
        }
        let all = Ahead::<W>::count(next.len());
        for (group, sums) in sums[..W / SIDE].chunks_mut(2).enumerate() {
            let start = match begin {
                Starts::Alike => Start::Same(&groups_of(&mut same_start)[2 * group..]),
                Starts::Own => Start::Own,
            };
            let part = |group: usize| all * (2 * group).min(W / SIDE) / (W / SIDE);
            let ahead = Ahead { lines: next, part: part(group)..part(group + 1) };
            let columns = Columns { lines, first: 2 * group * SIDE, ahead };
            let one_tile = rows.len() <= SIDE;
            match sums {
                [one, two] => {
                    let sums = ([one.as_flattened_mut(), two.as_flattened_mut()], SIDE);
                    if one_tile {
                        session.product_apart::<1, 2, W>(place, &columns, made, start, sums);
                    } else {
                        session.product_apart::<2, 2, W>(place, &columns, made, start, sums);
                    }
                }
                [one, ..] => {
                    let sums = ([one.as_flattened_mut()], SIDE);
                    if one_tile {
                        session.product_apart::<1, 1, W>(place, &columns, made, start, sums);
                    } else {
                        session.product_apart::<2, 1, W>(place, &columns, made, start, sums);
                    }
                }
                [] => {}
            }
        }
        for (at, row) in rows.clone().enumerate().filter(|(_, row)| !split.left.has(*row)) {
            let mut end = [F::zero(); W];
            groups_of(&mut end).iter_mut().zip(&sums).for_each(|(to, sums)| *to = sums[at]);
            product.finish(index, row, &mut end);
        }
    }
}
