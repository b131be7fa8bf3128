//! Scaled dot-product attention in blocks, without the matrix of all scores.
//!
//! `y_i = Σ_j p_ij · v_j`, `p_ij = exp(s_ij − m_i) / Σ_j exp(s_ij − m_i)`, `s_ij = cap(scale · q_i·k_j) + bias_ij`. A
//! tile is up to [`ROWS`] queries of the heads that share one head of keys; it goes over the keys in blocks
//! and keeps, for each query, the greatest score `m`, the sum of exponentials and the weighted sum of values so far,
//! rescaled by `exp(m_old − m_new)` when a block has a greater score (Milakov and Gimelshein 2018; Dao et al. 2022).
//! Sums of exponentials are accumulated in f64, products in the compute type; 16-bit floats are converted in panels
//! as they are used and nothing in between is rounded to 16 bits.
//!
//! Keys that no query of the tile may see are not read, so that what a cache holds behind its valid part has no
//! influence. A query that sees no key gives zeros.

mod bias;
mod panels;
mod rows;
mod scores;

pub(crate) use bias::{MaskForm, Visible};
pub(crate) use panels::Cache;
pub(crate) use scores::Stage;

use super::RunContext;
use super::contraction::{Panel, add_product};
use super::gemm::{Blocks, Matrix, MatrixMut};
use super::number::Compute;
use super::tiles::{Lanes, for_each_tile};
use crate::error::OpError;
use crate::tensor::TensorView;
use panels::Workspace;
use rows::Rows;
use std::ops::Range;

/// Most queries of a tile.
const ROWS: usize = 64;
/// Fewest queries that a tile is cut down to where there are few tiles.
const LEAST_ROWS: usize = 16;
/// Tiles aimed at, so that a few threads share them evenly.
const TILES: usize = 16;
/// Keys of a block, and of one where the tile has so few queries that reading keys is all the work.
const KEYS: usize = 256;
const KEYS_OF_FEW: usize = 1024;

/// Extents of an attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    /// Heads of queries: a multiple of those of keys.
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) queries: usize,
    /// Keys of the cache, which come before the others.
    pub(crate) past: usize,
    pub(crate) keys: usize,
    /// Elements of a query and of a key.
    pub(crate) width: usize,
    /// Elements of a value.
    pub(crate) value_width: usize,
}

impl Sizes {
    /// Keys with those of the cache.
    pub(crate) fn total(&self) -> usize {
        self.past.saturating_add(self.keys)
    }

    /// Heads of queries per head of keys.
    fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }
}

/// Where the vectors of an operand lie: vector `i` of head `h` of image `b` starts at
/// `b · batch + h · head + i · row`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) row: usize,
}

impl Layout {
    /// Of a tensor `[batch, heads, rows, width]`.
    pub(crate) fn of_heads(heads: usize, rows: usize, width: usize) -> Self {
        let head = rows.saturating_mul(width);
        Self { batch: heads.saturating_mul(head), head, row: width }
    }

    /// Of a tensor `[batch, rows, heads · width]`.
    pub(crate) fn packed(heads: usize, rows: usize, width: usize) -> Self {
        let row = heads.saturating_mul(width);
        Self { batch: rows.saturating_mul(row), head: width, row }
    }

    /// Of either form.
    pub(crate) fn of(packed: bool, heads: usize, rows: usize, width: usize) -> Self {
        if packed { Self::packed(heads, rows, width) } else { Self::of_heads(heads, rows, width) }
    }

    fn at(&self, image: usize, head: usize) -> usize {
        image.saturating_mul(self.batch).saturating_add(head.saturating_mul(self.head))
    }
}

/// An attention with all its shapes known.
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    pub(crate) sizes: Sizes,
    /// Whether queries, keys, values and the result are `[batch, rows, heads · width]`.
    pub(crate) packed: bool,
    /// Factor of the products of queries and keys.
    pub(crate) scale: f64,
    /// Bound of the scores, 0 for none.
    pub(crate) softcap: f64,
    /// Whether exponentials are taken in f64 whatever the operands are.
    pub(crate) wide_softmax: bool,
    pub(crate) visible: Visible,
    pub(crate) mask: Option<MaskForm>,
}

/// What an attention reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operands<'a, T> {
    pub(crate) query: &'a [T],
    /// Keys, and those of the cache.
    pub(crate) key: &'a [T],
    pub(crate) past_key: &'a [T],
    /// Values, of a floating type of their own, and those of the cache.
    pub(crate) value: TensorView<'a>,
    pub(crate) past_value: Option<TensorView<'a>>,
    pub(crate) mask: Option<TensorView<'a>>,
    /// How many keys of each image are valid; all of them where it is `None`.
    pub(crate) lengths: Option<&'a [i64]>,
}

/// The queries of one tile: rows of the heads from `head` on, `queries` rows each.
#[derive(Clone, Debug)]
struct Tile {
    image: usize,
    head: usize,
    rows: Range<usize>,
}

impl Attention {
    /// Whether the heads of a group of one image lie one behind the other, rows and all, so that a tile may go over
    /// several of them.
    fn heads_adjoin(&self) -> bool {
        !self.packed || self.sizes.queries == 1
    }

    /// Rows that a tile is cut out of, and how many such pieces there are.
    fn strip(&self, by_head: bool) -> (usize, usize) {
        let Sizes { batch, heads, kv_heads, queries, .. } = self.sizes;
        if by_head || !self.heads_adjoin() {
            (queries, batch.saturating_mul(heads))
        } else {
            (self.sizes.group().saturating_mul(queries), batch.saturating_mul(kv_heads))
        }
    }

    /// Rows and keys of a block.
    fn block(&self, by_head: bool) -> (usize, usize) {
        let (rows, strips) = self.strip(by_head);
        let mut height = rows.clamp(1, ROWS);
        while height > LEAST_ROWS && strips.saturating_mul(rows.div_ceil(height)) < TILES {
            height = (height / 2).max(LEAST_ROWS);
        }
        let keys = if height <= super::contraction::SKINNY { KEYS_OF_FEW } else { KEYS };
        (height, self.sizes.total().clamp(1, keys))
    }

    /// Multiply–adds of the whole.
    fn work(&self) -> usize {
        let Sizes { batch, heads, queries, width, value_width, .. } = self.sizes;
        [heads, queries, self.sizes.total(), width.saturating_add(value_width)]
            .iter()
            .fold(batch, |n, extent| n.saturating_mul(*extent))
    }

    /// Scratch bytes that a thread needs.
    fn scratch_each<T: Panel>(&self) -> usize {
        let each = |by_head| Workspace::<T>::elements(self.sizes, self.block(by_head));
        each(false).max(each(true)).saturating_mul(size_of::<T::Compute>())
    }

    /// Scratch bytes for `threads` threads.
    pub(crate) fn scratch<T: Panel>(&self, threads: usize) -> usize {
        Lanes::bytes(self.scratch_each::<T>(), threads)
    }

    /// The weighted sums of values.
    pub(crate) fn attend<T: Panel>(
        &self,
        context: RunContext<'_>,
        operands: &Operands<'_, T>,
        (out, scratch): (&mut [T], &mut [u8]),
    ) -> Result<(), OpError> {
        if out.is_empty() {
            return Ok(());
        }
        let Sizes { batch, heads, kv_heads, queries, value_width, .. } = self.sizes;
        let (height, _) = self.block(false);
        let (rows, strips) = self.strip(false);
        let form = if self.heads_adjoin() {
            (strips, rows, value_width)
        } else {
            (batch, queries, heads * value_width)
        };
        let blocks = Blocks::new(out, form, (height, value_width))?;
        let lanes = Lanes::new(scratch, self.scratch_each::<T>());
        for_each_tile(context, self.work(), lanes, &blocks, &|_, mut block, scratch| {
            let tile = if self.heads_adjoin() {
                let head = block.batch % kv_heads * self.sizes.group();
                Tile { image: block.batch / kv_heads, head, rows: block.rows.clone() }
            } else {
                Tile { image: block.batch, head: block.cols.start / value_width, rows: block.rows.clone() }
            };
            self.tile(context, operands, &tile, &mut block.out, scratch)
        })
    }

    /// One tile of the result.
    fn tile<T: Panel>(
        &self,
        context: RunContext<'_>,
        operands: &Operands<'_, T>,
        tile: &Tile,
        out: &mut MatrixMut<'_, T>,
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let (height, value_width) = (tile.rows.len(), self.sizes.value_width);
        let space = Workspace::<T>::new(scratch, self.sizes, self.block(false))?;
        self.load_queries(operands, tile, space.queries)?;
        let mut rows = Rows::new(self, operands, tile);
        let sums = &mut space.sums[..height * value_width];
        sums.fill(T::Compute::zero());
        for keys in self.key_blocks(rows.seen(), space.keys) {
            context.interrupt.check()?;
            let count = keys.range.len();
            let scores = &mut space.scores[..height * count];
            self.products(operands, tile, &keys, (&*space.queries, &mut *space.panel), scores)?;
            for (r, scores) in scores.chunks_exact_mut(count).enumerate() {
                self.add_bias(operands, tile, r, &rows, keys.range.start, scores)?;
                let rescale = rows.absorb(r, scores);
                if rescale != T::Compute::one() {
                    let sums = &mut sums[r * value_width..][..value_width];
                    sums.iter_mut().for_each(|y| *y = y.mul(rescale));
                }
            }
            let weights = Matrix::new(scores, (height, count), (count, 1))?;
            let values = self.load_values(operands, tile, &keys, space.panel)?;
            add_product(&mut MatrixMut::new(sums, height, value_width)?, weights, values, true)?;
        }
        for (r, sums) in sums.chunks_exact(value_width).enumerate() {
            let factor = rows.inverse_sum(r);
            out.row(r).iter_mut().zip(sums).for_each(|(y, sum)| {
                *y = factor.map_or_else(|| T::store(T::Compute::zero()), |f| T::store(sum.mul(f)));
            });
        }
        Ok(())
    }
}
