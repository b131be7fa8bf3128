//! What a tile holds while it runs, and how blocks of keys and values come into the compute type.

use super::{Attention, Layout, Operands, Sizes, Tile};
use crate::cpu::RunContext;
use crate::cpu::contraction::{Panel, convert_block, scratch_of, tail};
use crate::cpu::gemm::Matrix;
use crate::cpu::number::{Number, dispatch};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::tensor::TensorView;
use std::ops::Range;

/// Neighbouring keys, of the cache or of those that come after it.
#[derive(Clone, Debug)]
pub(super) struct KeyBlock {
    /// Positions among all keys.
    pub(super) range: Range<usize>,
    /// Whether they are in the cache.
    past: bool,
}

/// Scratch memory of a tile.
pub(super) struct Workspace<'a, T: Panel> {
    /// The scaled queries, `[rows, width]`.
    pub(super) queries: &'a mut [T::Compute],
    /// `[rows, keys]`.
    pub(super) scores: &'a mut [T::Compute],
    /// Weighted sums of values, `[rows, value width]`.
    pub(super) sums: &'a mut [T::Compute],
    /// A block of keys or of values.
    pub(super) panel: &'a mut [T::Compute],
    /// Most keys of a block.
    pub(super) keys: usize,
}

impl<'a, T: Panel> Workspace<'a, T> {
    fn parts(sizes: Sizes, (rows, keys): (usize, usize)) -> [usize; 4] {
        let Sizes { width, value_width, .. } = sizes;
        [(rows, width), (rows, keys), (rows, value_width), (keys, width.max(value_width))]
            .map(|(a, b)| a.saturating_mul(b))
    }

    /// Elements of scratch memory for blocks of `(rows, keys)`.
    pub(super) fn elements(sizes: Sizes, block: (usize, usize)) -> usize {
        Self::parts(sizes, block).iter().fold(0, |n: usize, part| n.saturating_add(*part))
    }

    pub(super) fn new(scratch: &'a mut [u8], sizes: Sizes, block: (usize, usize)) -> Result<Self, OpError> {
        let [queries, scores, sums, _] = Self::parts(sizes, block);
        let all = scratch_of::<T::Compute>(scratch, Self::elements(sizes, block))?;
        let (queries, rest) = all.split_at_mut(queries);
        let (scores, rest) = rest.split_at_mut(scores);
        let (sums, panel) = rest.split_at_mut(sums);
        Ok(Self { queries, scores, sums, panel, keys: block.1 })
    }
}

impl Attention {
    /// The keys of `seen` in blocks of at most `most`, none of them partly in the cache.
    pub(super) fn key_blocks(&self, seen: Range<usize>, most: usize) -> impl Iterator<Item = KeyBlock> {
        let past = self.sizes.past;
        let cut = move |from: usize, to: usize, past: bool| {
            (from..to)
                .step_by(most.max(1))
                .map(move |at| KeyBlock { range: at..to.min(at.saturating_add(most)), past })
        };
        cut(seen.start, seen.end.min(past), true).chain(cut(seen.start.max(past), seen.end, false))
    }

    /// The tile's queries, scaled.
    pub(super) fn load_queries<T: Panel>(
        &self,
        operands: &Operands<'_, T>,
        tile: &Tile,
        queries: &mut [T::Compute],
    ) -> Result<(), OpError> {
        let Sizes { heads, queries: count, width, .. } = self.sizes;
        let layout = Layout::of(self.packed, heads, count, width);
        // Neighbouring heads follow each other row by row where a tile goes over several of them.
        let row = if self.heads_adjoin() { width } else { layout.row };
        let from = tail(operands.query, layout.at(tile.image, tile.head));
        let block = Matrix::new(from, (tile.rows.end, width), (row, 1))?.block(tile.rows.clone(), 0..width);
        let scale = self.scale;
        for (r, to) in queries.chunks_exact_mut(width).take(tile.rows.len()).enumerate() {
            for (to, from) in to.iter_mut().zip(block.row(r, 0..width)) {
                *to = T::Compute::from_f64(from.to_f64() * scale);
            }
        }
        Ok(())
    }

    fn kv_head(&self, tile: &Tile) -> usize {
        tile.head / self.sizes.group().max(1)
    }

    /// Start and stride of the rows of `keys`, `width` elements each, and their number.
    fn place(&self, tile: &Tile, keys: &KeyBlock, width: usize) -> (usize, usize, usize) {
        let Sizes { kv_heads, past, keys: new, .. } = self.sizes;
        let (layout, first) = if keys.past {
            (Layout::of_heads(kv_heads, past, width), keys.range.start)
        } else {
            (Layout::of(self.packed, kv_heads, new, width), keys.range.start - past)
        };
        (layout.at(tile.image, self.kv_head(tile)) + first * layout.row, layout.row, keys.range.len())
    }

    /// A block of keys, one a row.
    pub(super) fn load_keys<'p, T: Panel>(
        &self,
        operands: &Operands<'p, T>,
        tile: &Tile,
        keys: &KeyBlock,
        panel: &'p mut [T::Compute],
    ) -> Result<Matrix<'p, T::Compute>, OpError> {
        let width = self.sizes.width;
        let (start, row, count) = self.place(tile, keys, width);
        let data = if keys.past { operands.past_key } else { operands.key };
        convert_block(Matrix::new(tail(data, start), (count, width), (row, 1))?, panel)
    }

    /// A block of values, one a row.
    pub(super) fn load_values<'p, T: Panel>(
        &self,
        operands: &Operands<'p, T>,
        tile: &Tile,
        keys: &KeyBlock,
        panel: &'p mut [T::Compute],
    ) -> Result<Matrix<'p, T::Compute>, OpError> {
        let width = self.sizes.value_width;
        let (start, row, count) = self.place(tile, keys, width);
        let missing = || OpError::internal("no values for the keys of the cache");
        let view = if keys.past { operands.past_value.ok_or_else(missing)? } else { operands.value };
        if view.dtype() == T::DTYPE {
            let data = view.elements::<T>()?;
            return convert_block(Matrix::new(tail(data, start), (count, width), (row, 1))?, panel);
        }
        dispatch!(view.dtype(), floats, V => {
            let data = tail(view.elements::<V>()?, start);
            for (i, to) in panel.chunks_exact_mut(width.max(1)).take(count).enumerate() {
                for (to, from) in to.iter_mut().zip(tail(data, i * row)) {
                    *to = T::Compute::from_f64(from.to_f64());
                }
            }
            Matrix::new(panel, (count, width), (width, 1))
        })
    }
}

/// Keys or values with those of a cache before them: the result is the cache of the next step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cache {
    pub(crate) kv_heads: usize,
    pub(crate) past: usize,
    pub(crate) keys: usize,
    /// Bytes of a row.
    pub(crate) row: usize,
    /// Whether what is new is `[batch, keys, heads · width]`.
    pub(crate) packed: bool,
}

impl Cache {
    /// Writes `[batch, heads, past + keys, width]`.
    pub(crate) fn join(
        &self,
        context: RunContext<'_>,
        past: Option<TensorView<'_>>,
        new: TensorView<'_>,
        out: &mut [u8],
    ) -> Result<(), OpError> {
        if out.is_empty() {
            return Ok(());
        }
        let Self { kv_heads, past: before, keys, row, packed } = *self;
        let (past, new) = (past.map_or(&[][..], |view| view.bytes()), new.bytes());
        let layout = Layout::of(packed, kv_heads, keys, row);
        let (work, chunk) = (out.len() / 16, (before + keys) * row);
        for_each_tile(context, work, Lanes::none(), &Chunks::new(out, chunk), &|at, out, _| {
            let (old, out) = out.split_at_mut(before * row);
            old.copy_from_slice(&past[at * before * row..][..before * row]);
            let from = tail(new, layout.at(at / kv_heads, at % kv_heads));
            for (i, out) in out.chunks_exact_mut(row).enumerate() {
                out.copy_from_slice(&from[i * layout.row..][..row]);
            }
            Ok(())
        })
    }
}
