//! Panels by many rows: `sums[row] += Σ_k operand[row][k] · panel[k]` where the rows are several tiles.
//!
//! Rows are taken in groups. The operand of a group is turned once, so that a tile reads its elements of one `k` side by
//! side; then each panel is cut into chunks of `k` that stay in the first cache while all tiles of the group pass over
//! them. Sums wait in memory between chunks, and while one chunk is used the next one is fetched: weights are read once
//! for a group, at the rate at which they are used. The order of a sum is that of a single tile, `k` from the front to
//! the end.

use super::few::vectors;
use super::{Factored, Product, ROWS, begin};
use crate::cpu::number::Float;
use crate::cpu::simd::{Lane, Level, Simd, Work, fetch_at};
use crate::cpu::stored::Weight;
use std::ops::Range;

/// Rows whose elements of one `k` lie side by side: the lanes of the longest vector, by which they are turned.
pub(crate) const SIDE: usize = 16;
/// Rows of a group: its sums stay in the first cache beside a chunk.
pub(crate) const GROUP: usize = 2 * SIDE;
/// Rows of the next group where so many are left. None is a single row unless it is the whole product: one by itself runs
/// several chains and so takes its sums in another order than rows beside others, and a sum would depend on how many rows
/// there are.
pub(crate) fn next_group(left: usize) -> usize {
    if left == GROUP + 1 { GROUP - 1 } else { left.min(GROUP) }
}

/// Lines of a chunk: 32 KiB of `f32` in panels of 64 columns.
const CHUNK: usize = 128;
/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Elements of memory for the operand of a group, `depth` deep.
pub(crate) fn turned_elements(depth: usize, rows: usize) -> usize {
    if rows <= ROWS {
        0
    } else {
        rows.min(GROUP).next_multiple_of(SIDE).saturating_mul(depth).saturating_add(SIDE)
    }
}

/// Multiplies the rows `rows` with `panels`; `memory` is [`turned_elements`] of as many.
pub(super) fn sweep_many<F: Float + Lane, E: Weight<F>, const W: usize>(
    level: Level,
    panels: &Factored<'_, F, E>,
    (rows, memory): (Range<usize>, &mut [F]),
    product: &mut impl Product<F, W>,
) {
    let depth = panels.depth;
    for first in rows.clone().step_by(GROUP) {
        let many = GROUP.min(rows.end - first);
        for (side, to) in memory.chunks_mut((SIDE * depth).max(1)).enumerate().take(many.div_ceil(SIDE)) {
            let from = side * SIDE;
            let mut lines: [&[F]; SIDE] = [&[]; SIDE];
            for (row, line) in lines.iter_mut().enumerate() {
                // Lanes without a row repeat the last one, and are not read.
                *line = product.operand(first + (from + row).min(many - 1));
            }
            F::run(level, Turn { lines, to });
        }
        let mut each = Rows { level, panels, product, first };
        sweep_turned(level, panels, (many, memory), &mut each);
    }
}

/// What becomes of the sums of a group.
pub(crate) trait Group<F, const W: usize> {
    /// Asks for what the `rows` sums of panel `index` start from, while the panel before is used.
    fn fetch(&self, _index: usize, _rows: usize) {}
    /// Sets `sums`, one for each row, before the product with panel `index`.
    fn start(&self, index: usize, sums: &mut [[F; W]]);
    /// Takes them.
    fn finish(&mut self, index: usize, sums: &mut [[F; W]]);
}

/// The rows from `first` on of a product.
struct Rows<'s, 'p, F, E, P> {
    level: Level,
    panels: &'s Factored<'p, F, E>,
    product: &'s mut P,
    first: usize,
}

impl<F, E, P, const W: usize> Group<F, W> for Rows<'_, '_, F, E, P>
where
    F: Float + Lane,
    E: Weight<F>,
    P: Product<F, W>,
{
    fn fetch(&self, index: usize, rows: usize) {
        (0..rows).for_each(|row| self.product.fetch(index, self.first + row));
    }

    fn start(&self, index: usize, sums: &mut [[F; W]]) {
        F::run(self.level, Begin { rows: self, index, sums });
    }

    fn finish(&mut self, index: usize, sums: &mut [[F; W]]) {
        F::run(self.level, Finish { rows: self, index, sums });
    }
}

/// What the sums of some rows in a panel start from.
struct Begin<'s, R, F, const W: usize> {
    rows: &'s R,
    index: usize,
    sums: &'s mut [[F; W]],
}

impl<F, E, P, const W: usize> Work for Begin<'_, Rows<'_, '_, F, E, P>, F, W>
where
    F: Float + Lane,
    E: Weight<F>,
    P: Product<F, W>,
{
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, _: S) {
        let Self { rows, index, sums } = self;
        for (row, sums) in sums.iter_mut().enumerate() {
            begin::<F, E, W>(rows.product, (index, rows.first + row), sums);
        }
    }
}

/// What becomes of them.
struct Finish<'s, R, F, const W: usize> {
    rows: &'s mut R,
    index: usize,
    sums: &'s mut [[F; W]],
}

impl<F, E, P, const W: usize> Work for Finish<'_, Rows<'_, '_, F, E, P>, F, W>
where
    F: Float + Lane,
    E: Weight<F>,
    P: Product<F, W>,
{
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { rows: Rows { panels, product, first, .. }, index, sums } = self;
        for (row, sums) in sums.iter_mut().enumerate() {
            panels.finish(simd, (index, *first + row), sums, *product);
        }
    }
}

/// Multiplies the rows of a group, at most [`GROUP`], with `panels`. `turned` holds for each [`SIDE`] rows, for each `k`,
/// their elements, and [`SIDE`] elements more.
pub(super) fn sweep_turned<F: Float + Lane, E: Weight<F>, const W: usize>(
    level: Level,
    panels: &Factored<'_, F, E>,
    (rows, turned): (usize, &[F]),
    group: &mut impl Group<F, W>,
) {
    let depth = panels.depth;
    let mut sums = [[F::zero(); W]; GROUP];
    for turn in 0..panels.count {
        let index = panels.index(turn);
        group.start(index, &mut sums[..rows]);
        if turn + 1 < panels.count {
            group.fetch(panels.index(turn + 1), rows);
        }
        for from in (0..depth).step_by(CHUNK) {
            let to = depth.min(from + CHUNK);
            let chunk = panels.lines::<W>(index, from..to);
            let next = if to < depth {
                panels.lines::<W>(index, to..depth.min(to + CHUNK))
            } else if turn + 1 < panels.count {
                panels.lines::<W>(panels.index(turn + 1), 0..depth.min(CHUNK))
            } else {
                &[]
            };
            F::run(level, Pass { chunk, next, turned, depth, from, rows, sums: &mut sums });
        }
        group.finish(index, &mut sums[..rows]);
    }
}

/// Turns up to [`SIDE`] rows: `to[k][row] = lines[row][k]`.
struct Turn<'s, F> {
    lines: [&'s [F]; SIDE],
    to: &'s mut [F],
}

impl<F: Float + Lane> Work for Turn<'_, F> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let (to, _) = self.to.as_chunks_mut::<SIDE>();
        let depth = self.lines[0].len();
        let mut at = 0;
        while at + SIDE <= depth {
            for from in (at..at + SIDE).step_by(S::LANES) {
                let mut rows = [simd.splat(F::zero()); SIDE];
                for (row, line) in rows.iter_mut().zip(&self.lines) {
                    *row = simd.load(&line[from..]);
                }
                if let Some(to) = to[from..].first_chunk_mut::<SIDE>() {
                    simd.columns(&rows, to);
                } else {
                    let mut last = [[F::zero(); SIDE]; SIDE];
                    simd.columns(&rows, &mut last);
                    to[from..].iter_mut().zip(last).take(S::LANES).for_each(|(to, from)| *to = from);
                }
            }
            at += SIDE;
        }
        for k in at..depth {
            for (to, line) in to[k].iter_mut().zip(&self.lines) {
                *to = line[k];
            }
        }
    }
}

/// All tiles of a group over one chunk of a panel.
struct Pass<'s, F, E, const W: usize> {
    chunk: &'s [E],
    /// What is read after it.
    next: &'s [E],
    /// The operand: for each [`SIDE`] rows, for each `k`, their elements.
    turned: &'s [F],
    depth: usize,
    /// The chunk's first `k`.
    from: usize,
    rows: usize,
    sums: &'s mut [[F; W]; GROUP],
}

impl<F: Float + Lane, E: Weight<F>, const W: usize> Work for Pass<'_, F, E, W> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { chunk, next, turned, depth, from, rows, sums } = self;
        let tiles = rows / SIDE * SIDE.div_ceil(ROWS) + (rows % SIDE).div_ceil(ROWS);
        let mut ahead = next.chunks(next.len().div_ceil(tiles.max(1)).max(1));
        for side in 0..rows.div_ceil(SIDE) {
            let rows = side * SIDE..rows.min((side + 1) * SIDE);
            let tiles = rows.len().div_ceil(ROWS);
            let mut at = rows.start;
            for tile in 0..tiles {
                // Tiles of nearly equal height.
                let height = (rows.end - at).div_ceil(tiles - tile);
                let turned = &turned[(side * depth + from) * SIDE + at % SIDE..];
                let place = (chunk, turned, ahead.next().unwrap_or_default());
                match height {
                    1 => tile_of::<F, E, S, W, 1>(simd, place, sums, at),
                    2 => tile_of::<F, E, S, W, 2>(simd, place, sums, at),
                    3 => tile_of::<F, E, S, W, 3>(simd, place, sums, at),
                    4 => tile_of::<F, E, S, W, 4>(simd, place, sums, at),
                    5 => tile_of::<F, E, S, W, 5>(simd, place, sums, at),
                    _ => tile_of::<F, E, S, W, ROWS>(simd, place, sums, at),
                }
                at += height;
            }
        }
    }
}

/// `R` rows from `row` on by one chunk, while `ahead` is fetched.
#[inline(always)]
fn tile_of<F: Float + Lane, E: Weight<F>, S: Simd<F>, const W: usize, const R: usize>(
    simd: S,
    (chunk, turned, ahead): (&[E], &[F], &[E]),
    sums: &mut [[F; W]; GROUP],
    row: usize,
) {
    let Some(sums) = sums[row..].first_chunk_mut::<R>() else { return };
    match const { vectors(S::REGISTERS, W / S::LANES, R) } {
        8 => tile::<F, E, S, W, R, 8>(simd, (chunk, turned, ahead), sums),
        6 => tile::<F, E, S, W, R, 6>(simd, (chunk, turned, ahead), sums),
        4 => tile::<F, E, S, W, R, 4>(simd, (chunk, turned, ahead), sums),
        3 => tile::<F, E, S, W, R, 3>(simd, (chunk, turned, ahead), sums),
        2 => tile::<F, E, S, W, R, 2>(simd, (chunk, turned, ahead), sums),
        _ => tile::<F, E, S, W, R, 1>(simd, (chunk, turned, ahead), sums),
    }
}

#[inline(always)]
fn tile<F: Float + Lane, E: Weight<F>, S: Simd<F>, const W: usize, const R: usize, const N: usize>(
    simd: S,
    (chunk, turned, ahead): (&[E], &[F], &[E]),
    sums: &mut [[F; W]; R],
) {
    let ((lines, _), (turned, _)) = (chunk.as_chunks::<W>(), turned.as_chunks::<SIDE>());
    let line = LINE / size_of::<E>();
    let step = N * S::LANES;
    for at in (0..W / step).map(|i| i * step) {
        let mut acc = [[simd.splat(F::zero()); N]; R];
        for (acc, sums) in acc.iter_mut().zip(&*sums) {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = simd.load(&sums[at + v * S::LANES..]);
            }
        }
        for (k, (weights_of, xs)) in lines.iter().zip(turned).enumerate() {
            // Two tiles and more share a chunk of the size of this one.
            fetch_at(ahead, 2 * k * line);
            fetch_at(ahead, (2 * k + 1) * line);
            let line_of = &weights_of[at..at + step];
            let mut weights = [simd.splat(F::zero()); N];
            for (v, weight) in weights.iter_mut().enumerate() {
                *weight = E::load(simd, &line_of[v * S::LANES..]);
            }
            for (acc, x) in acc.iter_mut().zip(xs) {
                let x = simd.splat(*x);
                for (acc, weight) in acc.iter_mut().zip(&weights) {
                    *acc = simd.mul_add(x, *weight, *acc);
                }
            }
        }
        for (acc, sums) in acc.iter().zip(&mut *sums) {
            for (v, acc) in acc.iter().enumerate() {
                simd.store(*acc, &mut sums[at + v * S::LANES..]);
            }
        }
    }
}
