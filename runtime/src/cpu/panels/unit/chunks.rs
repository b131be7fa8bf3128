//! Many rows by panels: a panel passes in chunks, some terms of 32 columns, and all rows are multiplied with one while the
//! next is taken apart beside their products. So a tile of a panel is made once, whatever the number of rows, and what is
//! made ahead stays near; sums are in memory from one chunk to the next.

use super::{DEPTH, GROUPS, Matrix, Rows, Starts, TILES, groups_of};
use crate::cpu::amx::{Ahead, Beside, Line, Place, SIDE, Session, Start, Unit, tile_lines};
use crate::cpu::number::Float;
use crate::cpu::panels::Product;
use crate::cpu::simd::Lane;
use std::ops::Range;

/// Blocks of 32 terms in a chunk: with fewer, sums are loaded and stored more often, with more, tiles are farther away.
const CHUNK: usize = 8;

/// Lines of the tiles of a chunk.
const MADE: usize = CHUNK * tile_lines(2);

/// Lines of the tiles of two chunks, and of the sums of `rows` rows.
pub(super) fn lines(rows: usize) -> usize {
    rows.next_multiple_of(TILES).saturating_mul(GROUPS).saturating_add(2 * MADE)
}

/// A chunk of a panel: some of its blocks, and some of its columns.
#[derive(Clone, Copy)]
struct Chunk {
    /// The panel's turn.
    turn: usize,
    /// The first block, and how many.
    block: usize,
    blocks: usize,
    /// The first group of 16 columns, and how many.
    group: usize,
    groups: usize,
}

/// The chunks of `count` panels of `width` columns and `blocks` blocks in their order: of a panel, for some blocks, all
/// columns.
fn chunks(count: usize, width: usize, blocks: usize) -> impl Iterator<Item = Chunk> {
    let groups = width / SIDE;
    (0..count).flat_map(move |turn| {
        (0..blocks).step_by(CHUNK).flat_map(move |block| {
            (0..groups).step_by(2).map(move |group| Chunk {
                turn,
                block,
                blocks: (blocks - block).min(CHUNK),
                group,
                groups: (groups - group).min(2),
            })
        })
    })
}

/// Multiplies `rows` with all panels; `memory` is [`lines`] lines.
pub(super) fn sweep<F: Float + Lane, const W: usize>(
    unit: Unit,
    split: Rows<'_>,
    matrix: &Matrix<'_, '_, F>,
    memory: &mut [Line],
    (rows, begin): (Range<usize>, Starts),
    product: &mut impl Product<F, W>,
) {
    let (panels, mut session) = (matrix.panels, unit.session());
    let (blocks, turns) = (split.starts.len(), rows.len().div_ceil(TILES));
    let (made, sums) = memory.split_at_mut(2 * MADE);
    let (mut now, mut next) = made.split_at_mut(MADE);
    let mut sums = Sums { all: bytemuck::cast_slice_mut(sums), each: turns * TILES * SIDE };
    let lines_of = |chunk: Chunk| {
        let (panel, end) = (matrix.panel::<W>(chunk.turn), (chunk.block + chunk.blocks) * DEPTH);
        (&panel[chunk.block * DEPTH..end.min(panel.len())], (chunk.group * SIDE, chunk.groups))
    };
    let mut same_start = [F::zero(); W];
    let mut chunks = chunks(panels.count, W, blocks).peekable();
    if let Some(first) = chunks.peek() {
        let (lines, (column, groups)) = lines_of(*first);
        for (block, to) in lines.chunks(DEPTH).zip(now.chunks_mut(tile_lines(groups))) {
            let (low, high) = block.split_at(SIDE.min(block.len()));
            unit.split_columns([low, high], (column, groups), to);
        }
    }
    let per_panel = blocks.div_ceil(CHUNK) * (W / SIDE).div_ceil(2);
    let mut in_panel = 0;
    while let Some(chunk) = chunks.next() {
        let index = panels.index(chunk.turn);
        if in_panel == 0 {
            product.start(index, rows.start, &mut same_start);
            if begin == Starts::Own {
                sums.begin(rows.clone(), index, product);
                if chunk.turn + 1 < panels.count {
                    rows.clone().for_each(|row| product.fetch(panels.index(chunk.turn + 1), row));
                }
            }
        }
        let after = matrix.panel::<W>(chunk.turn + 1);
        let part = |at: usize| Ahead::<W>::count(after.len()) * at / per_panel;
        let ahead = Ahead { lines: after, part: part(in_panel)..part(in_panel + 1) };
        let from = chunks.peek().map_or((&[][..], (0, 1)), |chunk| lines_of(*chunk));
        let mut beside = Beside::new(from, next, ahead, turns * chunk.blocks);
        for turn in 0..turns {
            let start = match begin {
                Starts::Alike if chunk.block == 0 => Start::Same(&groups_of(&mut same_start)[chunk.group..]),
                _ => Start::Own,
            };
            let place = split.place(turn, chunk.block..chunk.block + chunk.blocks);
            let many = split.count - turn * TILES;
            multiply(&mut session, (place, many), (now, start), sums.of(turn, chunk), &mut beside);
        }
        std::mem::swap(&mut now, &mut next);
        in_panel += 1;
        if in_panel == per_panel {
            in_panel = 0;
            for (at, row) in rows.clone().enumerate().filter(|(_, row)| !split.left.has(*row)) {
                let mut end = [F::zero(); W];
                sums.row(at, &mut end);
                product.finish(index, row, &mut end);
            }
        }
    }
}

/// The rows of two tiles, of which `many` and more are there, by a chunk, whose tiles are `right`.
fn multiply<const W: usize>(
    session: &mut Session,
    (place, many): (Place<'_>, usize),
    (right, start): (&[Line], Start<'_>),
    sums: [Option<&mut [f32]>; 2],
    beside: &mut Beside<'_, W>,
) {
    match sums {
        [Some(one), Some(two)] if many > SIDE => {
            session.product_beside::<2, 2, W>(place, right, start, ([one, two], SIDE), beside);
        }
        [Some(one), Some(two)] => {
            session.product_beside::<1, 2, W>(place, right, start, ([one, two], SIDE), beside);
        }
        [Some(one), None] if many > SIDE => {
            session.product_beside::<2, 1, W>(place, right, start, ([one], SIDE), beside);
        }
        [Some(one), None] => session.product_beside::<1, 1, W>(place, right, start, ([one], SIDE), beside),
        [None, _] => {}
    }
}

/// Sums of a panel: for each group of 16 columns, for each row, those of the group.
struct Sums<'s> {
    all: &'s mut [f32],
    /// Sums of a group.
    each: usize,
}

impl Sums<'_> {
    /// Those of the rows of `turn` and the groups of `chunk`.
    fn of(&mut self, turn: usize, chunk: Chunk) -> [Option<&mut [f32]>; 2] {
        let mut groups = self.all.chunks_exact_mut(self.each).skip(chunk.group).take(chunk.groups);
        [(); 2].map(|()| groups.next().map(|group| &mut group[turn * TILES * SIDE..][..TILES * SIDE]))
    }

    /// Sets those of `rows` in panel `index` to what they start from.
    fn begin<F: Float, const W: usize>(
        &mut self,
        rows: Range<usize>,
        index: usize,
        product: &impl Product<F, W>,
    ) {
        for (at, row) in rows.enumerate() {
            let mut start = [F::zero(); W];
            product.start(index, row, &mut start);
            let groups = self.all.chunks_exact_mut(self.each);
            groups.zip(groups_of(&mut start)).for_each(|(group, start)| {
                group.as_chunks_mut().0[at] = *start;
            });
        }
    }

    /// Those of row `at`.
    fn row<F: Float, const W: usize>(&self, at: usize, to: &mut [F; W]) {
        let groups = self.all.chunks_exact(self.each);
        groups_of(to).iter_mut().zip(groups).for_each(|(to, group)| *to = group.as_chunks().0[at]);
    }
}
