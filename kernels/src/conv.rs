//! # Convolutions
//! `y[n, m, p] = program(Σ_{c, t} w[m, c, t] · x[n, g(m)·C/G + c, p·stride + t·dilation − begin], …)` over up to three spatial axes,
//! zero outside the input; X and Y lie as `[images, channels, positions]`.
//!
//! An implicit matrix product per group: rows are the filters, columns the positions of all images, terms the channels and
//! taps. A block computes a tile of 64 filters × 64 positions, a thread 8 × 8 of it. Steps of 8 terms pass through two
//! buffers in shared memory, `[8, 64 + 4]` for each operand, while the next step's elements are on their way in registers: a
//! thread brings one filter's and one position's. A position's place is decoded once, a term's place for every step.
//!
//! Sums are f32, in the order of the terms. The error is that of such a sum: at most `(k + 2) · 2⁻²⁴ · Σ|w·x|`, and the
//! rounding to Y's type.
//!
//! Grid `⌈positions / 64⌉ × ⌈filters of a group / 64⌉ × groups`, block 64, shared memory 8704 bytes.

use crate::device::{BF16, F16, Global, Shared, shared, thread};
use crate::element::{Element, Real};
use crate::entry;
use crate::epilogue::{Epilogue, Program, shared_bytes};
use crate::gemm::simt::{accumulate, by_slabs, eight, most_shared, slab_bytes};
use crate::implicit::{Column, Extents, Field};
use crate::launch::{Buffer, Device, Entry, Geometry, Prepared, Reject};

/// One spatial axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Axis {
    /// Extent of X.
    pub input: u32,
    /// Extent of Y.
    pub output: u32,
    /// Taps.
    pub kernel: u32,
    /// Between positions.
    pub stride: u32,
    /// Between taps.
    pub dilation: u32,
    /// Zeros in front.
    pub begin: u32,
}

impl Axis {
    /// An axis that is not there.
    pub const NONE: Self = Self { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, begin: 0 };
}

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    w: Global<u8>,
    /// Y, and what comes before it.
    epilogue: Epilogue,
    field: Field,
}

const _: () = assert!(size_of::<Params>() == 208);

/// Most spatial axes.
pub const MOST_AXES: usize = 3;
/// Filters and positions of a block.
const TILE: usize = 64;
/// Terms of a step.
const STEP: usize = 8;
/// Threads of a block.
pub const THREADS: u32 = TILE as u32;
/// Elements of a buffer's row.
const PITCH: usize = TILE + 4;
const SHARED: u32 = (2 * 2 * STEP * PITCH * 4) as u32;

/// The launch of a convolution of so many positions and a program of so many registers.
pub const fn geometry(positions: u32, filters: u32, groups: u32, slots: u32) -> Geometry {
    let grid = [positions.div_ceil(TILE as u32), filters.div_ceil(TILE as u32), groups];
    let slabs = shared_bytes(slab_bytes(TILE as u32), THREADS, slots);
    Geometry { grid, ..Geometry::linear(1, THREADS).with_shared(if SHARED > slabs { SHARED } else { slabs }) }
}

impl Params {
    /// A position's elements of the step that begins at `term`, zero outside the input.
    #[inline(always)]
    fn fetch_column<T: Real>(&self, column: Column, term: u32) -> [f32; STEP] {
        let x = self.x.cast::<T>();
        let mut values = [0.0; STEP];
        for k in 0..STEP {
            let number = term + k as u32;
            let (inside, at) = self.field.place(column, self.field.term(number));
            if inside && number < self.field.terms {
                values[k] = x.load(at as usize).widen();
            }
        }
        values
    }

    /// A filter's weights of the step that begins at `term`.
    #[inline(always)]
    fn fetch_row<T: Real>(&self, filter: u32, group: u32, term: u32) -> [f32; STEP] {
        let w = self.w.cast::<T>();
        let first = u64::from(group * self.field.filters + filter) * u64::from(self.field.terms);
        let mut values = [0.0; STEP];
        for k in 0..STEP {
            let at = term + k as u32;
            if filter < self.field.filters && at < self.field.terms {
                values[k] = w.load((first + u64::from(at)) as usize).widen();
            }
        }
        values
    }
}

/// Puts a thread's elements of a step into a buffer.
#[inline(always)]
fn put(buffer: Shared<f32>, values: &[f32; STEP]) {
    for k in 0..STEP {
        buffer.store(k * PITCH + thread::thread_idx_x() as usize, values[k]);
    }
}

/// Every thread.
#[inline(always)]
fn run<T: Real>(p: Params) {
    let (own, group) = (thread::thread_idx_x(), thread::block_idx_z());
    let [first_row, first_column] =
        [thread::block_idx_y() * TILE as u32, thread::block_idx_x() * TILE as u32];
    let (filter, column) = (first_row + own, p.field.column(first_column + own, group));
    let stage = shared::array::<f32>(0, SHARED / 4);
    let buffers = |turn: usize| {
        let first = 2 * turn * STEP * PITCH;
        (stage.offset(first), stage.offset(first + STEP * PITCH))
    };
    let (tx, ty) = (own as usize % (TILE / 8), own as usize / (TILE / 8));
    let mut sums = [[0.0f32; 8]; 8];
    let (mut row, mut of_x) = (p.fetch_row::<T>(filter, group, 0), p.fetch_column::<T>(column, 0));
    put(buffers(0).0, &row);
    put(buffers(0).1, &of_x);
    thread::sync_threads();
    let (mut term, mut turn) = (0, 0);
    while term < p.field.terms {
        let next = term + STEP as u32;
        if next < p.field.terms {
            row = p.fetch_row::<T>(filter, group, next);
            of_x = p.fetch_column::<T>(column, next);
        }
        let (a, b) = buffers(turn);
        for k in 0..STEP {
            accumulate(&mut sums, &eight::<TILE>(a, k, ty), &eight::<TILE>(b, k, tx));
        }
        turn = 1 - turn;
        if next < p.field.terms {
            put(buffers(turn).0, &row);
            put(buffers(turn).1, &of_x);
        }
        thread::sync_threads();
        term = next;
    }
    by_slabs::<TILE>(&sums, (stage, p.epilogue.slots()), |slab, rows| {
        p.epilogue.store_slab(slab, |row, column| {
            p.field.result(group, first_row + rows.row(row), first_column + column)
        });
    });
}

entry!(
    /// bf16.
    CONV_BF16 = conv_bf16(Params): run::<BF16>, THREADS, with_shared(most_shared(TILE as u32)), with_min_blocks(4)
);
entry!(
    /// f16.
    CONV_F16 = conv_f16(Params): run::<F16>, THREADS, with_shared(most_shared(TILE as u32)), with_min_blocks(4)
);
entry!(
    /// f32.
    CONV_F32 = conv_f32(Params): run::<f32>, THREADS, with_shared(most_shared(TILE as u32)), with_min_blocks(4)
);

/// A convolution as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Type of X and W, and of Y where there is no program.
    pub element: Element,
    /// Images.
    pub images: u32,
    /// Groups.
    pub groups: u32,
    /// Channels of a group.
    pub channels: u32,
    /// Filters of a group.
    pub filters: u32,
    /// Spatial axes; those that are not there come first and are [`Axis::NONE`].
    pub axes: [Axis; MOST_AXES],
}

/// The memory of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// W, `[groups · filters, channels, taps]`.
    pub w: Buffer,
    /// Y, dense.
    pub y: Buffer,
    /// What comes between the sums and Y.
    pub program: Option<Program>,
}

impl Shape {
    fn extents(&self) -> Extents {
        let Self { images, groups, channels, filters, axes, .. } = *self;
        Extents { images, groups, channels, filters, axes }
    }

    /// Whether Y has no elements.
    pub fn is_empty(&self) -> bool {
        self.extents().is_empty()
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        self.extents().accepts()
    }

    /// Whether the operands hold what is read of them; gives the elements of Y.
    pub(crate) fn check(&self, buffers: &Buffers) -> Result<u64, Reject> {
        let (size, [x, w, y]) = (self.element.bytes(), self.extents().elements());
        buffers.x.holds("x", x.saturating_mul(size), size)?;
        buffers.w.holds("w", w.saturating_mul(size), size)?;
        Ok(y)
    }

    /// A launch that has been checked.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Prepared<Params>, Reject> {
        self.accepts()?;
        let outputs = self.check(buffers)?;
        let epilogue = Epilogue::new(buffers.program.as_ref(), buffers.y, outputs, self.element.into())?;
        let entry: &'static Entry<Params> = match self.element {
            Element::F32 => &CONV_F32,
            Element::F16 => &CONV_F16,
            Element::BF16 => &CONV_BF16,
        };
        let params = Params {
            x: Global::from_address(buffers.x.address),
            w: Global::from_address(buffers.w.address),
            epilogue,
            field: self.extents().field(),
        };
        let (positions, filters) = (params.field.positions, self.filters);
        let geometry = geometry(positions, filters, self.groups, epilogue.slots());
        Prepared::new(entry, geometry, params, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let axis = Axis { input: 8, output: 6, kernel: 3, stride: 1, dilation: 1, begin: 0 };
        let shape = Shape {
            element: Element::F32,
            images: 1,
            groups: 1,
            channels: 2,
            filters: 4,
            axes: [Axis::NONE, Axis::NONE, axis],
        };
        assert!(Shape { images: 0, ..shape }.accepts().is_err());
        assert!(Shape { channels: u32::MAX, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(64), w: buffer(96), y: buffer(96), program: None };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = Buffers { w: buffer(92), ..good };
        let refused = shape.prepare(&short, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "w", needed: 96, got: 92 }));
        let many = Shape { groups: 70_000, ..shape };
        let all = buffer(u64::from(u32::MAX));
        let wide = Buffers { x: all, w: all, y: all, program: None };
        assert!(matches!(many.prepare(&wide, &EMULATED).err(), Some(Reject::Grid { .. })));
    }
}
