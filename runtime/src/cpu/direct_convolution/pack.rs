//! Weights in blocks of filters: of each block, for each channel and tap, one weight of each filter.

use super::tile::block_rows;
use crate::cpu::simd::Level;
use crate::error::OpError;
use crate::memory::{Budget, Buffer};

/// Filters of a group below which blocks would be mostly empty.
const LEAST_FILTERS: usize = 4;
/// Bytes read from a constant between two calls to let go of them.
const PIECE: usize = 1 << 20;

/// Packed weights; the last block of a group is filled with zeros.
#[derive(Debug)]
pub(crate) struct PackedFilters {
    level: Level,
    rows: usize,
    data: Buffer,
}

impl PackedFilters {
    /// What reads them.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Filters of a block.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of group `group`, of `each` weights per filter of a block.
    pub(super) fn group(&self, group: usize, each: usize) -> &[f32] {
        let size = each * self.rows;
        &self.data.elements::<f32>()[group * size..][..size]
    }
}

/// Whether `filters` filters of a group are read as they are in the model.
pub(crate) fn is_few(filters: usize) -> bool {
    filters < LEAST_FILTERS
}

/// Packs `[groups · filters, depth]`, little-endian f32 at any address, for `level`; `None` for groups of few filters,
/// which are read as they are.
pub(crate) fn pack(
    level: Level,
    source: &[u8],
    (groups, filters, depth): (usize, usize, usize),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<Option<PackedFilters>, OpError> {
    if is_few(filters) || depth == 0 {
        return Ok(None);
    }
    let (rows, row_bytes) = (block_rows(level), depth * size_of::<f32>());
    let blocks = filters.div_ceil(rows);
    let size = groups.checked_mul(blocks).and_then(|n| n.checked_mul(rows)?.checked_mul(depth));
    let mut data = Buffer::zeroed_for::<f32>(size.ok_or_else(|| budget.overflow())?, budget)?;
    let to = data.elements_mut::<f32>().chunks_exact_mut(rows * depth);
    let mut released = 0;
    for (at, block) in to.enumerate() {
        let (group, first) = (at / blocks, at % blocks * rows);
        let from = group * filters + first;
        let count = rows.min(filters - first);
        for (r, row) in source[from * row_bytes..][..count * row_bytes].chunks_exact(row_bytes).enumerate() {
            let values = row.as_chunks::<4>().0;
            for (line, value) in block.chunks_exact_mut(rows).zip(values) {
                line[r] = f32::from_le_bytes(*value);
            }
        }
        let read = (from + count) * row_bytes;
        if read - released >= PIECE || read == source.len() {
            release(&source[released..read]);
            released = read;
        }
    }
    Ok(Some(PackedFilters { level, rows, data }))
}
