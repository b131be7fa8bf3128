//! # Convolutions
//! `y[n, m, p] = program(Σ_{c, t} w[m, c, t] · x[n, g(m)·C/G + c, p·stride + t·dilation − begin], …)` over up to three spatial axes,
//! zero outside the input; X and Y lie as `[images, channels, positions]`.
//!
//! - [`scalar`]: any element type by scalar arithmetic.
//! - [`tensor`]: f16 and bf16 by tensor cores, and f32 where the caller allows its factors to be rounded to tf32.
//! - [`winograd`]: f32 windows of 3 × 3 at stride 1 with 4/9 of the products, where that pays.
//!
//! An implicit matrix product per group: rows are the filters, columns the positions of all images, terms the channels and
//! taps. This file has what the kernels take, `variants.rs` what becomes of a shape, `rows.rs` how weights are packed. Where
//! tiles are too few for the device, terms are cut into parts that are summed in their order by a second launch
//! ([`split_k`](crate::gemm::split_k)).

mod rows;
pub mod scalar;
pub mod tensor;
mod variants;
pub mod winograd;

use crate::device::math::divide;
use crate::device::{Global, thread};
use crate::element::Element;
use crate::epilogue::{Epilogue, Program};
pub use crate::implicit::Spread;
use crate::implicit::{Extents, Field};
use crate::launch::{Buffer, Reject};
pub use variants::{Plan, VARIANTS, Variant, by_id, choose};

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
    /// Y, and what comes before it; or the parts.
    epilogue: Epilogue,
    field: Field,
    /// Elements of Y, as far apart as its parts are.
    outputs: u64,
    /// Parts of the terms, and terms of one.
    splits: u32,
    split_terms: u32,
}

const _: () = assert!(size_of::<Params>() == 264);

/// Most spatial axes.
pub const MOST_AXES: usize = 3;

/// What a block computes.
#[derive(Clone, Copy)]
struct Place {
    group: u32,
    split: u32,
    /// The first filter and position.
    row: u32,
    column: u32,
}

impl Place {
    #[inline(always)]
    fn of_block(p: &Params, tile: u32) -> Self {
        let (group, split) = divide(thread::block_idx_z(), p.splits);
        Self { group, split, row: thread::block_idx_y() * tile, column: thread::block_idx_x() * tile }
    }
}

impl Params {
    /// The terms of a part: from, to.
    #[inline(always)]
    fn terms(&self, split: u32) -> [u32; 2] {
        let from = split * self.split_terms;
        [from, self.field.terms.min(from + self.split_terms)]
    }

    /// The number in Y, or among the parts, of an element of a tile, and how many follow it there.
    #[inline(always)]
    fn result(&self, place: Place, row: u32, column: u32) -> (u64, u32) {
        let (number, left) = self.field.result(place.group, place.row + row, place.column + column);
        (u64::from(place.split) * self.outputs + number, left)
    }
}

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
    /// W, `[groups · filters, channels, taps]`, or as [`Variant::pack`] makes it.
    pub w: Buffer,
    /// Y, dense.
    pub y: Buffer,
    /// [`Variant::workspace_bytes`] bytes of scratch memory.
    pub workspace: Buffer,
    /// What comes between the sums and Y.
    pub program: Option<Program>,
}

impl Shape {
    pub(crate) fn extents(&self) -> Extents {
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

    /// Whether X and W, of so many bytes, aligned to `alignment`, hold what is read of them.
    pub(crate) fn check(&self, buffers: &Buffers, weights: u64, alignment: u64) -> Result<(), Reject> {
        let (size, [x, ..]) = (self.element.bytes(), self.extents().elements());
        buffers.x.holds("x", x.saturating_mul(size), size)?;
        buffers.w.holds("w", weights, alignment)
    }
}
