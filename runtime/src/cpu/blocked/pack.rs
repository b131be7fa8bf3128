//! Weights in the order in which they are read. Those of windows over all channels: for each group of filters, for each
//! term, one weight of each filter. Those at the points of Winograd's tiles: for each group, for each point, for each
//! channel the same. Those of channels by themselves: for each block, for each tap, one weight of each channel. Those of the
//! matrix unit: for each two blocks of filters, for each 32 channels, for each tap, the tiles of all parts.

use super::BLOCK;
use super::planes::unit;
use super::sweep::groups;
use crate::cpu::amx::{DEPTH, Line, Unit, tile_lines};
use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::cpu::winograd::weights;
use crate::error::OpError;
use crate::memory::{Budget, Buffer};
use std::ops::Range;

/// Bytes read from a constant between two calls to let go of them.
const PIECE: usize = 1 << 20;
/// Taps of the windows of tiles.
const TAPS: usize = 9;
/// Most points of a tile.
const POINTS: usize = 36;

/// What they are multiplied by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Windows, or channels by themselves.
    Terms,
    /// The points of tiles of so many outputs along an axis.
    Points(usize),
    /// Windows, on the matrix unit.
    Matrix(Unit),
}

/// Packed weights.
#[derive(Debug)]
pub(crate) struct PackedBlocks {
    pub(super) form: Form,
    /// Elements of a filter.
    each: usize,
    data: Buffer,
}

impl PackedBlocks {
    /// The weights of the filters of a group, or of the channels of a block.
    pub(super) fn of(&self, filters: Range<usize>) -> &[f32] {
        &self.data.elements::<f32>()[filters.start * self.each..filters.end * self.each]
    }

    /// The tiles of one block of filters or two.
    pub(super) fn lines(&self, filters: Range<usize>) -> &[Line] {
        bytemuck::cast_slice(self.of(filters))
    }
}

fn zeroed(filters: usize, each: Option<usize>, budget: &Budget) -> Result<Buffer, OpError> {
    let count = each.and_then(|each| filters.checked_mul(each));
    Buffer::zeroed_for::<f32>(count.ok_or_else(|| budget.overflow())?, budget)
}

/// Calls `take` with the rows of each block of filters and the first of them, and lets go of what was read.
fn for_each_block(
    source: &[u8],
    row: usize,
    release: &dyn Fn(&[u8]),
    mut take: impl FnMut(usize, [&[[u8; 4]]; BLOCK]),
) {
    let (bytes, mut released) = (row * size_of::<f32>(), 0);
    if bytes == 0 {
        return;
    }
    for (block, part) in source.chunks_exact(bytes * BLOCK).enumerate() {
        let mut rows: [&[[u8; 4]]; BLOCK] = [&[]; BLOCK];
        for (to, from) in rows.iter_mut().zip(part.chunks_exact(bytes)) {
            *to = from.as_chunks::<4>().0;
        }
        take(block * BLOCK, rows);
        let read = (block + 1) * bytes * BLOCK;
        if read - released >= PIECE || read == source.len() {
            release(&source[released..read]);
            released = read;
        }
    }
}

/// The group that filter `filter` of `filters` is in.
fn group_of(filters: usize, filter: usize) -> (usize, usize) {
    groups(0..filters).find(|(first, width)| filter < first + width).unwrap_or((filter, BLOCK))
}

/// Windows of `taps` taps over all channels: `[filters, channels, taps]`.
pub(super) fn direct(
    source: &[u8],
    (filters, channels, taps): (usize, usize, usize),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<PackedBlocks, OpError> {
    let each = channels.checked_mul(taps);
    let mut data = zeroed(filters, each, budget)?;
    let each = channels * taps;
    let to = data.elements_mut::<f32>();
    let unit = unit(channels);
    for_each_block(source, each, release, |filter, rows| {
        let (first, width) = group_of(filters, filter);
        let group = &mut to[first * each..(first + width) * each];
        for at in 0..each {
            let (channel, tap) = (at / taps, at % taps);
            let term = (channel / unit * taps + tap) * unit + channel % unit;
            let line = &mut group[term * width + filter - first..][..BLOCK];
            for (to, row) in line.iter_mut().zip(&rows) {
                *to = f32::from_le_bytes(row[at]);
            }
        }
    });
    Ok(PackedBlocks { form: Form::Terms, each, data })
}

/// Windows of `taps` taps over all channels, `[filters, channels, taps]`, for the matrix unit; `None` where a weight is no
/// ordinary number.
pub(super) fn matrix(
    unit: Unit,
    source: &[u8],
    (filters, channels, taps): (usize, usize, usize),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<Option<PackedBlocks>, OpError> {
    let of_filter = tile_lines(1) / BLOCK * size_of::<Line>() / size_of::<f32>();
    let each = channels.div_ceil(DEPTH).checked_mul(taps).and_then(|terms| terms.checked_mul(of_filter));
    let mut data = zeroed(filters, each, budget)?;
    let (each, row) = (each.unwrap_or(0), channels * taps * size_of::<f32>());
    let mut released = 0;
    for first in (0..filters).step_by(2 * BLOCK) {
        let groups = ((filters - first) / BLOCK).min(2);
        let last = first + groups * BLOCK;
        let to: &mut [Line] =
            bytemuck::cast_slice_mut(&mut data.elements_mut::<f32>()[first * each..last * each]);
        for (term, to) in to.chunks_exact_mut(tile_lines(groups)).enumerate() {
            let (channel, tap) = (term / taps * DEPTH, term % taps);
            let mut lines = [[0.0f32; 2 * BLOCK]; DEPTH];
            for (k, line) in lines.iter_mut().enumerate().take(channels - channel) {
                for (filter, to) in line.iter_mut().enumerate().take(groups * BLOCK) {
                    let at = (first + filter) * row + ((channel + k) * taps + tap) * size_of::<f32>();
                    *to = bytemuck::pod_read_unaligned(&source[at..at + size_of::<f32>()]);
                }
            }
            let (low, high) = lines.split_at(BLOCK);
            if !unit.stand_for(lines.as_flattened()) {
                return Ok(None);
            }
            unit.split_columns([low, high], (0, groups), to);
        }
        if last * row - released >= PIECE || last == filters {
            release(&source[released..last * row]);
            released = last * row;
        }
    }
    Ok(Some(PackedBlocks { form: Form::Matrix(unit), each, data }))
}

/// Channels by themselves: `[channels, taps]`.
pub(super) fn depthwise(
    source: &[u8],
    (channels, taps): (usize, usize),
    budget: &Budget,
) -> Result<PackedBlocks, OpError> {
    let mut data = zeroed(channels, Some(taps), budget)?;
    let to = data.elements_mut::<f32>();
    for_each_block(source, taps, &|_| (), |channel, rows| {
        for (tap, line) in to[channel * taps..].chunks_exact_mut(BLOCK).enumerate().take(taps) {
            for (to, row) in line.iter_mut().zip(&rows) {
                *to = f32::from_le_bytes(row[tap]);
            }
        }
    });
    Ok(PackedBlocks { form: Form::Terms, each: taps, data })
}

/// Windows of 3×3 over all channels, `[filters, channels, 3, 3]`, for tiles of `size`: `G · w · Gᵀ`, in f64 and rounded once.
pub(super) fn points(
    source: &[u8],
    (filters, channels, size): (usize, usize, usize),
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<PackedBlocks, OpError> {
    let points = (size + 2) * (size + 2);
    let mut data = zeroed(filters, channels.checked_mul(points), budget)?;
    let (each, to) = (channels * points, data.elements_mut::<f32>());
    for_each_block(source, channels * TAPS, release, |filter, rows| {
        let (first, width) = group_of(filters, filter);
        let group = &mut to[first * each..(first + width) * each];
        for channel in 0..channels {
            let mut taps = [[0.0; BLOCK]; TAPS];
            for (tap, values) in taps.iter_mut().enumerate() {
                for (to, row) in values.iter_mut().zip(&rows) {
                    *to = f64::from(f32::from_le_bytes(row[channel * TAPS + tap]));
                }
            }
            let mut made = [[0.0; BLOCK]; POINTS];
            f32::run(Level::detect(), Transform { size, taps: &taps, made: &mut made });
            for (point, made) in made.iter().enumerate().take(points) {
                let at = (point * channels + channel) * width + filter - first;
                group[at..at + BLOCK].copy_from_slice(made);
            }
        }
    });
    Ok(PackedBlocks { form: Form::Points(size), each, data })
}

/// The windows of a block of filters, at all points.
struct Transform<'s> {
    size: usize,
    taps: &'s [[f64; BLOCK]; TAPS],
    made: &'s mut [[f32; BLOCK]; POINTS],
}

impl Work for Transform<'_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) {
        let Self { size, taps, made } = self;
        let across = size + 2;
        // Down the columns of the window, then along the lines of what that gives.
        let mut columns = [[[0.0f64; BLOCK]; 3]; 6];
        for x in 0..3 {
            for lane in 0..BLOCK {
                let column = weights(size, [taps[x][lane], taps[3 + x][lane], taps[6 + x][lane]]);
                for (line, value) in columns.iter_mut().zip(column) {
                    line[x][lane] = value;
                }
            }
        }
        for (y, line) in columns.iter().enumerate().take(across) {
            for lane in 0..BLOCK {
                let values = weights(size, [line[0][lane], line[1][lane], line[2][lane]]);
                for (x, value) in values.into_iter().enumerate().take(across) {
                    made[y * across + x][lane] = value as f32;
                }
            }
        }
    }
}
