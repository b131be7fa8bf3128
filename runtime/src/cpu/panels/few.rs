//! Panels by a few rows: `sums[row] += Σ_k operand[row][k] · panel[k]`, one panel after the other.
//!
//! The accumulators stay in registers: rows × vectors of at most three quarters of the register file, the rest
//! holding the panel's vectors and a broadcast element. One row alone runs several chains over interleaved `k`
//! where a panel has too few vectors to hide the latency of a multiply–add; chains are added at the end.

use super::{Factored, Product, ROWS, begin};
use crate::cpu::number::Float;
use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::cpu::stored::Weight;

/// Vectors of a panel of `total` vectors that are accumulated at once for `rows` rows.
pub(super) const fn vectors(registers: usize, total: usize, rows: usize) -> usize {
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

/// Panel `index` by `R` rows, with what becomes of the sums.
struct SomeRows<'s, 'p, F, E, P, const W: usize, const R: usize> {
    panels: &'s Factored<'p, F, E>,
    index: usize,
    product: &'s mut P,
}

impl<F, E, P, const W: usize, const R: usize> Work for SomeRows<'_, '_, F, E, P, W, R>
where
    F: Float + Lane,
    E: Weight<F>,
    P: Product<F, W>,
{
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { panels, index, product } = self;
        let mut sums = [[F::zero(); W]; R];
        for (row, sums) in sums.iter_mut().enumerate() {
            begin::<F, E, W>(product, (index, row), sums);
        }
        let panel = panels.lines::<W>(index, 0..panels.depth);
        if const { R == 1 } {
            one_row::<F, E, S, W>(simd, panel, product.operand(0), &mut sums[0]);
        } else {
            let mut operand: [&[F]; R] = [&[]; R];
            operand.iter_mut().enumerate().for_each(|(row, operand)| *operand = product.operand(row));
            match const { vectors(S::REGISTERS, W / S::LANES, R) } {
                8 => tile::<F, E, S, W, R, 8>(simd, panel, operand, &mut sums),
                6 => tile::<F, E, S, W, R, 6>(simd, panel, operand, &mut sums),
                4 => tile::<F, E, S, W, R, 4>(simd, panel, operand, &mut sums),
                3 => tile::<F, E, S, W, R, 3>(simd, panel, operand, &mut sums),
                2 => tile::<F, E, S, W, R, 2>(simd, panel, operand, &mut sums),
                _ => tile::<F, E, S, W, R, 1>(simd, panel, operand, &mut sums),
            }
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            panels.finish(simd, (index, row), sums, product);
        }
    }
}

#[inline(always)]
fn one_row<F: Float + Lane, E: Weight<F>, S: Simd<F>, const W: usize>(
    simd: S,
    panel: &[E],
    operand: &[F],
    sums: &mut [F; W],
) {
    match const { vectors(S::REGISTERS, W / S::LANES, 1) } {
        8 => chain::<F, E, S, W, 8, { chains(8) }>(simd, panel, operand, sums),
        6 => chain::<F, E, S, W, 6, { chains(6) }>(simd, panel, operand, sums),
        4 => chain::<F, E, S, W, 4, { chains(4) }>(simd, panel, operand, sums),
        3 => chain::<F, E, S, W, 3, { chains(3) }>(simd, panel, operand, sums),
        2 => chain::<F, E, S, W, 2, { chains(2) }>(simd, panel, operand, sums),
        _ => chain::<F, E, S, W, 1, { chains(1) }>(simd, panel, operand, sums),
    }
}

/// A single row by all panels, with what becomes of the sums.
struct OneRow<'s, 'p, F, E, P, const W: usize> {
    panels: &'s Factored<'p, F, E>,
    product: &'s mut P,
}

impl<F, E, P, const W: usize> Work for OneRow<'_, '_, F, E, P, W>
where
    F: Float + Lane,
    E: Weight<F>,
    P: Product<F, W>,
{
    type Element = F;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<F>>(self, simd: S) {
        let Self { panels, product } = self;
        for turn in 0..panels.count {
            let index = panels.index(turn);
            if turn + 1 < panels.count {
                product.fetch(panels.index(turn + 1), 0);
            }
            let mut sums = [F::zero(); W];
            begin::<F, E, W>(product, (index, 0), &mut sums);
            let panel = panels.lines::<W>(index, 0..panels.depth);
            one_row::<F, E, S, W>(simd, panel, product.operand(0), &mut sums);
            panels.finish(simd, (index, 0), &mut sums, product);
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
    F: Float + Lane,
    E: Weight<F>,
{
    let (lines, _) = panel.as_chunks::<W>();
    let operand = operand.map(|row| &row[..lines.len()]);
    let step = N * S::LANES;
    for at in (0..W / step).map(|i| i * step) {
        let mut acc = [[simd.splat(F::zero()); N]; R];
        for (acc, sums) in acc.iter_mut().zip(&*sums) {
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = simd.load(&sums[at + v * S::LANES..]);
            }
        }
        for (k, line) in lines.iter().enumerate() {
            let line = &line[at..at + step];
            let mut weights = [simd.splat(F::zero()); N];
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
    F: Float + Lane,
    E: Weight<F>,
{
    let (lines, _) = panel.as_chunks::<W>();
    let operand = &operand[..lines.len()];
    let step = N * S::LANES;
    for at in (0..W / step).map(|i| i * step) {
        // The first chain starts from the given sums, the others from zero.
        let mut acc = [[simd.splat(F::zero()); N]; C];
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

/// Multiplies `rows` rows, at most [`ROWS`], with all panels.
pub(super) fn sweep_few<F: Float + Lane, E: Weight<F>, P: Product<F, W>, const W: usize>(
    level: Level,
    panels: &Factored<'_, F, E>,
    rows: usize,
    product: &mut P,
) {
    if const { P::IN_SHELL } && rows == 1 {
        return F::run(level, OneRow { panels, product });
    }
    for turn in 0..panels.count {
        let index = panels.index(turn);
        if turn + 1 < panels.count {
            (0..rows).for_each(|row| product.fetch(panels.index(turn + 1), row));
        }
        match rows {
            0 => {}
            1 => F::run(level, SomeRows::<_, _, _, W, 1> { panels, index, product }),
            2 => F::run(level, SomeRows::<_, _, _, W, 2> { panels, index, product }),
            3 => F::run(level, SomeRows::<_, _, _, W, 3> { panels, index, product }),
            4 => F::run(level, SomeRows::<_, _, _, W, 4> { panels, index, product }),
            5 => F::run(level, SomeRows::<_, _, _, W, 5> { panels, index, product }),
            _ => F::run(level, SomeRows::<_, _, _, W, ROWS> { panels, index, product }),
        }
    }
}
