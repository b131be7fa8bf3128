//! `sums[row] += Σ_k operand[row][k] · panel[k]` for a few rows and one panel, and the sweep over all panels.
//!
//! The accumulators stay in registers: rows × vectors of at most three quarters of the register file, the rest
//! holding the panel's vectors and a broadcast element. One row alone runs several chains over interleaved `k`
//! where a panel has too few vectors to hide the latency of a multiply–add; chains are added at the end.
//!
//! A sum's order depends on the number of rows in its tile, never on how units are split among threads.

use super::gate::Gate;
use super::layout::Layout;
use crate::cpu::simd::{Level, Simd, Work};
use crate::cpu::stored::Weight;
use half::{bf16, f16};
use std::ops::Range;

/// Most rows of a tile.
pub(super) const ROWS: usize = 6;

/// Vectors of a panel of `total` vectors that are accumulated at once for `rows` rows.
const fn vectors(registers: usize, total: usize, rows: usize) -> usize {
    let limit = registers / 4 * 3 / rows;
    let sizes = [8, 6, 4, 3, 2];
    let mut i = 0;
    while i < sizes.len() {
        if sizes[i] <= limit && total.is_multiple_of(sizes[i]) {
            return sizes[i];
        }
        i += 1;
    }
    1
}

/// Chains of a single row over `n` vectors.
const fn chains(n: usize) -> usize {
    match n {
        1 => 8,
        2 => 4,
        3 | 4 => 2,
        _ => 1,
    }
}

/// The product for `R` rows, with `W` elements in a row of the panel.
struct Multiply<'s, F, E, const W: usize, const R: usize> {
    panel: &'s [E],
    operand: [&'s [F]; R],
    sums: &'s mut [[F; W]; R],
}

impl<F: Gate, E: Weight<F>, const W: usize, const R: usize> Work for Multiply<'_, F, E, W, R> {
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { panel, operand, sums } = self;
        if const { R == 1 } {
            let (operand, sums) = (operand[0], &mut sums[0]);
            match const { vectors(S::REGISTERS, W / S::LANES, 1) } {
                8 => chain::<F, E, S, W, 8, { chains(8) }>(simd, panel, operand, sums),
                6 => chain::<F, E, S, W, 6, { chains(6) }>(simd, panel, operand, sums),
                4 => chain::<F, E, S, W, 4, { chains(4) }>(simd, panel, operand, sums),
                3 => chain::<F, E, S, W, 3, { chains(3) }>(simd, panel, operand, sums),
                2 => chain::<F, E, S, W, 2, { chains(2) }>(simd, panel, operand, sums),
                _ => chain::<F, E, S, W, 1, { chains(1) }>(simd, panel, operand, sums),
            }
        } else {
            match const { vectors(S::REGISTERS, W / S::LANES, R) } {
                8 => tile::<F, E, S, W, R, 8>(simd, panel, operand, sums),
                6 => tile::<F, E, S, W, R, 6>(simd, panel, operand, sums),
                4 => tile::<F, E, S, W, R, 4>(simd, panel, operand, sums),
                3 => tile::<F, E, S, W, R, 3>(simd, panel, operand, sums),
                2 => tile::<F, E, S, W, R, 2>(simd, panel, operand, sums),
                _ => tile::<F, E, S, W, R, 1>(simd, panel, operand, sums),
            }
        }
    }
}

#[inline(always)]
fn tile<F, E, S: Simd<F>, const W: usize, const R: usize, const N: usize>(
    simd: S,
    panel: &[E],
    operand: [&[F]; R],
    sums: &mut [[F; W]; R],
) where
    F: Gate,
    E: Weight<F>,
{
    let (lines, _) = panel.as_chunks::<W>();
    let operand = operand.map(|row| &row[..lines.len()]);
    let step = N * S::LANES;
    for at in (0..W / step).map(|i| i * step) {
        let mut acc = [[simd.splat(F::default()); N]; R];
        for (acc, sums) in acc.iter_mut().zip(&*sums) {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = simd.load(&sums[at + v * S::LANES..]);
            }
        }
        for (k, line) in lines.iter().enumerate() {
            let line = &line[at..at + step];
            let mut weights = [simd.splat(F::default()); N];
            for (v, weight) in weights.iter_mut().enumerate() {
                *weight = E::load(simd, &line[v * S::LANES..]);
            }
            for (acc, row) in acc.iter_mut().zip(&operand) {
                let x = simd.splat(row[k]);
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

#[inline(always)]
fn chain<F, E, S: Simd<F>, const W: usize, const N: usize, const C: usize>(
    simd: S,
    panel: &[E],
    operand: &[F],
    sums: &mut [F; W],
) where
    F: Gate,
    E: Weight<F>,
{
    let (lines, _) = panel.as_chunks::<W>();
    let operand = &operand[..lines.len()];
    let step = N * S::LANES;
    for at in (0..W / step).map(|i| i * step) {
        // The first chain starts from the given sums, the others from zero.
        let mut acc = [[simd.splat(F::default()); N]; C];
        for (v, acc) in acc[0].iter_mut().enumerate() {
            *acc = simd.load(&sums[at + v * S::LANES..]);
        }
        let (line_groups, line_rest) = lines.as_chunks::<C>();
        let (group_operands, rest_operands) = operand.as_chunks::<C>();
        for (lines, xs) in line_groups.iter().zip(group_operands) {
            for ((acc, line), x) in acc.iter_mut().zip(lines).zip(xs) {
                let x = simd.splat(*x);
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = simd.mul_add(x, E::load(simd, &line[at + v * S::LANES..]), *acc);
                }
            }
        }
        for (line, x) in line_rest.iter().zip(rest_operands) {
            let x = simd.splat(*x);
            for (v, acc) in acc[0].iter_mut().enumerate() {
                *acc = simd.mul_add(x, E::load(simd, &line[at + v * S::LANES..]), *acc);
            }
        }
        for v in 0..N {
            let mut sum = acc[0][v];
            for acc in &acc[1..] {
                sum = simd.add(sum, acc[v]);
            }
            simd.store(sum, &mut sums[at + v * S::LANES..]);
        }
    }
}

/// What is multiplied with panels, and what becomes of the sums.
pub(super) trait Product<F, const W: usize> {
    /// The operand's row `row`, as long as the panels are deep.
    fn operand(&self, row: usize) -> &[F];
    /// Sets the sums of `row` in `panel` before the product.
    fn start(&self, panel: usize, row: usize, sums: &mut [F; W]);
    /// Takes the sums of `row` in `panel`.
    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; W]);
}

/// Panels as they are stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stored<'a, F> {
    /// In the type that is computed in.
    Own(&'a [F]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
    /// With a factor for each column of the panels.
    Int8 {
        panels: &'a [i8],
        factors: &'a [F],
    },
}

impl<F> Stored<'_, F> {
    /// The panels of direction `plane`.
    pub(super) fn plane(self, layout: &Layout, plane: usize, depth: usize) -> Self {
        let of = |per: usize| plane * per..(plane + 1) * per;
        self.part(of(layout.panels(depth)), of(layout.panels(1)))
    }

    /// The panels of `group` for `units`, of one direction's.
    pub(super) fn of_units(self, layout: &Layout, group: usize, depth: usize, units: Range<usize>) -> Self {
        self.part(layout.panels_of(group, depth, units.clone()), layout.panels_of(group, 1, units))
    }

    fn part(self, elements: Range<usize>, columns: Range<usize>) -> Self {
        match self {
            Self::Own(all) => Self::Own(&all[elements]),
            Self::F16(all) => Self::F16(&all[elements]),
            Self::Bf16(all) => Self::Bf16(&all[elements]),
            Self::Int8 { panels, factors } => {
                Self::Int8 { panels: &panels[elements], factors: &factors[columns] }
            }
        }
    }
}

/// Panels that lie one after another.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a, F> {
    pub(super) data: Stored<'a, F>,
    pub(super) depth: usize,
    pub(super) count: usize,
    /// Whether the last panel comes first. Where steps change the direction, each begins with the panels that the
    /// step before ended with, which the cache still holds.
    pub(super) backwards: bool,
}

/// Multiplies `rows` rows with `panels`. A panel is used for all rows before the next one is read.
pub(super) fn sweep<F: Gate, const W: usize>(
    level: Level,
    Panels { data, depth, count, backwards }: Panels<'_, F>,
    rows: usize,
    product: &mut impl Product<F, W>,
) {
    let size = ([depth, count, rows], backwards);
    match data {
        Stored::Own(panels) => sweep_as::<F, F, W>(level, (panels, &[]), size, product),
        Stored::F16(panels) => sweep_as::<F, f16, W>(level, (panels, &[]), size, product),
        Stored::Bf16(panels) => sweep_as::<F, bf16, W>(level, (panels, &[]), size, product),
        Stored::Int8 { panels, factors } => sweep_as::<F, i8, W>(level, (panels, factors), size, product),
    }
}

fn sweep_as<F: Gate, E: Weight<F>, const W: usize>(
    level: Level,
    (panels, factors): (&[E], &[F]),
    ([depth, count, rows], backwards): ([usize; 3], bool),
    product: &mut impl Product<F, W>,
) {
    let size = depth * W;
    let tiles = rows.div_ceil(ROWS);
    for turn in 0..count {
        let index = if backwards { count - 1 - turn } else { turn };
        let panel = &panels[index * size..(index + 1) * size];
        let factors = if E::SCALED { &factors[index * W..(index + 1) * W] } else { &[] };
        let panel = (panel, factors);
        let mut at = 0;
        for tile in 0..tiles {
            // Tiles of nearly equal height.
            let height = (rows - at).div_ceil(tiles - tile);
            match height {
                1 => rows_of::<F, E, W, 1>(level, panel, [index, at], product),
                2 => rows_of::<F, E, W, 2>(level, panel, [index, at], product),
                3 => rows_of::<F, E, W, 3>(level, panel, [index, at], product),
                4 => rows_of::<F, E, W, 4>(level, panel, [index, at], product),
                5 => rows_of::<F, E, W, 5>(level, panel, [index, at], product),
                _ => rows_of::<F, E, W, 6>(level, panel, [index, at], product),
            }
            at += height;
        }
    }
}

fn rows_of<F: Gate, E: Weight<F>, const W: usize, const R: usize>(
    level: Level,
    (panel, factors): (&[E], &[F]),
    [index, at]: [usize; 2],
    product: &mut impl Product<F, W>,
) {
    let mut sums = [[F::zero(); W]; R];
    let mut operand: [&[F]; R] = [&[]; R];
    for (r, (sums, operand)) in sums.iter_mut().zip(&mut operand).enumerate() {
        // Sums that are scaled start from zero.
        if !E::SCALED {
            product.start(index, at + r, sums);
        }
        *operand = product.operand(at + r);
    }
    F::run(level, Multiply { panel, operand, sums: &mut sums });
    for (r, sums) in sums.iter_mut().enumerate() {
        if E::SCALED {
            let mut start = [F::zero(); W];
            product.start(index, at + r, &mut start);
            for ((sum, start), factor) in sums.iter_mut().zip(start).zip(factors) {
                *sum = sum.mul(*factor).add(start);
            }
        }
        product.finish(index, at + r, sums);
    }
}
