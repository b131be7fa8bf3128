//! # Reductions
//! `y[a, b] = f(Σ_r g(x[a, r, b]))` over `[outer, depth, inner]`, or a product, maximum or minimum in place of the sum.
//!
//! `rows` variants are for `inner = 1`: a warp, or a block of 8 warps, folds a row, each lane every 32nd (256th) element
//! or 16 bytes of them; lanes are folded by exchanges, warps through shared memory. `columns` is for `inner > 1`: lanes
//! are neighbouring columns, the 8 warps of a block take every 8th row of them. Folds are in f32.
//!
//! Hazard: a maximum that forgets NaNs; every fold keeps them. A sum of `k` terms is rounded `k / 256 + 12` times in a row
//! at most by a block, `k / 32 + 5` by a warp, `k / 8 + 8` by columns, ε of f32.
//!
//! Grid: `outer / 8` rows for warps, `outer` for blocks, `outer · ⌈inner / 32⌉` for columns, at most 2³¹ − 1; block 256,
//! shared memory 1 KiB.

use crate::device::math::{divide, fma_f32, sqrt_f32};
use crate::device::{BF16, F16, Global, Shared, shared, thread, warp};
use crate::element::Element;
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject, Variant as _, Variants};
use crate::lines::{self, THREADS, Typed, WARP_DEPTH, WARPS};
use crate::wide::Wide;

/// What is folded, and how.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Fold {
    /// `Σ x`
    Sum,
    /// `Σ x / depth`
    Mean,
    /// `Σ |x|`
    SumAbs,
    /// `Σ x²`
    SumSquare,
    /// `√(Σ x²)`
    Norm,
    /// `Π x`
    Product,
    /// The largest, NaN where any is.
    Max,
    /// The smallest, NaN where any is.
    Min,
}

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    outer: u32,
    depth: u32,
    inner: u32,
    fold: u32,
    /// Whether rows are whole and aligned multiples of 16 bytes.
    wide: u32,
    scale: f32,
}

const _: () = assert!(size_of::<Params>() == 40);

/// One f32 of each thread.
const SHARED: u32 = 4 * THREADS;

/// How the work is shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// A warp for each row.
    RowsByWarp,
    /// A block for each row.
    RowsByBlock,
    /// A block for 32 columns.
    Columns,
}

/// The launch of a plan.
pub const fn geometry(plan: Plan, outer: u32, inner: u32) -> Geometry {
    let linear = match plan {
        Plan::RowsByWarp => lines::by_warp(outer),
        Plan::RowsByBlock => lines::by_block(outer),
        Plan::Columns => lines::by_block(outer * inner.div_ceil(32)),
    };
    linear.with_shared(SHARED)
}

/// The neutral element.
#[inline(always)]
fn identity(fold: u32) -> f32 {
    if fold == Fold::Product as u32 {
        return 1.0;
    }
    if fold == Fold::Max as u32 {
        return f32::NEG_INFINITY;
    }
    if fold == Fold::Min as u32 { f32::INFINITY } else { 0.0 }
}

/// Two partial results as one.
#[inline(always)]
fn join(fold: u32, a: f32, b: f32) -> f32 {
    if fold == Fold::Product as u32 {
        return a * b;
    }
    if fold == Fold::Max as u32 {
        return if b > a || b.is_nan() { b } else { a };
    }
    if fold == Fold::Min as u32 {
        return if b < a || b.is_nan() { b } else { a };
    }
    a + b
}

/// A partial result and one element as one.
#[inline(always)]
fn take(fold: u32, total: f32, x: f32) -> f32 {
    if fold == Fold::SumSquare as u32 || fold == Fold::Norm as u32 {
        return fma_f32(x, x, total);
    }
    join(fold, total, if fold == Fold::SumAbs as u32 { x.abs() } else { x })
}

/// The result of all elements.
#[inline(always)]
fn finish(fold: u32, total: f32, scale: f32) -> f32 {
    if fold == Fold::Norm as u32 {
        return sqrt_f32(total);
    }
    if fold == Fold::Mean as u32 { total * scale } else { total }
}

/// What `lane` of `lanes` folds of a row.
#[inline(always)]
fn fold_row<T: Wide>(p: &Params, row: usize, lane: usize, lanes: usize) -> f32 {
    let depth = p.depth as usize;
    let mut total = identity(p.fold);
    if p.wide != 0 {
        let count = depth / T::WIDTH;
        let mut i = lane;
        while i < count {
            let values = T::load_wide(p.x, row * count + i);
            let mut k = 0;
            while k < T::WIDTH {
                total = take(p.fold, total, values[k]);
                k += 1;
            }
            i += lanes;
        }
        return total;
    }
    let mut i = lane;
    while i < depth {
        total = take(p.fold, total, p.x.cast::<T>().load(row * depth + i).widen());
        i += lanes;
    }
    total
}

/// A warp for each row.
#[inline(always)]
fn rows_by_warp<T: Wide>(p: Params) {
    let row = lines::of_warp();
    if row >= p.outer {
        return;
    }
    let lane = warp::lane_id();
    let total = fold_row::<T>(&p, row as usize, lane as usize, 32);
    let total = warp::reduce(total, |a, b| join(p.fold, a, b));
    if lane == 0 {
        p.y.cast().store(row as usize, T::narrow(finish(p.fold, total, p.scale)));
    }
}

/// A block for each row.
#[inline(always)]
fn rows_by_block<T: Wide>(p: Params) {
    let row = thread::block_idx_x() as usize;
    let own = thread::thread_idx_x();
    let total = fold_row::<T>(&p, row, own as usize, THREADS as usize);
    let [total] = lines::over_block(shared::array(0, WARPS), [total], |[a], [b]| [join(p.fold, a, b)]);
    if own == 0 {
        p.y.cast().store(row, T::narrow(finish(p.fold, total, p.scale)));
    }
}

/// A block for 32 columns.
#[inline(always)]
fn columns<T: Wide>(p: Params) {
    let (lane, number) = (warp::lane_id() as usize, warp::warp_id() as usize);
    let (depth, inner) = (p.depth as usize, p.inner as usize);
    let (a, group) = divide(thread::block_idx_x(), p.inner.div_ceil(32));
    let (a, b) = (a as usize, group as usize * 32 + lane);
    let mut total = identity(p.fold);
    if b < inner {
        let mut r = number;
        while r < depth {
            total = take(p.fold, total, p.x.cast::<T>().load((a * depth + r) * inner + b).widen());
            r += WARPS as usize;
        }
    }
    let partial: Shared<f32> = shared::array(0, THREADS);
    partial.store(32 * number + lane, total);
    thread::sync_threads();
    if number == 0 && b < inner {
        let mut w = 1;
        while w < WARPS as usize {
            total = join(p.fold, total, partial.load(32 * w + lane));
            w += 1;
        }
        p.y.cast().store(a * inner + b, T::narrow(finish(p.fold, total, p.scale)));
    }
}

entry!(
    /// A warp for each row, f32.
    WARP_F32 = reduce_warp_f32(Params): rows_by_warp::<f32>, THREADS, with_shared(SHARED)
);
entry!(
    /// A warp for each row, f16.
    WARP_F16 = reduce_warp_f16(Params): rows_by_warp::<F16>, THREADS, with_shared(SHARED)
);
entry!(
    /// A warp for each row, bf16.
    WARP_BF16 = reduce_warp_bf16(Params): rows_by_warp::<BF16>, THREADS, with_shared(SHARED)
);
entry!(
    /// A block for each row, f32.
    BLOCK_F32 = reduce_block_f32(Params): rows_by_block::<f32>, THREADS, with_shared(SHARED)
);
entry!(
    /// A block for each row, f16.
    BLOCK_F16 = reduce_block_f16(Params): rows_by_block::<F16>, THREADS, with_shared(SHARED)
);
entry!(
    /// A block for each row, bf16.
    BLOCK_BF16 = reduce_block_bf16(Params): rows_by_block::<BF16>, THREADS, with_shared(SHARED)
);
entry!(
    /// Columns, f32.
    COLUMNS_F32 = reduce_columns_f32(Params): columns::<f32>, THREADS, with_shared(SHARED)
);
entry!(
    /// Columns, f16.
    COLUMNS_F16 = reduce_columns_f16(Params): columns::<F16>, THREADS, with_shared(SHARED)
);
entry!(
    /// Columns, bf16.
    COLUMNS_BF16 = reduce_columns_bf16(Params): columns::<BF16>, THREADS, with_shared(SHARED)
);

/// What is to be reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Extents in front of the reduced ones.
    pub outer: u32,
    /// Reduced extents.
    pub depth: u32,
    /// Extents behind them.
    pub inner: u32,
    /// Type of X and Y.
    pub element: Element,
    /// The fold.
    pub fold: Fold,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// Y, dense.
    pub y: Buffer,
}

/// One way to reduce.
pub type Variant = Typed<Plan, Params>;

/// The family; the first that accepts is chosen.
pub static VARIANTS: Variants<Variant> = Variants(&[
    Typed::new("reduce.warp.f32", Plan::RowsByWarp, Element::F32, &WARP_F32),
    Typed::new("reduce.warp.f16", Plan::RowsByWarp, Element::F16, &WARP_F16),
    Typed::new("reduce.warp.bf16", Plan::RowsByWarp, Element::BF16, &WARP_BF16),
    Typed::new("reduce.block.f32", Plan::RowsByBlock, Element::F32, &BLOCK_F32),
    Typed::new("reduce.block.f16", Plan::RowsByBlock, Element::F16, &BLOCK_F16),
    Typed::new("reduce.block.bf16", Plan::RowsByBlock, Element::BF16, &BLOCK_BF16),
    Typed::new("reduce.columns.f32", Plan::Columns, Element::F32, &COLUMNS_F32),
    Typed::new("reduce.columns.f16", Plan::Columns, Element::F16, &COLUMNS_F16),
    Typed::new("reduce.columns.bf16", Plan::Columns, Element::BF16, &COLUMNS_BF16),
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
        if shape.outer == 0 || shape.inner == 0 {
            return Err(Reject::Unsupported { what: "a reduction without results" });
        }
        let depth = u64::from(shape.depth);
        if self.plan == Plan::RowsByWarp && shape.depth > WARP_DEPTH {
            return Err(Reject::Extent { name: "depth", got: depth, limit: WARP_DEPTH.into() });
        }
        if self.plan != Plan::Columns && shape.inner > 1 {
            return Err(Reject::Extent { name: "inner", got: shape.inner.into(), limit: 1 });
        }
        let results = u64::from(shape.outer) * u64::from(shape.inner);
        let limit = u64::from(u32::MAX >> 1);
        for (name, got) in [("results", results.next_multiple_of(32)), ("depth", depth)] {
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
        let results = u64::from(shape.outer) * u64::from(shape.inner);
        buffers.x.holds("x", results * u64::from(shape.depth) * size, size)?;
        buffers.y.holds("y", results * size, size)?;
        let row = u64::from(shape.depth) * size;
        let wide = buffers.x.address.is_multiple_of(16) && row.is_multiple_of(16);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            y: Global::from_address(buffers.y.address),
            outer: shape.outer,
            depth: shape.depth,
            inner: shape.inner,
            fold: shape.fold as u32,
            wide: wide.into(),
            scale: (1.0 / f64::from(shape.depth)) as f32,
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
        let shape = Shape { outer: 4, depth: 2000, inner: 1, element: Element::F32, fold: Fold::Sum };
        assert_eq!(VARIANTS.choose(&shape).expect("a variant").id, "reduce.block.f32");
        let warp = VARIANTS.by_id("reduce.warp.f32").expect("a variant");
        assert_eq!(warp.accepts(&shape), Err(Reject::Extent { name: "depth", got: 2000, limit: 1024 }));
        let half = Shape { element: Element::F16, ..shape };
        assert_eq!(warp.accepts(&half), Err(Reject::ElementType { operand: "x" }));
        let none = Shape { outer: 0, ..shape };
        assert!(matches!(VARIANTS.choose(&none).err(), Some(Reject::Unsupported { .. })));
        let many = Shape { outer: u32::MAX, ..shape };
        assert!(matches!(VARIANTS.choose(&many).err(), Some(Reject::Extent { name: "results", .. })));
        let short = Buffers {
            x: Buffer { address: 1 << 12, bytes: 4 * 2000 },
            y: Buffer { address: 1 << 20, bytes: 16 },
        };
        let variant = VARIANTS.choose(&shape).expect("a variant");
        let refused = variant.prepare(&shape, &short, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "x", needed: 32_000, got: 8000 }));
    }
}
