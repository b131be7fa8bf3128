//! Weights brought into the order of [`Layout`], once at load for constants and at each run otherwise.

use super::layout::Layout;
use crate::cpu::number::Real;
use crate::error::OpError;
use crate::memory::{Budget, Buffer};
use std::ops::Range;

/// Bytes read from a constant between two calls to let go of them.
const PIECE: usize = 1 << 20;
/// Elements of a row that are moved at once: a cache line of f32.
const STRIP: usize = 16;

/// Packed weights of all directions; what was not constant is absent.
#[derive(Debug)]
pub(crate) struct Weights {
    /// W in panels.
    pub(super) input: Option<Buffer>,
    /// R in panels.
    pub(super) recurrent: Option<Buffer>,
    /// Biases and extras.
    pub(super) vectors: Option<Buffer>,
}

/// Raw bytes of the bias and peephole inputs, where given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vectors<'a> {
    pub(super) bias: Option<&'a [u8]>,
    pub(super) peephole: Option<&'a [u8]>,
}

/// Packs `[directions, gates · hidden, depth]` into a new buffer.
pub(super) fn packed_panels<S: Real>(
    layout: &Layout,
    source: &[u8],
    directions: usize,
    depth: usize,
    budget: &Budget,
    release: &dyn Fn(&[u8]),
) -> Result<Buffer, OpError> {
    let mut buffer = Buffer::zeroed_for::<S::Compute>(directions * layout.panels(depth), budget)?;
    panels::<S>(layout, source, depth, buffer.elements_mut(), release);
    Ok(buffer)
}

/// Packs `[directions, gates · hidden, depth]` into `to`. `release` is told of pieces that were read for the
/// last time.
pub(super) fn panels<S: Real>(
    layout: &Layout,
    source: &[u8],
    depth: usize,
    to: &mut [S::Compute],
    release: &dyn Fn(&[u8]),
) {
    let (per_direction, size) = (layout.panels(depth), size_of::<S>());
    let row_bytes = depth * size;
    let matrix = layout.cell.gates() * layout.hidden * row_bytes;
    if per_direction == 0 || matrix == 0 {
        to.fill(Default::default());
        return;
    }
    for (source, to) in source.chunks_exact(matrix).zip(to.chunks_exact_mut(per_direction)) {
        for (index, group) in layout.groups().iter().enumerate() {
            let (units, width) = (group.units, group.width());
            let rows_of = |gate: usize, units: Range<usize>| {
                let row = (group.first + gate) * layout.hidden;
                &source[(row + units.start) * row_bytes..(row + units.end) * row_bytes]
            };
            let to = &mut to[layout.panels_of(index, depth, 0..layout.padded)];
            let mut released = 0;
            for (block, panel) in to.chunks_exact_mut(width * depth).enumerate() {
                let first = (block * units).min(layout.hidden);
                let last = (first + units).min(layout.hidden);
                for gate in 0..group.gates {
                    let rows = rows_of(gate, first..last);
                    interleave::<S>(rows, depth, panel, width, gate * units, units);
                }
                if (last - released) * row_bytes >= PIECE || last == layout.hidden {
                    (0..group.gates).for_each(|gate| release(rows_of(gate, released..last)));
                    released = last;
                }
            }
        }
    }
    // Pages on the seams of the pieces.
    release(source);
}

/// Element `k` of row `u` of `rows` goes to column `at + u` of row `k` of `panel`; columns up to `units`
/// without a row become zero.
fn interleave<S: Real>(
    rows: &[u8],
    depth: usize,
    panel: &mut [S::Compute],
    width: usize,
    at: usize,
    units: usize,
) {
    let size = size_of::<S>();
    let count = rows.len() / (depth * size);
    for start in (0..depth).step_by(STRIP) {
        let end = (start + STRIP).min(depth);
        for unit in 0..units {
            let lines = panel[start * width..end * width].iter_mut().skip(at + unit).step_by(width);
            if unit < count {
                let row = &rows[(unit * depth + start) * size..(unit * depth + end) * size];
                for (to, from) in lines.zip(row.chunks_exact(size)) {
                    *to = bytemuck::pod_read_unaligned::<S>(from).load();
                }
            } else {
                lines.for_each(|to| *to = Default::default());
            }
        }
    }
}

/// Packs biases and peepholes of all directions into a new buffer.
pub(super) fn packed_vectors<S: Real>(
    layout: &Layout,
    source: Vectors<'_>,
    directions: usize,
    budget: &Budget,
) -> Result<Buffer, OpError> {
    let mut buffer = Buffer::zeroed_for::<S::Compute>(directions * layout.vectors(), budget)?;
    vectors::<S>(layout, source, buffer.elements_mut());
    Ok(buffer)
}

/// Packs biases and peepholes into `to`.
///
/// The biases of W and R are added, except that of the hidden gate of a GRU with `linear_before_reset`, whose
/// recurrent part is multiplied by the reset gate and stands among the extras.
pub(super) fn vectors<S: Real>(layout: &Layout, source: Vectors<'_>, to: &mut [S::Compute]) {
    use crate::cpu::number::Compute as _;
    let (hidden, padded, gates) = (layout.hidden, layout.padded, layout.cell.gates());
    let zero = S::Compute::default();
    to.fill(zero);
    if hidden == 0 {
        return;
    }
    let read = |bytes: Option<&[u8]>, index: usize| {
        let size = size_of::<S>();
        let part = bytes.and_then(|b| b.get(index * size..(index + 1) * size));
        part.map_or(zero, |part| bytemuck::pod_read_unaligned::<S>(part).load())
    };
    let apart = layout.cell == crate::ops::recurrence::Cell::Gru { linear_before_reset: true };
    for (direction, to) in to.chunks_exact_mut(layout.vectors()).enumerate() {
        let (biases, extras) = to.split_at_mut(layout.panels(1));
        let bias = |row: usize, unit: usize| read(source.bias, (direction * 2 * gates + row) * hidden + unit);
        for (index, group) in layout.groups().iter().enumerate() {
            let biases = &mut biases[layout.panels_of(index, 1, 0..padded)];
            #[allow(clippy::needless_range_loop, reason = "extras are there for one form of the GRU only")]
            for unit in 0..hidden {
                for gate in 0..group.gates {
                    let row = group.first + gate;
                    let at = unit / group.units * group.width() + gate * group.units + unit % group.units;
                    let (input, recurrent) = (bias(row, unit), bias(gates + row, unit));
                    if apart && row == 2 {
                        biases[at] = input;
                        extras[unit] = recurrent;
                    } else {
                        biases[at] = input.add(recurrent);
                    }
                }
            }
        }
        if let Some(peephole) = source.peephole {
            for (row, extras) in extras.chunks_exact_mut(padded).enumerate() {
                for (unit, extra) in extras[..hidden].iter_mut().enumerate() {
                    *extra = read(Some(peephole), (direction * 3 + row) * hidden + unit);
                }
            }
        }
    }
}

/// `count` elements of `T` from the front of `rest`, aligned like it when its length allows.
#[allow(clippy::mut_mut, reason = "the slice itself is moved on")]
pub(super) fn take<'a, T: bytemuck::Pod>(
    rest: &mut &'a mut [u8],
    count: usize,
) -> Result<&'a mut [T], OpError> {
    let short = || OpError::internal("recurrent scratch memory is too small");
    let bytes = spaced::<T>(count).ok_or_else(short)?;
    let (part, tail) = std::mem::take(rest).split_at_mut_checked(bytes).ok_or_else(short)?;
    *rest = tail;
    let part = &mut part[..count * size_of::<T>()];
    bytemuck::try_cast_slice_mut(part)
        .map_err(|_| OpError::internal("recurrent scratch memory is not aligned"))
}

/// Bytes that [`take`] uses for `count` elements of `T`: whole cache lines.
pub(super) fn spaced<T>(count: usize) -> Option<usize> {
    count.checked_mul(size_of::<T>())?.checked_next_multiple_of(64)
}
