//! # Convolutions
//! `y[n, m, p] = program(Σ_{c, t} w[m, c, t] · x[n, g(m)·C/G + c, p·stride + t·dilation − begin], …)` over up to three spatial axes,
//! zero outside the input; X and Y lie as `[images, channels, positions]`.
//!
//! - This file: any element type by scalar arithmetic.
//! - [`tensor`]: f16 and bf16 by tensor cores, and f32 where the caller allows its factors to be rounded to tf32.
//! - [`winograd`]: f32 windows of 3 × 3 at stride 1 with 4/9 of the products, where that pays.
//!
//! An implicit matrix product per group: rows are the filters, columns the positions of all images, terms the channels and
//! taps. A block computes a tile of 64 filters × 64 positions, a thread 8 × 8 of it. Steps of 8 terms pass through two
//! buffers in shared memory, `[8, 64 + 4]` for each operand, while the next step's elements are on their way in registers: a
//! thread brings one filter's and one position's. A position's place is decoded once; terms follow one another without
//! divisions. Where tiles are too few for the device, terms are cut into parts that are summed in their order by a second
//! launch ([`split_k`]).
//!
//! Sums are f32, in the order of the terms. The error is that of such a sum: at most `(k + 2) · 2⁻²⁴ · Σ|w·x|`, and the
//! rounding to Y's type.
//!
//! Grid `⌈positions / 64⌉ × ⌈filters of a group / 64⌉ × groups·parts`, block 64, shared memory 8704 bytes.

mod rows;
pub mod tensor;
pub mod winograd;

use crate::device::math::divide;
use crate::device::{BF16, F16, Global, Shared, shared, thread};
use crate::dtype::DType;
use crate::element::{Element, Real};
use crate::elements;
use crate::entry;
use crate::epilogue::{Epilogue, Program, shared_bytes};
use crate::gemm::simt::{accumulate, by_slabs, eight, most_shared, slab_bytes};
use crate::gemm::{self, Factors, split_k};
pub use crate::implicit::Spread;
use crate::implicit::{Column, Extents, Field, Term};
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
/// Filters and positions of a block.
const TILE: usize = 64;
/// Terms of a step.
const STEP: usize = 8;
/// Threads of a block.
const THREADS: u32 = TILE as u32;
/// Elements of a buffer's row.
const PITCH: usize = TILE + 4;
const SHARED: u32 = (2 * 2 * STEP * PITCH * 4) as u32;

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

    /// A position's elements of the step that begins at `term`, of number `number`, zero outside the input and from `to` on;
    /// gives the term behind them.
    #[inline(always)]
    fn fetch_column<T: Real>(
        &self,
        column: Column,
        [number, to]: [u32; 2],
        mut term: Term,
    ) -> ([f32; STEP], Term) {
        let x = self.x.cast::<T>();
        let mut values = [0.0; STEP];
        for k in 0..STEP {
            let (inside, at) = self.field.place(column, term);
            if inside && number + (k as u32) < to {
                values[k] = x.load(at as usize).widen();
            }
            term = self.field.next(term);
        }
        (values, term)
    }

    /// A filter's weights of the step that begins at `term`.
    #[inline(always)]
    fn fetch_row<T: Real>(&self, filter: u32, group: u32, [term, to]: [u32; 2]) -> [f32; STEP] {
        let w = self.w.cast::<T>();
        let first = u64::from(group * self.field.filters + filter) * u64::from(self.field.row);
        let mut values = [0.0; STEP];
        for k in 0..STEP {
            let at = term + k as u32;
            if filter < self.field.filters && at < to {
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
    let (own, place) = (thread::thread_idx_x(), Place::of_block(&p, TILE as u32));
    let [from, to] = p.terms(place.split);
    let group = place.group;
    let (filter, column) = (place.row + own, p.field.column(place.column + own, group));
    let stage = shared::array::<f32>(0, SHARED / 4);
    let buffers = |turn: usize| {
        let first = 2 * turn * STEP * PITCH;
        (stage.offset(first), stage.offset(first + STEP * PITCH))
    };
    let (tx, ty) = (own as usize % (TILE / 8), own as usize / (TILE / 8));
    let mut sums = [[0.0f32; 8]; 8];
    let mut row = p.fetch_row::<T>(filter, group, [from, to]);
    let (mut of_x, mut behind) = p.fetch_column::<T>(column, [from, to], p.field.term(from));
    put(buffers(0).0, &row);
    put(buffers(0).1, &of_x);
    thread::sync_threads();
    let (mut term, mut turn) = (from, 0);
    while term < to {
        let next = term + STEP as u32;
        if next < to {
            row = p.fetch_row::<T>(filter, group, [next, to]);
            (of_x, behind) = p.fetch_column::<T>(column, [next, to], behind);
        }
        let (a, b) = buffers(turn);
        for k in 0..STEP {
            accumulate(&mut sums, &eight::<TILE>(a, k, ty), &eight::<TILE>(b, k, tx));
        }
        turn = 1 - turn;
        if next < to {
            put(buffers(turn).0, &row);
            put(buffers(turn).1, &of_x);
        }
        thread::sync_threads();
        term = next;
    }
    by_slabs::<TILE>(&sums, (stage, p.epilogue.slots()), |slab, rows| {
        p.epilogue.store_slab(slab, |row, column| p.result(place, rows.row(row), column));
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
    /// W, `[groups · filters, channels, taps]`, or as [`Variant::pack`] makes it.
    pub w: Buffer,
    /// Y, dense.
    pub y: Buffer,
    /// [`Variant::workspace_bytes`] bytes of scratch memory.
    pub workspace: Buffer,
    /// What comes between the sums and Y.
    pub program: Option<Program>,
}

/// One kernel of the family for one element type.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// The stable name.
    pub id: &'static str,
    /// Type of X and W.
    pub element: Element,
    entry: &'static Entry<Params>,
    /// Filters and positions of a block's tile.
    tile: u32,
    /// Terms of a step.
    step: u32,
    threads: u32,
    shared: u32,
    /// Bytes of a slab of sums.
    slab: u32,
    /// Weights that it copies at once: a filter's begin at a multiple of them.
    piece: u32,
    /// What it rounds factors to.
    factors: Factors,
}

/// A convolution as launches: the convolution itself, and the sum of its parts where terms are split.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Writes Y, or the parts.
    pub product: Prepared<Params>,
    /// Writes Y from the parts.
    pub sum: Option<Prepared<gemm::Params>>,
}

const fn scalar(id: &'static str, element: Element, entry: &'static Entry<Params>) -> Variant {
    Variant {
        id,
        element,
        entry,
        tile: TILE as u32,
        step: STEP as u32,
        threads: THREADS,
        shared: SHARED,
        slab: slab_bytes(TILE as u32),
        piece: 1,
        factors: Factors::Own,
    }
}

/// Every variant, in the order in which they are tried: tensor cores where they apply.
pub static VARIANTS: &[Variant] = &[
    tensor::F16_VARIANT,
    tensor::BF16_VARIANT,
    tensor::TF32_VARIANT,
    scalar("scalar_f32", Element::F32, &CONV_F32),
    scalar("scalar_f16", Element::F16, &CONV_F16),
    scalar("scalar_bf16", Element::BF16, &CONV_BF16),
];

/// The variant of this id.
pub fn by_id(id: &str) -> Result<&'static Variant, Reject> {
    VARIANTS.iter().find(|variant| variant.id == id).ok_or(Reject::UnknownVariant)
}

/// The variant, and the parts of the terms, for a convolution whose factors may be rounded so; one that wants packed
/// weights only if `packs`.
pub fn choose(
    shape: &Shape,
    factors: Factors,
    packs: bool,
    device: &Device,
) -> Result<(&'static Variant, u32), Reject> {
    let accepts = |variant: &&Variant| {
        variant.accepts(shape, factors, device).is_ok() && (packs || !variant.is_packed(shape))
    };
    let accepted = VARIANTS.iter().find(accepts);
    let variant = accepted.ok_or(Reject::ElementType { operand: "X" })?;
    Ok((variant, variant.parts(shape, device)))
}

impl Variant {
    /// Whether the variant computes `shape` on `device`.
    pub fn accepts(&self, shape: &Shape, factors: Factors, device: &Device) -> Result<(), Reject> {
        shape.accepts()?;
        if shape.element != self.element {
            return Err(Reject::ElementType { operand: "X" });
        }
        if device.capability < self.entry.kernel.capability {
            return Err(Reject::Capability { needed: self.entry.kernel.capability, got: device.capability });
        }
        if self.factors != Factors::Own && factors != self.factors {
            return Err(Reject::Unsupported { what: "factors that are to stay as they are" });
        }
        Ok(())
    }

    /// Blocks of one part of the terms.
    fn blocks(&self, shape: &Shape) -> u64 {
        let positions = shape.extents().sizes().0.div_ceil(self.tile.into());
        positions.saturating_mul(shape.filters.div_ceil(self.tile).into()).saturating_mul(shape.groups.into())
    }

    /// The parts of the terms that keep a device busy.
    fn parts(&self, shape: &Shape, device: &Device) -> u32 {
        let idle = u64::from(device.multiprocessors) / self.blocks(shape).max(1);
        let steps = shape.extents().sizes().1.div_ceil(self.step.into());
        // A part shorter than eight steps does not hide its start.
        idle.min(steps / 8).clamp(1, 16) as u32
    }

    /// Bytes of the workspace for a number of parts.
    pub fn workspace_bytes(&self, shape: &Shape, splits: u32) -> u64 {
        let [_, _, outputs] = shape.extents().elements();
        if splits < 2 { 0 } else { outputs.saturating_mul(4 * u64::from(splits)) }
    }

    /// Checks everything and makes the launches; the terms in `splits` parts.
    pub fn prepare(
        &self,
        shape: &Shape,
        (factors, splits): (Factors, u32),
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Plan, Reject> {
        let outputs = shape.extents().elements()[2];
        self.prepare_part(shape, (factors, splits), (shape.extents().field(), outputs), buffers, device)
    }

    /// The same where positions lie at `places` in a Y of that extent; all terms in one part.
    pub fn prepare_at(
        &self,
        shape: &Shape,
        factors: Factors,
        places: [Spread; MOST_AXES],
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Prepared<Params>, Reject> {
        for (axis, place) in shape.axes.iter().zip(&places) {
            let last = u64::from(axis.output.saturating_sub(1)) * u64::from(place.step);
            let (got, limit) = (last + u64::from(place.first), place.extent.saturating_sub(1).into());
            if got > limit {
                return Err(Reject::Extent { name: "position", got, limit });
            }
        }
        let planes = [shape.images, shape.groups, shape.filters].map(u64::from);
        let factors_of_y = planes.into_iter().chain(places.iter().map(|place| place.extent.into()));
        let outputs = factors_of_y.fold(1u64, u64::saturating_mul);
        elements::limit("elements", outputs)?;
        let field = shape.extents().field().with_places(places);
        Ok(self.prepare_part(shape, (factors, 1), (field, outputs), buffers, device)?.product)
    }

    fn prepare_part(
        &self,
        shape: &Shape,
        (factors, splits): (Factors, u32),
        (mut field, outputs): (Field, u64),
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Plan, Reject> {
        self.accepts(shape, factors, device)?;
        shape.check(buffers, self.weight_bytes(shape), u64::from(self.piece) * shape.element.bytes())?;
        let last = Epilogue::new(buffers.program.as_ref(), buffers.y, outputs, shape.element.into())?;
        field.row = self.row(shape) as u32;
        if splits == 0 {
            return Err(Reject::Extent { name: "parts", got: 0, limit: 16 });
        }
        let bytes = self.workspace_bytes(shape, splits);
        buffers.workspace.holds("workspace", bytes, 4)?;
        // Parts are stored as they are.
        let parts = (splits > 1)
            .then(|| Epilogue::new(None, buffers.workspace, bytes / 4, DType::F32))
            .transpose()?;
        let epilogue = parts.unwrap_or(last);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            w: Global::from_address(buffers.w.address),
            epilogue,
            field,
            outputs,
            splits,
            split_terms: field.terms.div_ceil(splits).next_multiple_of(self.step),
        };
        let tiles = [field.positions.div_ceil(self.tile), shape.filters.div_ceil(self.tile)];
        let geometry = Geometry {
            grid: [tiles[0], tiles[1], shape.groups.saturating_mul(splits)],
            ..Geometry::linear(1, self.threads)
        };
        let shared = shared_bytes(self.slab, self.threads, epilogue.slots()).max(self.shared);
        let product = Prepared::new(self.entry, geometry.with_shared(shared), params, device)?;
        let sum =
            parts.map(|_| split_k::sum(buffers.workspace, (splits, outputs), last, device)).transpose()?;
        Ok(Plan { product, sum })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    const SHAPE: Shape = Shape {
        element: Element::F32,
        images: 1,
        groups: 1,
        channels: 2,
        filters: 4,
        axes: [
            Axis::NONE,
            Axis::NONE,
            Axis { input: 8, output: 6, kernel: 3, stride: 1, dilation: 1, begin: 0 },
        ],
    };

    #[test]
    fn what_does_not_fit_is_refused() {
        let own = (Factors::Own, 1);
        let scalar = by_id("scalar_f32").expect("a variant");
        assert!(Shape { images: 0, ..SHAPE }.accepts().is_err());
        assert!(Shape { channels: u32::MAX, ..SHAPE }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let workspace = Buffer::default();
        let good = Buffers { x: buffer(64), w: buffer(96), y: buffer(96), workspace, program: None };
        assert!(scalar.prepare(&SHAPE, own, &good, &EMULATED).is_ok());
        let short = Buffers { w: buffer(92), ..good };
        let refused = scalar.prepare(&SHAPE, own, &short, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "w", needed: 96, got: 92 }));
        let refused = scalar.prepare(&SHAPE, (Factors::Own, 2), &good, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Absent { operand: "workspace" }));
        let many = Shape { groups: 70_000, ..SHAPE };
        let all = buffer(u64::from(u32::MAX));
        let wide = Buffers { x: all, w: all, y: all, ..good };
        assert!(matches!(scalar.prepare(&many, own, &wide, &EMULATED).err(), Some(Reject::Grid { .. })));
    }

    #[test]
    fn tensor_cores_are_taken_where_they_may_be_and_parts_where_tiles_are_few() {
        let device = Device { capability: 90, multiprocessors: 132, shared_bytes: 227 * 1024 };
        let id = |shape: &Shape, factors, device: &Device| {
            choose(shape, factors, false, device).map(|(variant, parts)| (variant.id, parts))
        };
        let deep = Shape { channels: 512, filters: 64, ..SHAPE };
        assert_eq!(id(&deep, Factors::Own, &device), Ok(("scalar_f32", 16)));
        assert_eq!(id(&deep, Factors::Tf32, &device), Ok(("tensor_tf32", 12)));
        let half = Shape { element: Element::F16, ..deep };
        assert_eq!(id(&half, Factors::Own, &device), Ok(("tensor_f16", 6)));
        assert_eq!(id(&half, Factors::Own, &Device { capability: 75, ..device }), Ok(("scalar_f16", 16)));
        let odd = Shape { channels: 3, ..half };
        assert_eq!(id(&odd, Factors::Own, &device), Ok(("scalar_f16", 1)));
        let (packed, _) = choose(&odd, Factors::Own, true, &device).expect("a variant");
        assert_eq!((packed.id, packed.weight_bytes(&odd)), ("tensor_f16", 64 * 16 * 2));
    }
}
