//! # Softmax and LogSoftmax
//! `y_i = exp(x_i − m) / Σ_j exp(x_j − m)`, `m = max_j x_j`, over the middle of `[outer, depth, inner]`, or
//! `y_i = x_i − m − ln Σ_j exp(x_j − m)`.
//!
//! `warp`: rows of up to 1024 elements with `inner = 1` stay in the registers of a warp and are read once. `block` and
//! `columns` read twice: the first pass keeps a maximum and the sum below it and rescales the sum whenever the maximum grows
//! (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018); threads' pairs are then joined likewise.
//!
//! Hazard: `−∞ − (−∞)`, which is NaN, where a thread has seen nothing but `−∞`; such a pair is `(−∞, 0)`. A row of `−∞`
//! alone is NaN, as the formula has it. Sums are f32, a term's relative error is that of `exp`, 2 ulp, and half an ulp of
//! `x − m`.
//!
//! Grid `⌈outer / 8⌉`, `outer` and `outer · ⌈inner / 256⌉`; block 256; shared memory 64 bytes.

use crate::device::math::divide;
use crate::device::{BF16, F16, Global, shared, thread, warp};
use crate::element::{Element, Real};
use crate::elementary::{exp, log};
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject, Variant as _, Variants};
use crate::lines::{self, KEPT, THREADS, Typed, WARP_DEPTH, WARPS};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    outer: u32,
    depth: u32,
    inner: u32,
    /// 1 for the logarithm.
    logarithm: u32,
}

const _: () = assert!(size_of::<Params>() == 32);

/// Maximum and sum of each warp.
const SHARED: u32 = 8 * WARPS;

/// How the work is shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// A warp for each row, which it keeps.
    Warp,
    /// A block for each row.
    Block,
    /// A thread for each column.
    Columns,
}

/// The launch of a plan.
pub const fn geometry(plan: Plan, outer: u32, inner: u32) -> Geometry {
    match plan {
        Plan::Warp => lines::by_warp(outer),
        Plan::Block => lines::by_block(outer).with_shared(SHARED),
        Plan::Columns => lines::by_block(outer * inner.div_ceil(THREADS)),
    }
}

/// A maximum, and the sum of the exponentials of what is below it.
#[derive(Clone, Copy)]
struct Normalizer {
    max: f32,
    sum: f32,
}

impl Normalizer {
    const EMPTY: Self = Self { max: f32::NEG_INFINITY, sum: 0.0 };

    /// The sum as it would be below `max`.
    #[inline(always)]
    fn below(self, max: f32) -> f32 {
        // No element but −∞ yet: the sum is 0 below any maximum.
        if self.max == f32::NEG_INFINITY && self.sum == 0.0 { 0.0 } else { self.sum * exp(self.max - max) }
    }

    /// With one more element.
    #[inline(always)]
    fn with(self, x: f32) -> Self {
        if x == f32::NEG_INFINITY {
            return self;
        }
        let max = if x > self.max { x } else { self.max };
        Self { max, sum: self.below(max) + exp(x - max) }
    }

    /// Both as one.
    #[inline(always)]
    fn join(self, other: Self) -> Self {
        let max = if other.max > self.max { other.max } else { self.max };
        Self { max, sum: self.below(max) + other.below(max) }
    }

    /// The result for an element.
    #[inline(always)]
    fn apply(self, x: f32, logarithm: u32) -> f32 {
        if logarithm != 0 { x - self.max - log(self.sum) } else { exp(x - self.max) / self.sum }
    }

    /// Over the threads of a block.
    #[inline(always)]
    fn over_block(self) -> Self {
        let of = |[max, sum]: [f32; 2]| Self { max, sum };
        let join = |a: [f32; 2], b: [f32; 2]| {
            let Self { max, sum } = of(a).join(of(b));
            [max, sum]
        };
        of(lines::over_block(shared::array(0, 2 * WARPS), [self.max, self.sum], join))
    }
}

/// A warp for each row.
#[inline(always)]
fn by_warp<T: Real>(p: Params) {
    let row = lines::of_warp() as usize;
    if row >= p.outer as usize {
        return;
    }
    let (lane, depth) = (warp::lane_id() as usize, p.depth as usize);
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    let mut kept = [f32::NEG_INFINITY; KEPT];
    let mut max = f32::NEG_INFINITY;
    let mut k = 0;
    while k < KEPT {
        let i = 32 * k + lane;
        if i < depth {
            kept[k] = x.load(row * depth + i).widen();
            max = if kept[k] > max { kept[k] } else { max };
        }
        k += 1;
    }
    let max = warp::reduce(max, |a, b| if b > a { b } else { a });
    let mut sum = 0.0;
    let mut k = 0;
    while k < KEPT {
        if 32 * k + lane < depth {
            sum += exp(kept[k] - max);
        }
        k += 1;
    }
    let total = Normalizer { max, sum: warp::reduce(sum, |a, b| a + b) };
    let mut k = 0;
    while k < KEPT {
        let i = 32 * k + lane;
        if i < depth {
            y.store(row * depth + i, T::narrow(total.apply(kept[k], p.logarithm)));
        }
        k += 1;
    }
}

/// A block for each row.
#[inline(always)]
fn by_block<T: Real>(p: Params) {
    let (row, depth) = (thread::block_idx_x() as usize, p.depth as usize);
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    let first = thread::thread_idx_x() as usize;
    let mut total = Normalizer::EMPTY;
    let mut i = first;
    while i < depth {
        total = total.with(x.load(row * depth + i).widen());
        i += THREADS as usize;
    }
    let total = total.over_block();
    let mut i = first;
    while i < depth {
        let value = x.load(row * depth + i).widen();
        y.store(row * depth + i, T::narrow(total.apply(value, p.logarithm)));
        i += THREADS as usize;
    }
}

/// A thread for each column.
#[inline(always)]
fn by_column<T: Real>(p: Params) {
    let (depth, inner) = (p.depth as usize, p.inner as usize);
    let (a, group) = divide(thread::block_idx_x(), p.inner.div_ceil(THREADS));
    let (a, b) = (a as usize, (group * THREADS + thread::thread_idx_x()) as usize);
    if b >= inner {
        return;
    }
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    let first = a * depth * inner + b;
    let mut total = Normalizer::EMPTY;
    let mut k = 0;
    while k < depth {
        total = total.with(x.load(first + k * inner).widen());
        k += 1;
    }
    let mut k = 0;
    while k < depth {
        let value = x.load(first + k * inner).widen();
        y.store(first + k * inner, T::narrow(total.apply(value, p.logarithm)));
        k += 1;
    }
}

entry!(
    /// A warp for each row, f32.
    WARP_F32 = softmax_warp_f32(Params): by_warp::<f32>, THREADS, with_min_blocks(2)
);
entry!(
    /// A warp for each row, f16.
    WARP_F16 = softmax_warp_f16(Params): by_warp::<F16>, THREADS, with_min_blocks(2)
);
entry!(
    /// A warp for each row, bf16.
    WARP_BF16 = softmax_warp_bf16(Params): by_warp::<BF16>, THREADS, with_min_blocks(2)
);
entry!(
    /// A block for each row, f32.
    BLOCK_F32 = softmax_block_f32(Params): by_block::<f32>, THREADS, with_shared(SHARED)
);
entry!(
    /// A block for each row, f16.
    BLOCK_F16 = softmax_block_f16(Params): by_block::<F16>, THREADS, with_shared(SHARED)
);
entry!(
    /// A block for each row, bf16.
    BLOCK_BF16 = softmax_block_bf16(Params): by_block::<BF16>, THREADS, with_shared(SHARED)
);
entry!(
    /// A thread for each column, f32.
    COLUMNS_F32 = softmax_columns_f32(Params): by_column::<f32>, THREADS
);
entry!(
    /// A thread for each column, f16.
    COLUMNS_F16 = softmax_columns_f16(Params): by_column::<F16>, THREADS
);
entry!(
    /// A thread for each column, bf16.
    COLUMNS_BF16 = softmax_columns_bf16(Params): by_column::<BF16>, THREADS
);

/// What is to be computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Extents in front of the axis.
    pub outer: u32,
    /// The axis.
    pub depth: u32,
    /// Extents behind it.
    pub inner: u32,
    /// Type of X and Y.
    pub element: Element,
    /// Whether the logarithm is wanted.
    pub logarithm: bool,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// Y, dense; may be X.
    pub y: Buffer,
}

/// One way to compute it.
pub type Variant = Typed<Plan, Params>;

/// The family; the first that accepts is chosen.
pub static VARIANTS: Variants<Variant> = Variants(&[
    Typed::new("softmax.warp.f32", Plan::Warp, Element::F32, &WARP_F32),
    Typed::new("softmax.warp.f16", Plan::Warp, Element::F16, &WARP_F16),
    Typed::new("softmax.warp.bf16", Plan::Warp, Element::BF16, &WARP_BF16),
    Typed::new("softmax.block.f32", Plan::Block, Element::F32, &BLOCK_F32),
    Typed::new("softmax.block.f16", Plan::Block, Element::F16, &BLOCK_F16),
    Typed::new("softmax.block.bf16", Plan::Block, Element::BF16, &BLOCK_BF16),
    Typed::new("softmax.columns.f32", Plan::Columns, Element::F32, &COLUMNS_F32),
    Typed::new("softmax.columns.f16", Plan::Columns, Element::F16, &COLUMNS_F16),
    Typed::new("softmax.columns.bf16", Plan::Columns, Element::BF16, &COLUMNS_BF16),
]);

impl crate::launch::Variant for Variant {
    type Problem = Shape;

    fn id(&self) -> &'static str {
        self.id
    }

    fn accepts(&self, shape: &Shape) -> Result<(), Reject> {
        if shape.element != self.element {
            return Err(Reject::ElementType { operand: "x" });
        }
        if shape.outer == 0 || shape.inner == 0 || shape.depth == 0 {
            return Err(Reject::Unsupported { what: "a softmax without elements" });
        }
        let depth = u64::from(shape.depth);
        if self.plan == Plan::Warp && shape.depth > WARP_DEPTH {
            return Err(Reject::Extent { name: "depth", got: depth, limit: WARP_DEPTH.into() });
        }
        if self.plan != Plan::Columns && shape.inner > 1 {
            return Err(Reject::Extent { name: "inner", got: shape.inner.into(), limit: 1 });
        }
        let columns = u64::from(shape.outer) * u64::from(shape.inner);
        let limit = u64::from(u32::MAX >> 1);
        for (name, got) in [("columns", columns.next_multiple_of(THREADS.into())), ("depth", depth)] {
            if got > limit {
                return Err(Reject::Extent { name, got, limit });
            }
        }
        Ok(())
    }
}

impl Variant {
    /// A launch that has been checked.
    pub fn prepare(
        &self,
        shape: &Shape,
        buffers: &Buffers,
        device: &Device,
    ) -> Result<Prepared<Params>, Reject> {
        self.accepts(shape)?;
        let size = shape.element.bytes();
        let columns = u64::from(shape.outer) * u64::from(shape.inner);
        let needed = columns * u64::from(shape.depth) * size;
        buffers.x.holds("x", needed, size)?;
        buffers.y.holds("y", needed, size)?;
        let params = Params {
            x: Global::from_address(buffers.x.address),
            y: Global::from_address(buffers.y.address),
            outer: shape.outer,
            depth: shape.depth,
            inner: shape.inner,
            logarithm: shape.logarithm.into(),
        };
        Prepared::new(self.entry, geometry(self.plan, shape.outer, shape.inner), params, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Shape { outer: 4, depth: 1025, inner: 1, element: Element::F32, logarithm: false };
        assert_eq!(VARIANTS.choose(&shape).expect("a variant").id, "softmax.block.f32");
        let warp = VARIANTS.by_id("softmax.warp.f32").expect("a variant");
        assert_eq!(warp.accepts(&shape), Err(Reject::Extent { name: "depth", got: 1025, limit: 1024 }));
        let empty = Shape { depth: 0, ..shape };
        assert!(matches!(VARIANTS.choose(&empty).err(), Some(Reject::Unsupported { .. })));
        let (x, y) = (Buffer { address: 4096, bytes: 16_400 }, Buffer { address: 65_538, bytes: 16_400 });
        let refused =
            VARIANTS.choose(&shape).expect("a variant").prepare(&shape, &Buffers { x, y }, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Alignment { operand: "y", needed: 4, address: 65_538 }));
    }
}
