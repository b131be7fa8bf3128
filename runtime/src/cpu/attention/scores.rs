//! The scores themselves: products of queries and keys, what is done to them before the softmax, and the output
//! that shows them at some stage.

use super::panels::{KeyBlock, Workspace};
use super::rows::Rows;
use super::{Attention, Operands, Sizes, Tile};
use crate::cpu::RunContext;
use crate::cpu::contraction::{Panel, add_product};
use crate::cpu::gemm::{Blocks, Matrix, MatrixMut};
use crate::cpu::moments::store_floats;
use crate::cpu::number::{Float, Number};
use crate::cpu::tiles::{Lanes, for_each_tile};
use crate::dtype::DType;
use crate::error::OpError;

/// How far the scores that are shown have come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Stage {
    /// The scaled products.
    Product,
    /// Bounded by the soft cap.
    Capped,
    /// With masks added.
    Biased,
    /// The weights of the values.
    Softmax,
}

impl Attention {
    /// The scaled products of the tile's queries with a block of keys, `[rows, keys]`.
    pub(super) fn products<T: Panel>(
        &self,
        operands: &Operands<'_, T>,
        tile: &Tile,
        keys: &KeyBlock,
        (queries, panel): (&[T::Compute], &mut [T::Compute]),
        scores: &mut [T::Compute],
    ) -> Result<(), OpError> {
        let (height, width, count) = (tile.rows.len(), self.sizes.width, keys.range.len());
        let queries = Matrix::new(queries, (height, width), (width, 1))?;
        let keys = self.load_keys(operands, tile, keys, panel)?;
        add_product(&mut MatrixMut::new(scores, height, count)?, queries, keys.transposed(), false)
    }

    /// Bounds the products of a row.
    pub(super) fn cap<C: Float>(&self, scores: &mut [C]) {
        if self.softcap > 0.0 {
            let cap = C::from_f64(self.softcap);
            scores.iter_mut().for_each(|s| *s = s.div(cap).tanh().mul(cap));
        }
    }

    /// Bounds and masks the products of row `r` of the tile with the keys from `first` on. What the row does not see
    /// becomes −∞.
    pub(super) fn add_bias<T: Panel>(
        &self,
        operands: &Operands<'_, T>,
        tile: &Tile,
        r: usize,
        rows: &Rows<T::Compute>,
        first: usize,
        scores: &mut [T::Compute],
    ) -> Result<(), OpError> {
        let seen = rows.visible(r);
        let from = seen.start.saturating_sub(first).min(scores.len());
        let to = seen.end.saturating_sub(first).clamp(from, scores.len());
        scores[..from].fill(T::Compute::lowest());
        scores[to..].fill(T::Compute::lowest());
        let scores = &mut scores[from..to];
        if scores.is_empty() {
            return Ok(());
        }
        self.cap(scores);
        let (Some(form), Some(mask)) = (&self.mask, operands.mask) else { return Ok(()) };
        let queries = self.sizes.queries.max(1);
        let row = tile.rows.start + r;
        form.add(mask, [tile.image, tile.head + row / queries, row % queries], first + from, scores)
    }

    /// The scores of every query and key at `stage`, as `[batch, heads, queries, keys]` of floats of type `dtype`.
    pub(crate) fn show<T: Panel>(
        &self,
        context: RunContext<'_>,
        operands: &Operands<'_, T>,
        stage: Stage,
        dtype: DType,
        (out, scratch): (&mut [u8], &mut [u8]),
    ) -> Result<(), OpError> {
        if out.is_empty() {
            return Ok(());
        }
        let Sizes { batch, heads, queries, .. } = self.sizes;
        let row = self.sizes.total() * dtype.bits() / 8;
        let blocks = Blocks::new(out, (batch * heads, queries, row), (self.block(true).0, row))?;
        let lanes = Lanes::new(scratch, self.scratch_each::<T>());
        for_each_tile(context, self.work(), lanes, &blocks, &|_, mut block, scratch| {
            let tile = Tile { image: block.batch / heads, head: block.batch % heads, rows: block.rows };
            self.show_tile(context, operands, (stage, dtype), &tile, &mut block.out, scratch)
        })
    }

    fn show_tile<T: Panel>(
        &self,
        context: RunContext<'_>,
        operands: &Operands<'_, T>,
        (stage, dtype): (Stage, DType),
        tile: &Tile,
        out: &mut MatrixMut<'_, u8>,
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let space = Workspace::<T>::new(scratch, self.sizes, self.block(true))?;
        self.load_queries(operands, tile, space.queries)?;
        let mut rows = Rows::new(self, operands, tile);
        // Weights are known only when all scores have been seen once.
        let sweeps = if stage == Stage::Softmax { 2 } else { 1 };
        for sweep in 1..=sweeps {
            for keys in self.key_blocks(0..self.sizes.total(), space.keys) {
                context.interrupt.check()?;
                let count = keys.range.len();
                let scores = &mut space.scores[..tile.rows.len() * count];
                self.products(operands, tile, &keys, (&*space.queries, &mut *space.panel), scores)?;
                for (r, scores) in scores.chunks_exact_mut(count).enumerate() {
                    match stage {
                        Stage::Product => {}
                        Stage::Capped => self.cap(scores),
                        Stage::Biased | Stage::Softmax => {
                            self.add_bias(operands, tile, r, &rows, keys.range.start, scores)?;
                        }
                    }
                    if sweep < sweeps {
                        rows.absorb(r, scores);
                        continue;
                    }
                    if stage == Stage::Softmax {
                        rows.probabilities(r, scores);
                    }
                    let size = dtype.bits() / 8;
                    let place = &mut out.row(r)[keys.range.start * size..keys.range.end * size];
                    store_floats(dtype, place, scores.iter().map(|s| s.to_f64()))?;
                }
            }
        }
        Ok(())
    }
}
