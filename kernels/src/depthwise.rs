//! # Depthwise convolutions
//! `y[n, g·M + m, p] = program(Σ_t w[g·M + m, t] · x[n, g, p·stride + t·dilation − begin], …)` over up to three spatial axes: each
//! filter reads one channel. The shape and its operands are those of [`conv`](crate::conv), with one channel to a group.
//!
//! There is no product of matrices in it, an input element is all there is to reuse: a block computes a tile of `rows × width`
//! positions of the last two axes for as many planes as make 1024 sums, all powers of two. What the tile's windows cover of
//! each plane passes through shared memory, one tap of the first axis after the other, zeros where it is outside the input;
//! a row is stored as four, one for each remainder of the column by four, so that threads side by side, each of which makes
//! four sums side by side, read words side by side. Where taps are as far apart as positions, four windows share all but one
//! element of each step to the next.
//!
//! Sums are f32, in the order of the taps. The error is that of such a sum: at most `(k + 2) · 2⁻²⁴ · Σ|w·x|`, and the
//! rounding to Y's type.
//!
//! Grid `⌈planes / planes of a block⌉ × tiles of a plane × positions along the first axis`, block 256, shared memory the
//! larger of what is staged, at most 48 KiB, and 4096 bytes of sums with 4 KiB for each register of the program.

use crate::conv::{Axis, Buffers, MOST_AXES, Shape};
use crate::device::math::{divide, fma_f32};
use crate::device::{BF16, F16, Global, Shared, Vector, shared, thread};
use crate::element::{Element, Real};
use crate::entry;
use crate::epilogue::{Epilogue, MOST_SLOTS, Slab, shared_bytes};
use crate::launch::{Device, Entry, Geometry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    w: Global<u8>,
    /// Y, and what comes before it.
    epilogue: Epilogue,
    axes: [Axis; MOST_AXES],
    /// Planes of Y, filters of all groups, and filters of one.
    planes: u32,
    filters: u32,
    filters_of_group: u32,
    tile: Tile,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 232);

/// What a block computes, as powers of two, and what it stages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
struct Tile {
    planes_log: u32,
    rows_log: u32,
    width_log: u32,
    /// Tiles side by side.
    across: u32,
    /// Rows and columns of X under the tile.
    staged_rows: u32,
    staged_columns: u32,
    /// Floats of a quarter of a staged row.
    quarter: u32,
    /// Threads that stage one row together.
    stagers_log: u32,
}

/// Threads of a block.
pub const THREADS: u32 = 256;
/// Sums of a thread, neighbours along the last axis.
const EACH: u32 = 4;
/// Sums of a block.
const SUMS: u32 = THREADS * EACH;
/// Bytes of the sums.
const SLAB: u32 = SUMS * 4;
/// Most bytes that are staged.
const MOST_STAGED: u32 = 48 * 1024;
const MOST_SHARED: u32 = {
    let slab = shared_bytes(SLAB, THREADS, MOST_SLOTS);
    if slab > MOST_STAGED { slab } else { MOST_STAGED }
};

impl Tile {
    /// The tile for these axes: as wide and high as the plane asks for, and less where its windows do not fit.
    fn new(axes: &[Axis; MOST_AXES]) -> Result<Self, Reject> {
        let [_, of_rows, of_columns] = axes;
        let log = |n: u32| n.max(1).next_power_of_two().trailing_zeros();
        let most = SUMS.trailing_zeros();
        let mut rows = log(of_rows.output).min(4);
        let mut width = log(of_columns.output).clamp(2, most - rows);
        let mut planes = most - rows - width;
        loop {
            let tile = Self::of(axes, planes, rows, width);
            let staged = tile.map_or(u64::MAX, |tile| tile.staged_bytes());
            match tile {
                Some(tile) if staged <= MOST_STAGED.into() => return Ok(tile),
                _ if planes > 0 => planes -= 1,
                _ if rows > 0 => rows -= 1,
                _ if width > 2 => width -= 1,
                _ => {
                    let limit = MOST_STAGED.into();
                    return Err(Reject::Extent { name: "bytes of a window", got: staged, limit });
                }
            }
        }
    }

    fn of(axes: &[Axis; MOST_AXES], planes_log: u32, rows_log: u32, width_log: u32) -> Option<Self> {
        let reach = |axis: &Axis, positions: u32| {
            let windows = (positions - 1).checked_mul(axis.stride)?;
            axis.kernel.checked_sub(1)?.checked_mul(axis.dilation)?.checked_add(windows)?.checked_add(1)
        };
        let staged_rows = reach(&axes[1], 1 << rows_log)?;
        let staged_columns = reach(&axes[2], 1 << width_log)?;
        let stagers = staged_columns.checked_next_power_of_two()?.min(THREADS);
        Some(Self {
            planes_log,
            rows_log,
            width_log,
            across: axes[2].output.div_ceil(1 << width_log),
            staged_rows,
            staged_columns,
            quarter: staged_columns.div_ceil(EACH),
            stagers_log: stagers.trailing_zeros(),
        })
    }

    fn staged_bytes(&self) -> u64 {
        (4 * u64::from(EACH) * u64::from(self.quarter) * u64::from(self.staged_rows)) << self.planes_log
    }

    /// Where a plane's staged row begins.
    #[inline(always)]
    fn row(&self, plane: u32, row: u32) -> u32 {
        (plane * self.staged_rows + row) * EACH * self.quarter
    }

    /// Where a column of a staged row lies.
    #[inline(always)]
    fn column(&self, column: u32) -> u32 {
        column % EACH * self.quarter + column / EACH
    }
}

/// Where a block's tile lies.
#[derive(Clone, Copy)]
struct Place {
    plane: u32,
    position: [u32; MOST_AXES],
}

impl Params {
    #[inline(always)]
    fn place(&self) -> Place {
        let (down, across) = divide(thread::block_idx_y(), self.tile.across);
        let plane = thread::block_idx_x() << self.tile.planes_log;
        let position = [thread::block_idx_z(), down << self.tile.rows_log, across << self.tile.width_log];
        Place { plane, position }
    }

    /// Brings what the tap `tap` of the first axis needs of X.
    #[inline(always)]
    fn stage<T: Real>(&self, stage: Shared<f32>, place: Place, tap: u32) {
        let [a, b, c] = &self.axes;
        let x = self.x.cast::<T>();
        let own = thread::thread_idx_x();
        let (lane, mut row) = (own & ((1 << self.tile.stagers_log) - 1), own >> self.tile.stagers_log);
        let i = (place.position[0] * a.stride + tap * a.dilation).wrapping_sub(a.begin);
        while row < self.tile.staged_rows << self.tile.planes_log {
            let (plane, of_plane) = divide(row, self.tile.staged_rows);
            let j = (place.position[1] * b.stride + of_plane).wrapping_sub(b.begin);
            let inside = place.plane + plane < self.planes && i < a.input && j < b.input;
            let channel = divide(place.plane + plane, self.filters_of_group).0;
            let line =
                (u64::from(channel) * u64::from(a.input) + u64::from(i)) * u64::from(b.input) + u64::from(j);
            let to = stage.offset(self.tile.row(plane, of_plane) as usize);
            let mut column = lane;
            while column < self.tile.staged_columns {
                let k = (place.position[2] * c.stride + column).wrapping_sub(c.begin);
                let mut value = 0.0;
                if inside && k < c.input {
                    value = x.load((line * u64::from(c.input) + u64::from(k)) as usize).widen();
                }
                to.store(self.tile.column(column) as usize, value);
                column += 1 << self.tile.stagers_log;
            }
            row += THREADS >> self.tile.stagers_log;
        }
    }

    /// Adds the products of the tap `tap` of the first axis to the four sums from `column` on of a plane's row.
    #[inline(always)]
    fn add<T: Real>(
        &self,
        sums: &mut [f32; EACH as usize],
        (stage, plane): (Shared<f32>, u32),
        [row, column]: [u32; 2],
        weights: Global<T>,
    ) {
        let [_, b, c] = &self.axes;
        let mut at = 0;
        let mut j = 0;
        while j < b.kernel {
            let line = stage.offset(self.tile.row(plane, row * b.stride + j * b.dilation) as usize);
            let element = |column: u32| line.load(self.tile.column(column) as usize);
            let first = column * c.stride;
            let mut k = 0;
            if c.stride == c.dilation {
                let mut window =
                    [0.0, element(first), element(first + c.stride), element(first + 2 * c.stride)];
                while k < c.kernel {
                    let next = element(first + (k + EACH - 1) * c.stride);
                    window = [window[1], window[2], window[3], next];
                    let weight = weights.load(at).widen();
                    for n in 0..EACH as usize {
                        sums[n] = fma_f32(weight, window[n], sums[n]);
                    }
                    (at, k) = (at + 1, k + 1);
                }
            } else {
                while k < c.kernel {
                    let weight = weights.load(at).widen();
                    for n in 0..EACH {
                        let x = element(first + n * c.stride + k * c.dilation);
                        sums[n as usize] = fma_f32(weight, x, sums[n as usize]);
                    }
                    (at, k) = (at + 1, k + 1);
                }
            }
            j += 1;
        }
    }
}

/// Every thread.
#[inline(always)]
fn run<T: Real>(p: Params) {
    let place = p.place();
    let [a, b, c] = &p.axes;
    let staged = (p.tile.staged_rows * EACH * p.tile.quarter) << p.tile.planes_log;
    let stage = shared::array::<f32>(0, staged);
    // The thread's first sum within the tile.
    let own = thread::thread_idx_x() * EACH;
    let column = own & ((1 << p.tile.width_log) - 1);
    let row = own >> p.tile.width_log & ((1 << p.tile.rows_log) - 1);
    let plane = own >> p.tile.width_log >> p.tile.rows_log;
    let there = plane >> p.tile.planes_log == 0 && place.plane + plane < p.planes;
    let filter = divide(place.plane + plane, p.filters).1;
    let taps = u64::from(b.kernel) * u64::from(c.kernel);
    let weights = p.w.cast::<T>().offset((u64::from(filter) * u64::from(a.kernel) * taps) as usize);
    let mut sums = [0.0; EACH as usize];
    let mut tap = 0;
    while tap < a.kernel {
        p.stage::<T>(stage, place, tap);
        thread::sync_threads();
        if there {
            let of_tap = weights.offset((u64::from(tap) * taps) as usize);
            p.add::<T>(&mut sums, (stage, plane), [row, column], of_tap);
        }
        thread::sync_threads();
        tap += 1;
    }
    let out = shared::array::<f32>(0, SUMS);
    out.cast::<Vector<f32, 4>>().store(thread::thread_idx_x() as usize, Vector(sums));
    thread::sync_threads();
    let width = 1 << p.tile.width_log;
    let slab = Slab {
        sums: out,
        rows: 1 << p.tile.planes_log << p.tile.rows_log,
        width,
        pitch: width,
        registers: shared::array(SLAB, p.epilogue.slots() * THREADS),
    };
    p.epilogue.store_slab(slab, |line, column| {
        let plane = place.plane + (line >> p.tile.rows_log);
        let row = place.position[1] + (line & ((1 << p.tile.rows_log) - 1));
        let column = place.position[2] + column;
        if plane >= p.planes || row >= b.output || column >= c.output {
            return (0, 0);
        }
        let first =
            (u64::from(plane) * u64::from(a.output) + u64::from(place.position[0])) * u64::from(b.output);
        ((first + u64::from(row)) * u64::from(c.output) + u64::from(column), c.output - column)
    });
}

entry!(
    /// bf16.
    DEPTHWISE_BF16 = depthwise_bf16(Params): run::<BF16>, THREADS, with_shared(MOST_SHARED), with_min_blocks(3)
);
entry!(
    /// f16.
    DEPTHWISE_F16 = depthwise_f16(Params): run::<F16>, THREADS, with_shared(MOST_SHARED), with_min_blocks(3)
);
entry!(
    /// f32.
    DEPTHWISE_F32 = depthwise_f32(Params): run::<f32>, THREADS, with_shared(MOST_SHARED), with_min_blocks(3)
);

/// Most filters that read one channel: more are a product of matrices.
const MOST_FILTERS: u32 = 8;

/// Whether there is a kernel for it, and one that is better than `conv`'s.
pub fn accepts(shape: &Shape) -> Result<(), Reject> {
    shape.accepts()?;
    if shape.channels != 1 {
        return Err(Reject::Unsupported { what: "more channels than one to a group" });
    }
    if shape.filters > MOST_FILTERS {
        let (got, limit) = (shape.filters.into(), MOST_FILTERS.into());
        return Err(Reject::Extent { name: "filters of a group", got, limit });
    }
    Tile::new(&shape.axes).map(drop)
}

/// A launch that has been checked.
pub fn prepare(shape: &Shape, buffers: &Buffers, device: &Device) -> Result<Prepared<Params>, Reject> {
    accepts(shape)?;
    let (size, [_, weights, outputs]) = (shape.element.bytes(), shape.extents().elements());
    shape.check(buffers, weights.saturating_mul(size), size)?;
    let epilogue = Epilogue::new(buffers.program.as_ref(), buffers.y, outputs, shape.element.into())?;
    let entry: &'static Entry<Params> = match shape.element {
        Element::F32 => &DEPTHWISE_F32,
        Element::F16 => &DEPTHWISE_F16,
        Element::BF16 => &DEPTHWISE_BF16,
    };
    let tile = Tile::new(&shape.axes)?;
    let filters = shape.groups * shape.filters;
    let planes = shape.images * filters;
    let params = Params {
        x: Global::from_address(buffers.x.address),
        w: Global::from_address(buffers.w.address),
        epilogue,
        axes: shape.axes,
        planes,
        filters,
        filters_of_group: shape.filters,
        tile,
        reserved: 0,
    };
    let [a, b, _] = &shape.axes;
    let tiles = b.output.div_ceil(1 << tile.rows_log).saturating_mul(tile.across);
    let shared = shared_bytes(SLAB, THREADS, epilogue.slots()).max(tile.staged_bytes() as u32);
    let geometry = Geometry {
        grid: [planes.div_ceil(1 << tile.planes_log), tiles, a.output],
        ..Geometry::linear(1, THREADS)
    };
    Prepared::new(entry, geometry.with_shared(shared), params, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;
    use crate::launch::Buffer;

    fn axis(output: u32, kernel: u32, stride: u32) -> Axis {
        Axis { input: (output - 1) * stride + kernel, output, kernel, stride, dilation: 1, begin: 0 }
    }

    #[test]
    fn tiles_fit_planes_and_shrink_where_windows_are_wide() {
        let of = |rows: Axis, columns: Axis| {
            Tile::new(&[Axis::NONE, rows, columns]).map(|t| (t.planes_log, t.rows_log, t.width_log))
        };
        assert_eq!(of(axis(7, 3, 1), axis(7, 3, 1)), Ok((4, 3, 3)));
        assert_eq!(of(axis(112, 3, 1), axis(112, 3, 2)), Ok((0, 4, 6)));
        assert_eq!(of(Axis::NONE, axis(16_000, 31, 1)), Ok((0, 0, 10)));
        assert_eq!(of(Axis::NONE, axis(300, 31, 64)), Ok((0, 0, 7)));
        let wide = of(Axis::NONE, axis(3, 20_000, 1));
        assert_eq!(wide, Err(Reject::Extent { name: "bytes of a window", got: 80_016, limit: 49_152 }));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Shape {
            element: Element::F32,
            images: 1,
            groups: 2,
            channels: 1,
            filters: 1,
            axes: [Axis::NONE, Axis::NONE, axis(6, 3, 1)],
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let workspace = Buffer::default();
        let good = Buffers { x: buffer(64), w: buffer(24), y: buffer(48), workspace, program: None };
        assert!(prepare(&shape, &good, &EMULATED).is_ok());
        let short = Buffers { x: buffer(60), ..good };
        let refused = prepare(&shape, &short, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "x", needed: 64, got: 60 }));
        assert!(accepts(&Shape { channels: 2, ..shape }).is_err());
        assert!(accepts(&Shape { filters: 9, ..shape }).is_err());
        assert!(accepts(&Shape { images: 0, ..shape }).is_err());
    }
}
