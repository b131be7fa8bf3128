//! Products with matrices in *panels*: `sums[row] += Σ_k operand[row][k] · panel[k]`.
//!
//! A panel is some columns of the matrix, for each `k` one behind the other, so that a product reads it from the front to
//! the end. Rows that are one tile keep their sums in registers over a whole panel ([`few`]); more of them pass over
//! chunks of it that stay in the first cache ([`many`]), or go to the matrix unit ([`unit`]).
//!
//! A sum's order depends on how many rows the whole product has, never on which of them are multiplied together, nor on how
//! panels are split among threads: so that parts of a product ([`RowsOf`]) give what it gives.

#![allow(
    clippy::inline_always,
    reason = "vector code has to be inlined into the shell of its instruction set, or it runs without it"
)]

mod compact;
mod few;
mod many;
pub(super) mod unit;

use super::amx::Unit;
use super::compact::Compact;
use super::number::Float;
use super::simd::{Lane, Level, Simd};
use super::stored::Weight;
use crate::dtype::DType;
use half::{bf16, f16};
use std::ops::Range;

pub(super) use many::{GROUP, Group, SIDE, next_group, turned_elements};

/// Most rows of a tile.
pub(super) const ROWS: usize = 6;

/// What is multiplied with panels, and what becomes of the sums.
pub(super) trait Product<F, const W: usize> {
    /// The operand's row `row`, as long as the panels are deep.
    fn operand(&self, row: usize) -> &[F];
    /// Asks for what the sums of `row` in `panel` start from, while the panel before is used.
    fn fetch(&self, _panel: usize, _row: usize) {}
    /// Sets the sums of `row` in `panel` before the product; in a shell, `#[inline(always)]`.
    fn start(&self, panel: usize, row: usize, sums: &mut [F; W]);
    /// Takes the sums of `row` in `panel`.
    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; W]);

    /// Whether the panels of a single row are worth one shell of the instruction set for the product and what becomes of its
    /// sums, [`Product::finish_in`]: where that is longer than what lies between two shells.
    const IN_SHELL: bool = false;

    /// [`Product::finish`] in a shell, `#[inline(always)]`.
    #[inline(always)]
    fn finish_in<S: Simd<F>>(&mut self, _simd: S, panel: usize, row: usize, sums: &mut [F; W]) {
        self.finish(panel, row, sums);
    }
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
    /// Of `f32`, in fewer bits.
    Compact(Compact<'a>),
}

impl<F> Stored<'_, F> {
    /// The `elements` of the panels, and their `columns`.
    pub(super) fn part(self, elements: Range<usize>, columns: Range<usize>) -> Self {
        match self {
            Self::Own(all) => Self::Own(&all[elements]),
            Self::F16(all) => Self::F16(&all[elements]),
            Self::Bf16(all) => Self::Bf16(&all[elements]),
            Self::Int8 { panels, factors } => {
                Self::Int8 { panels: &panels[elements], factors: &factors[columns] }
            }
            Self::Compact(all) => Self::Compact(all.part(elements)),
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

/// Rows that are multiplied, all of a product or a part of them.
pub(super) struct RowsOf<'m, F> {
    pub(super) count: usize,
    /// The rows of the whole product, which choose the kernel.
    pub(super) whole: usize,
    /// Of [`wide_elements`].
    pub(super) memory: &'m mut [F],
}

impl<'m, F> RowsOf<'m, F> {
    /// All rows of a product.
    pub(super) fn all(count: usize, memory: &'m mut [F]) -> Self {
        Self { count, whole: count, memory }
    }
}

/// Multiplies rows with `panels`. A panel is used for some rows before the next one is read.
fn sweep<F: Float + Lane, const W: usize>(
    level: Level,
    Panels { data, depth, count, backwards }: Panels<'_, F>,
    rows: RowsOf<'_, F>,
    product: &mut impl Product<F, W>,
) {
    let factors = &[][..];
    match data {
        Stored::Own(panels) => {
            sweep_as::<F, F, W>(level, &Factored { panels, factors, depth, count, backwards }, rows, product);
        }
        Stored::F16(panels) => {
            sweep_as::<F, f16, W>(
                level,
                &Factored { panels, factors, depth, count, backwards },
                rows,
                product,
            );
        }
        Stored::Bf16(panels) => {
            sweep_as::<F, bf16, W>(
                level,
                &Factored { panels, factors, depth, count, backwards },
                rows,
                product,
            );
        }
        Stored::Int8 { panels, factors } => {
            sweep_as::<F, i8, W>(
                level,
                &Factored { panels, factors, depth, count, backwards },
                rows,
                product,
            );
        }
        Stored::Compact(panels) => compact::sweep(panels, (count, backwards), rows.count, product),
    }
}

/// Panels of one format.
struct Factored<'a, F, E> {
    panels: &'a [E],
    /// Of the columns of the panels, where the format has them.
    factors: &'a [F],
    depth: usize,
    count: usize,
    backwards: bool,
}

impl<F: Float + Lane, E: Weight<F>> Factored<'_, F, E> {
    /// The panel whose turn is `turn`.
    #[inline(always)]
    fn index(&self, turn: usize) -> usize {
        if self.backwards { self.count - 1 - turn } else { turn }
    }

    /// The lines of panel `index` for the `k` of `lines`.
    #[inline(always)]
    fn lines<const W: usize>(&self, index: usize, lines: Range<usize>) -> &[E] {
        let first = index * self.depth;
        &self.panels[(first + lines.start) * W..(first + lines.end) * W]
    }

    /// Hands on the sums of `row` in panel `index`.
    #[inline(always)]
    fn finish<S: Simd<F>, const W: usize>(
        &self,
        simd: S,
        (index, row): (usize, usize),
        sums: &mut [F; W],
        product: &mut impl Product<F, W>,
    ) {
        self.scale(index, row, sums, product);
        product.finish_in(simd, index, row, sums);
    }

    /// Sums of weights that have factors.
    #[inline(always)]
    fn scale<const W: usize>(
        &self,
        index: usize,
        row: usize,
        sums: &mut [F; W],
        product: &impl Product<F, W>,
    ) {
        if E::SCALED {
            let mut start = [F::zero(); W];
            product.start(index, row, &mut start);
            for ((sum, start), factor) in sums.iter_mut().zip(start).zip(&self.factors[index * W..]) {
                *sum = sum.mul(*factor).add(start);
            }
        }
    }
}

/// Sets the sums of `row` in panel `index` before the product with weights of format `E`: those that are scaled start from
/// zero.
#[inline(always)]
fn begin<F: Float + Lane, E: Weight<F>, const W: usize>(
    product: &impl Product<F, W>,
    (index, row): (usize, usize),
    sums: &mut [F; W],
) {
    if E::SCALED {
        sums.fill(F::zero());
    } else {
        product.start(index, row, sums);
    }
}

/// Multiplies rows that are turned already, at most [`GROUP`] of them; see [`many::sweep_turned`].
pub(super) fn sweep_turned<F: Float + Lane, const W: usize>(
    level: Level,
    (panels, depth, count): (&[F], usize, usize),
    rows: (usize, &[F]),
    group: &mut impl Group<F, W>,
) {
    let panels = Factored { panels, factors: &[], depth, count, backwards: false };
    many::sweep_turned(level, &panels, rows, group);
}

/// What a product's sums start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    /// All rows from the same.
    Alike,
    /// Each from its own.
    Own,
}

/// Multiplies rows with `panels`, on `unit` where it is given and worth while.
pub(super) fn sweep_wide<F: Float + Lane, const W: usize>(
    (level, unit): (Level, Option<Unit>),
    panels: Panels<'_, F>,
    rows: RowsOf<'_, F>,
    starts: Starts,
    product: &mut impl Product<F, W>,
) {
    let Panels { data, depth, count, backwards } = panels;
    let each = unit::group_rows(depth, (rows.count, rows.whole));
    let (Stored::Own(own), Some(unit), Some(each)) = (data, unit, each) else {
        return sweep(level, panels, rows, product);
    };
    let own = Factored { panels: own, factors: &[], depth, count, backwards };
    let RowsOf { count, memory, .. } = rows;
    for first in (0..count).step_by(each.max(1)) {
        let rows = first..count.min(first + each);
        let left = unit::sweep::<F, W>(unit, &own, (rows, &mut *memory), starts, product);
        if let left @ [_, ..] = left.rows() {
            many::sweep_many(level, &own, (0..left.len(), &mut *memory), &mut Chosen { product, rows: left });
        }
    }
}

/// Elements of memory for [`sweep_wide`] of at most `rows` rows of `depth` terms, of a product of at most `whole`.
pub(super) fn wide_elements<F: Float>(depth: usize, (rows, whole): (usize, usize)) -> usize {
    let unit = if F::DTYPE == DType::F32 { unit::memory_bytes(depth, (rows, whole)) } else { 0 };
    // A row by itself is turned where the whole product has others.
    let turned = if whole > rows { rows.max(ROWS + 1) } else { rows };
    turned_elements(depth, turned).max(unit / size_of::<F>())
}

/// Some rows of a product.
struct Chosen<'s, P> {
    product: &'s mut P,
    rows: &'s [usize],
}

impl<F, P: Product<F, W>, const W: usize> Product<F, W> for Chosen<'_, P> {
    fn operand(&self, row: usize) -> &[F] {
        self.product.operand(self.rows[row])
    }

    #[inline(always)]
    fn start(&self, panel: usize, row: usize, sums: &mut [F; W]) {
        self.product.start(panel, self.rows[row], sums);
    }

    #[inline(always)]
    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; W]) {
        self.product.finish(panel, self.rows[row], sums);
    }

    #[inline(always)]
    fn finish_in<S: Simd<F>>(&mut self, simd: S, panel: usize, row: usize, sums: &mut [F; W]) {
        self.product.finish_in(simd, panel, self.rows[row], sums);
    }
}

fn sweep_as<F: Float + Lane, E: Weight<F>, const W: usize>(
    level: Level,
    panels: &Factored<'_, F, E>,
    RowsOf { count, whole, memory }: RowsOf<'_, F>,
    product: &mut impl Product<F, W>,
) {
    // One row by itself takes its sums in several chains, beside others in one.
    if count > ROWS || (count == 1 && whole > 1) {
        many::sweep_many(level, panels, (0..count, memory), product);
    } else {
        few::sweep_few(level, panels, count, product);
    }
}
