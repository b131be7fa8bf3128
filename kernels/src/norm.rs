//! # Normalisations of rows
//! `y = (x − m) / √(v + ε) · scale + bias` with the mean `m` and the variance `v` of each row of `[rows, length]`; or
//! without the mean, `v` being the mean square. Layers, groups, instances and root mean squares differ in what a row is and
//! which parameter an element has: parameter `(row mod period) · step + ⌊j / run⌋`.
//!
//! `warp`: a warp for each row of up to 1024 elements, which stays in registers and is read once. `block`: a block for each
//! row, which is read three times. Mean and variance are two passes: the difference of two large sums never occurs. They
//! may be stored as well, as `m` and `1 / √(v + ε)`.
//!
//! Sums are f32 over at most `⌈length / 32⌉` elements of a lane, `⌈length / 256⌉` of a thread, and then pairwise.
//!
//! Grid `⌈rows / 8⌉` and `rows`; block 256; shared memory 32 bytes.

use crate::device::math::{divide, sqrt_f32};
use crate::device::{BF16, F16, Global, shared, thread, warp};
use crate::element::{Element, Real};
use crate::entry;
use crate::launch::{Buffer, Device, Geometry, Prepared, Reject, Variant as _, Variants};
use crate::lines::{self, KEPT, THREADS, Typed, WARP_DEPTH, WARPS};
use crate::wide::{load_real, store_real};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    /// Null: 1.
    scale: Global<u8>,
    /// Null: 0.
    bias: Global<u8>,
    /// Null: not wanted. So are the two below.
    y: Global<u8>,
    mean: Global<u8>,
    inverse: Global<u8>,
    rows: u32,
    length: u32,
    period: u32,
    step: u32,
    run: u32,
    /// 1 where the mean is taken off.
    centred: u32,
    epsilon: f32,
    /// Types of Y and the parameters, and of mean and inverse deviation.
    parameters: u32,
    statistics: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 88);

const SHARED: u32 = 4 * WARPS;

/// How the work is shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// A warp for each row, which it keeps.
    Warp,
    /// A block for each row.
    Block,
}

/// The launch of a plan.
pub const fn geometry(plan: Plan, rows: u32) -> Geometry {
    match plan {
        Plan::Warp => lines::by_warp(rows),
        Plan::Block => lines::by_block(rows).with_shared(SHARED),
    }
}

impl Params {
    /// Element `j` of a row, normalised, with its parameters.
    #[inline(always)]
    fn finish(&self, row: u32, j: u32, x: f32, mean: f32, inverse: f32) -> f32 {
        let at = (divide(row, self.period).1 * self.step + divide(j, self.run).0) as usize;
        let mut y = (x - mean) * inverse;
        if !self.scale.is_null() {
            y *= load_real(self.scale, self.parameters, at);
        }
        if !self.bias.is_null() {
            y += load_real(self.bias, self.parameters, at);
        }
        y
    }

    /// `1 / √(v + ε)` of a sum of squares.
    #[inline(always)]
    fn inverse_of(&self, squares: f32) -> f32 {
        1.0 / sqrt_f32(squares / self.length as f32 + self.epsilon)
    }

    /// Stores what is wanted of a row's statistics.
    #[inline(always)]
    fn store_statistics(&self, row: u32, mean: f32, inverse: f32) {
        if !self.mean.is_null() {
            store_real(self.mean, self.statistics, row as usize, mean);
        }
        if !self.inverse.is_null() {
            store_real(self.inverse, self.statistics, row as usize, inverse);
        }
    }
}

/// A warp for each row.
#[inline(always)]
fn by_warp<T: Real>(p: Params) {
    let row = lines::of_warp();
    if row >= p.rows {
        return;
    }
    let lane = warp::lane_id();
    let (x, first) = (p.x.cast::<T>(), row as usize * p.length as usize);
    let mut kept = [0.0f32; KEPT];
    let mut sum = 0.0;
    let mut k = 0;
    while k < KEPT {
        let j = 32 * k as u32 + lane;
        if j < p.length {
            kept[k] = x.load(first + j as usize).widen();
            sum += kept[k];
        }
        k += 1;
    }
    let sum = warp::reduce(sum, |a, b| a + b);
    let mean = if p.centred != 0 { sum / p.length as f32 } else { 0.0 };
    let mut squares = 0.0;
    let mut k = 0;
    while k < KEPT {
        if 32 * k as u32 + lane < p.length {
            let away = kept[k] - mean;
            squares += away * away;
        }
        k += 1;
    }
    let inverse = p.inverse_of(warp::reduce(squares, |a, b| a + b));
    if lane == 0 {
        p.store_statistics(row, mean, inverse);
    }
    if p.y.is_null() {
        return;
    }
    let mut k = 0;
    while k < KEPT {
        let j = 32 * k as u32 + lane;
        if j < p.length {
            let y = p.finish(row, j, kept[k], mean, inverse);
            store_real(p.y, p.parameters, first + j as usize, y);
        }
        k += 1;
    }
}

/// The sum over a block.
#[inline(always)]
fn over_block(value: f32) -> f32 {
    lines::over_block(shared::array(0, WARPS), [value], |[a], [b]| [a + b])[0]
}

/// A block for each row.
#[inline(always)]
fn by_block<T: Real>(p: Params) {
    let row = thread::block_idx_x();
    let (x, first) = (p.x.cast::<T>(), row as usize * p.length as usize);
    let own = thread::thread_idx_x();
    let mut mean = 0.0;
    if p.centred != 0 {
        let (mut sum, mut j) = (0.0, own);
        while j < p.length {
            sum += x.load(first + j as usize).widen();
            j += THREADS;
        }
        mean = over_block(sum) / p.length as f32;
    }
    let (mut squares, mut j) = (0.0, own);
    while j < p.length {
        let away = x.load(first + j as usize).widen() - mean;
        squares += away * away;
        j += THREADS;
    }
    let inverse = p.inverse_of(over_block(squares));
    if own == 0 {
        p.store_statistics(row, mean, inverse);
    }
    if p.y.is_null() {
        return;
    }
    let mut j = own;
    while j < p.length {
        let value = x.load(first + j as usize).widen();
        store_real(p.y, p.parameters, first + j as usize, p.finish(row, j, value, mean, inverse));
        j += THREADS;
    }
}

entry!(
    /// A block for each row of bf16.
    BLOCK_BF16 = norm_block_bf16(Params): by_block::<BF16>, THREADS, with_shared(SHARED)
);
entry!(
    /// A block for each row of f16.
    BLOCK_F16 = norm_block_f16(Params): by_block::<F16>, THREADS, with_shared(SHARED)
);
entry!(
    /// A block for each row of f32.
    BLOCK_F32 = norm_block_f32(Params): by_block::<f32>, THREADS, with_shared(SHARED)
);
entry!(
    /// A warp for each row of bf16.
    WARP_BF16 = norm_warp_bf16(Params): by_warp::<BF16>, THREADS
);
entry!(
    /// A warp for each row of f16.
    WARP_F16 = norm_warp_f16(Params): by_warp::<F16>, THREADS
);
entry!(
    /// A warp for each row of f32.
    WARP_F32 = norm_warp_f32(Params): by_warp::<f32>, THREADS
);

/// A normalisation as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Rows.
    pub rows: u32,
    /// Elements of a row.
    pub length: u32,
    /// Rows after which parameters repeat.
    pub period: u32,
    /// Parameters from a row to the next.
    pub step: u32,
    /// Neighbouring elements of a row that have one parameter.
    pub run: u32,
    /// Whether the mean is taken off.
    pub centred: bool,
    /// What is added to the variance.
    pub epsilon: f32,
    /// Type of X.
    pub element: Element,
    /// Type of the parameters and Y.
    pub parameters: Element,
    /// Type of mean and inverse deviation.
    pub statistics: Element,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// Factors, or none.
    pub scale: Buffer,
    /// Terms, or none.
    pub bias: Buffer,
    /// Y, dense, or none.
    pub y: Buffer,
    /// One mean per row, or none.
    pub mean: Buffer,
    /// One inverse deviation per row, or none.
    pub inverse: Buffer,
}

/// One way to normalise.
pub type Variant = Typed<Plan, Params>;

/// The family; the first that accepts is chosen.
pub static VARIANTS: Variants<Variant> = Variants(&[
    Typed::new("norm.warp_f32", Plan::Warp, Element::F32, &WARP_F32),
    Typed::new("norm.warp_f16", Plan::Warp, Element::F16, &WARP_F16),
    Typed::new("norm.warp_bf16", Plan::Warp, Element::BF16, &WARP_BF16),
    Typed::new("norm.block_f32", Plan::Block, Element::F32, &BLOCK_F32),
    Typed::new("norm.block_f16", Plan::Block, Element::F16, &BLOCK_F16),
    Typed::new("norm.block_bf16", Plan::Block, Element::BF16, &BLOCK_BF16),
]);

impl Shape {
    fn elements(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.length)
    }

    /// Parameters that there must be.
    fn count(&self) -> u64 {
        let rows = u64::from(self.period.min(self.rows).saturating_sub(1)) * u64::from(self.step);
        rows + u64::from(self.length.saturating_sub(1) / self.run.max(1)) + 1
    }
}

impl crate::launch::Variant for Variant {
    type Problem = Shape;

    fn id(&self) -> &'static str {
        self.id
    }

    fn accepts(&self, shape: &Shape) -> Result<(), Reject> {
        if shape.element != self.element {
            return Err(Reject::ElementType { operand: "x" });
        }
        if shape.elements() == 0 || shape.period == 0 || shape.run == 0 {
            return Err(Reject::Unsupported { what: "a normalisation of nothing" });
        }
        let limit = u64::from(u32::MAX / 2);
        let most = if self.plan == Plan::Warp { WARP_DEPTH.into() } else { limit };
        for (name, got, limit) in [
            ("length", u64::from(shape.length), most),
            ("rows", u64::from(shape.rows), i32::MAX as u64),
            ("parameters", shape.count(), limit),
        ] {
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
        let (elements, rows) = (shape.elements(), u64::from(shape.rows));
        buffers.x.holds("x", elements.saturating_mul(self.element.bytes()), self.element.bytes())?;
        let of = shape.parameters.bytes();
        let statistics = shape.statistics.bytes();
        for (operand, buffer, count, size) in [
            ("scale", buffers.scale, shape.count(), of),
            ("bias", buffers.bias, shape.count(), of),
            ("y", buffers.y, elements, of),
            ("mean", buffers.mean, rows, statistics),
            ("inverse", buffers.inverse, rows, statistics),
        ] {
            if buffer.is_some() {
                buffer.holds(operand, count.saturating_mul(size), size)?;
            }
        }
        let params = Params {
            x: Global::from_address(buffers.x.address),
            scale: Global::from_address(buffers.scale.address),
            bias: Global::from_address(buffers.bias.address),
            y: Global::from_address(buffers.y.address),
            mean: Global::from_address(buffers.mean.address),
            inverse: Global::from_address(buffers.inverse.address),
            rows: shape.rows,
            length: shape.length,
            period: shape.period,
            step: shape.step,
            run: shape.run,
            centred: shape.centred.into(),
            epsilon: shape.epsilon,
            parameters: shape.parameters as u32,
            statistics: shape.statistics as u32,
            reserved: 0,
        };
        Prepared::new(self.entry, geometry(self.plan, shape.rows), params, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Shape {
            rows: 4,
            length: 6,
            period: 2,
            step: 3,
            run: 2,
            centred: true,
            epsilon: 0.0,
            element: Element::F32,
            parameters: Element::F16,
            statistics: Element::F32,
        };
        let variant = VARIANTS.choose(&shape).expect("a variant");
        assert_eq!(variant.id, "norm.warp_f32");
        assert_eq!(VARIANTS.choose(&Shape { length: 1025, ..shape }).map(|v| v.id), Ok("norm.block_f32"));
        assert!(VARIANTS.choose(&Shape { run: 0, ..shape }).is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(96), scale: buffer(12), y: buffer(48), ..Buffers::default() };
        assert!(variant.prepare(&shape, &good, &EMULATED).is_ok());
        let short = variant.prepare(&shape, &Buffers { scale: buffer(11), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "scale", needed: 12, got: 11 }));
    }
}
