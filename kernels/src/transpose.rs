//! # Transposes through shared memory
//! The [`copy`](crate::copy) of a box of which one axis has neighbours in X and another one neighbours in Y: element by
//! element, each element of Y's lines would read a sector of X. A block takes tiles of 32 × 32 elements of these two axes
//! instead: it reads X's lines into shared memory and writes Y's out of it, both in whole lines. The other axes number the
//! tiles.
//!
//! A tile's rows are 33 places apart, each of at least four bytes, so that neither what a warp writes along a row nor what
//! it reads along a column meets in a bank. Nothing is computed, so that results are exact.
//!
//! It is taken where lines of X are at least a sector long, X's step along Y's lines is no less, and tiles are at least a
//! quarter full. Elements of 16 bytes are copied one by one, as half a sector each.
//!
//! Grid `min(tiles, 32 per multiprocessor)`, block 256, shared memory `32 · 33` places of 4 or 8 bytes.

use crate::copy::{Axis, MOST_AXES, Params};
use crate::device::math::divide;
use crate::device::{Plain, Shared, shared, thread, warp};
use crate::elements::THREADS;
use crate::entry;
use crate::launch::Entry;

/// Elements of a tile along either axis.
const TILE: u32 = 32;
/// Places between rows.
const PITCH: u32 = TILE + 1;
/// Rows that a block moves at once.
const ROWS: u32 = THREADS / TILE;
/// Bytes that a device moves at least.
const SECTOR: u64 = 32;

/// Bytes of shared memory for elements of `size` bytes.
pub(crate) const fn shared_bytes(size: u32) -> u32 {
    TILE * PITCH * if size < 4 { 4 } else { size }
}

/// What an element of a tile lies in, in shared memory.
trait Staged: Plain {
    type Place: Plain;
    fn widened(self) -> Self::Place;
    fn narrowed(place: Self::Place) -> Self;
}

/// In a place that is as large or larger.
macro_rules! staged {
    ($($t:ty, $place:ty;)*) => { $(
        impl Staged for $t {
            type Place = $place;
            #[inline(always)]
            fn widened(self) -> $place { self.into() }
            #[inline(always)]
            fn narrowed(place: $place) -> Self { place as $t }
        }
    )* };
}

staged! {
    u8, u32;
    u16, u32;
    u32, u32;
    u64, u64;
}

/// Where tile `number` begins on both sides, and how many elements of it there are along X's lines and along Y's.
#[inline(always)]
fn tile(p: &Params, number: u32) -> ([i64; 2], [u32; 2]) {
    // Axis 0 has neighbours in Y, axis 1 in X.
    let (rest, along_y) = divide(number, p.extents[0].div_ceil(TILE));
    let (mut rest, along_x) = divide(rest, p.extents[1].div_ceil(TILE));
    let (along_y, along_x) = (along_y * TILE, along_x * TILE);
    let mut x = p.x_first as i64 + i64::from(along_x) + i64::from(along_y) * p.x_steps[0];
    let mut y = p.y_first as i64 + i64::from(along_y) + i64::from(along_x) * p.y_steps[1];
    for axis in 2..MOST_AXES {
        let (quotient, at) = divide(rest, p.extents[axis]);
        x += i64::from(at) * p.x_steps[axis];
        y += i64::from(at) * p.y_steps[axis];
        rest = quotient;
    }
    ([x, y], [p.extents[1] - along_x, p.extents[0] - along_y])
}

/// Every thread.
#[inline(always)]
fn run<T: Staged>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    let staged: Shared<T::Place> = shared::array(0, TILE * PITCH);
    let (lane, first) = (warp::lane_id(), warp::warp_id());
    p.elements.each_of_blocks(|number| {
        let ([from, to], [width, height]) = tile(&p, number);
        for part in 0..TILE / ROWS {
            let row = first + part * ROWS;
            if row < height && lane < width {
                let at = from + i64::from(lane) + i64::from(row) * p.x_steps[0];
                staged.store((row * PITCH + lane) as usize, x.load(at as usize).widened());
            }
        }
        thread::sync_threads();
        for part in 0..TILE / ROWS {
            let column = first + part * ROWS;
            if column < width && lane < height {
                let at = to + i64::from(lane) + i64::from(column) * p.y_steps[1];
                y.store(at as usize, T::narrowed(staged.load((lane * PITCH + column) as usize)));
            }
        }
        // The next tile takes the same places.
        thread::sync_threads();
    });
}

entry!(
    /// Elements of 1 byte.
    TRANSPOSE_1 = transpose_1(Params): run::<u8>, THREADS, with_shared(shared_bytes(1))
);
entry!(
    /// Elements of 2 bytes.
    TRANSPOSE_2 = transpose_2(Params): run::<u16>, THREADS, with_shared(shared_bytes(2))
);
entry!(
    /// Elements of 4 bytes.
    TRANSPOSE_4 = transpose_4(Params): run::<u32>, THREADS, with_shared(shared_bytes(4))
);
entry!(
    /// Elements of 8 bytes.
    TRANSPOSE_8 = transpose_8(Params): run::<u64>, THREADS, with_shared(shared_bytes(8))
);

/// A box by tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    pub(crate) entry: &'static Entry<Params>,
    /// The axis with neighbours in Y, that with neighbours in X, and the others.
    pub(crate) axes: [Axis; MOST_AXES],
    pub(crate) count: u64,
}

/// The tiles of a box of these axes, elements of `size` bytes, if they are worth it.
pub(crate) fn tiles(size: u32, axes: &[Axis; MOST_AXES]) -> Option<Tiles> {
    let entry: &'static Entry<Params> = match size {
        1 => &TRANSPOSE_1,
        2 => &TRANSPOSE_2,
        4 => &TRANSPOSE_4,
        8 => &TRANSPOSE_8,
        _ => return None,
    };
    let along = |line: fn(&Axis) -> i64| axes.iter().position(|axis| axis.0 > 1 && line(axis) == 1);
    let (of_x, of_y) = (along(|axis| axis.1)?, along(|axis| axis.2)?);
    let bytes = |elements: u64| elements.saturating_mul(size.into());
    if of_x == of_y || bytes(axes[of_x].0) < SECTOR || bytes(axes[of_y].1.unsigned_abs()) < SECTOR {
        return None;
    }
    let mut sorted = *axes;
    sorted.swap(0, of_y);
    // What stood first now stands where the other one was.
    sorted.swap(1, if of_x == 0 { of_y } else { of_x });
    let of_tiles = |axis: &Axis| axis.0.div_ceil(TILE.into());
    let outer: u64 = sorted[2..].iter().map(|axis| axis.0).product();
    let tiles = of_tiles(&sorted[0]) * of_tiles(&sorted[1]);
    let quarter_full = 4 * sorted[0].0 * sorted[1].0 >= tiles * u64::from(TILE * TILE);
    quarter_full.then_some(Tiles { entry, axes: sorted, count: tiles * outer })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(size: u32, axes: &[Axis]) -> Option<Tiles> {
        let mut all = [(1, 0, 0); MOST_AXES];
        all[..axes.len()].copy_from_slice(axes);
        tiles(size, &all)
    }

    #[test]
    fn tiles_are_for_transposes_that_fill_them() {
        let matrix = of(4, &[(100, 70, 1), (70, 1, 100)]).expect("a transpose");
        assert_eq!((matrix.count, matrix.axes[0].0, matrix.axes[1].0), (4 * 3, 100, 70));
        assert_eq!(matrix.entry.kernel.entry, "transpose_4");
        // Channels to the end: images and planes outside.
        let last = of(2, &[(64, 900, 1), (900, 1, 64), (8, 57_600, 57_600)]).expect("a transpose");
        assert_eq!((last.count, last.axes[0].0), (2 * 29 * 8, 64));
        // The axes may stand in any order.
        let turned = of(8, &[(5, 8100, 8100), (90, 1, 90), (90, 90, 1)]).expect("a transpose");
        assert_eq!(turned.axes[..3], [(90, 90, 1), (90, 1, 90), (5, 8100, 8100)]);
        let first = of(8, &[(90, 1, 90), (5, 8100, 8100), (90, 90, 1)]).expect("a transpose");
        assert_eq!(first.axes[..3], [(90, 90, 1), (90, 1, 90), (5, 8100, 8100)]);
        let swapped = of(1, &[(90, 1, 90), (90, 90, 1)]).expect("a transpose");
        assert_eq!(swapped.axes[..2], [(90, 90, 1), (90, 1, 90)]);
        assert!(of(4, &[(64, 1, 1), (64, 64, 100)]).is_none(), "both sides have the same lines");
        assert!(of(4, &[(64, 0, 1), (64, 1, 64)]).is_none(), "a repetition");
        assert!(of(4, &[(100, 4, 1), (4, 1, 100)]).is_none(), "lines shorter than a sector");
        assert!(of(4, &[(3, 100, 1), (100, 1, 3)]).is_none(), "tiles that are hardly filled");
        assert!(of(16, &[(100, 70, 1), (70, 1, 100)]).is_none(), "half a sector each");
    }
}
