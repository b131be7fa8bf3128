//! The weights' side of the products, `G · w · Gᵀ`, computed in f64 and rounded once: for each block of filters, for each
//! point, for each channel, one value of each filter of the block.

use super::matrices::weights;
use super::product::filters_of;
use crate::cpu::simd::Level;
use crate::error::OpError;
use crate::memory::{Budget, Buffer};

/// Bytes read from a constant between two calls to let go of them.
const PIECE: usize = 1 << 20;
/// Taps of a window.
const TAPS: usize = 9;

/// Packed weights; the last block is filled with zeros.
#[derive(Debug)]
pub(crate) struct PackedPoints {
    level: Level,
    size: usize,
    channels: usize,
    filters: usize,
    data: Buffer,
}

impl PackedPoints {
    /// What reads them.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Outputs of a tile along an axis.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Channels of a filter.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// How many filters there are.
    pub(super) fn filters(&self) -> usize {
        self.filters
    }

    /// Block `index` of the filters.
    pub(super) fn block(&self, index: usize) -> &[f32] {
        let points = (self.size + 2) * (self.size + 2);
        let each = points * self.channels * filters_of(self.level);
        &self.data.elements::<f32>()[index * each..][..each]
    }
}

/// Packs `[filters, channels, 3, 3]`, little-endian f32 at any address, for tiles of `size` on `level`.
pub(crate) fn pack(
    level: Level,
    source: &[u8],
    (filters, channels, size): (usize, usize, usize),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<PackedPoints, OpError> {
    let (block, points) = (filters_of(level), (size + 2) * (size + 2));
    let each = points.checked_mul(channels).and_then(|n| n.checked_mul(block));
    let all = each.and_then(|n| n.checked_mul(filters.div_ceil(block)));
    let mut data = Buffer::zeroed_for::<f32>(all.ok_or_else(|| budget.overflow())?, budget)?;
    let (row, mut released) = (channels * TAPS * size_of::<f32>(), 0);
    for (index, from) in source.chunks_exact(row).enumerate().take(filters) {
        let each = points * channels * block;
        let to = &mut data.elements_mut::<f32>()[index / block * each..][..each];
        let lane = index % block;
        for (channel, window) in from.as_chunks::<4>().0.as_chunks::<TAPS>().0.iter().enumerate() {
            let value = |at: usize| f64::from(f32::from_le_bytes(window[at]));
            // Down the columns of the window, then along the lines of what that gives.
            let mut columns = [[0.0; 3]; 6];
            for x in 0..3 {
                let column = weights(size, [value(x), value(3 + x), value(6 + x)]);
                for (line, value) in columns.iter_mut().zip(column) {
                    line[x] = value;
                }
            }
            for (y, line) in columns.iter().enumerate().take(size + 2) {
                for (x, value) in weights(size, *line).into_iter().enumerate().take(size + 2) {
                    to[((y * (size + 2) + x) * channels + channel) * block + lane] = value as f32;
                }
            }
        }
        let read = (index + 1) * row;
        if read - released >= PIECE || read == source.len() {
            release(&source[released..read]);
            released = read;
        }
    }
    Ok(PackedPoints { level, size, channels, filters, data })
}
