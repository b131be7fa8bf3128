//! # Products of a matrix and few vectors
//! `Y[m, n] = program(Σ_k X[m, k] · W[n, k], …)` for up to 16 rows of X, where reading W is all that takes time: it is read
//! once, 16 bytes at a time, past L1. The program is the `epilogue`.
//!
//! A warp makes [`ROWS`] rows of W; its lanes take 16 bytes of each in turn and multiply them with all rows of X, of which
//! a block keeps `chunk` columns in shared memory as f32. Sums are f32, one per lane and output, and are added up over the
//! lanes by exchanges at the end. Rows of W are packed: padded with zeros to whole 16 bytes, so that no load crosses its
//! row, and X is padded with zeros where its tile is. Rows behind the last one repeat it and are not stored.
//!
//! Error: a sum of `k` products rounded at most `k / 32 + 5` times, ε of f32; one rounding to the type of Y.
//!
//! Grid `⌈N / 8⌉`, block 128, shared memory the larger of `4 · M · chunk` bytes, `chunk = min(8192 / max(M, 2), ⌈K⌉)`, and
//! `32 · M` bytes of sums and 2 KiB for each register of the program.

use crate::device::math::fma_f32;
use crate::device::{BF16, F16};
use crate::device::{Global, Shared, Vector, shared, thread, warp};
use crate::element::Element;
use crate::entry;
use crate::epilogue::{Epilogue, MOST_SLOTS, Program, Slab, shared_bytes};
use crate::launch::{Buffer, Device, Entry, Geometry, Prepared, Reject, Variant as _, Variants};
use crate::wide::{Wide, load_real};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    /// `[batch, depth]`, rows `x_stride` elements apart.
    pub(crate) x: Global<u8>,
    /// `[rows, stride]`, packed.
    pub(crate) w: Global<u8>,
    /// Y, `[batch, rows]`, and what comes before it.
    pub(crate) epilogue: Epilogue,
    pub(crate) batch: u32,
    pub(crate) rows: u32,
    pub(crate) depth: u32,
    pub(crate) stride: u32,
    pub(crate) chunk: u32,
    pub(crate) x_stride: u32,
    /// Element type of X.
    pub(crate) element: u32,
}

/// Rows of W as a warp reads them.
pub(crate) trait Rows {
    /// Weights that a lane reads at once.
    const WIDTH: usize;
    /// A row.
    type Row: Copy;

    /// Row `row`.
    fn row(&self, row: usize) -> Self::Row;

    /// The weights of a row from `column`, a multiple of the width, on; the first `WIDTH` count.
    fn load(&self, row: Self::Row, column: u32) -> [f32; 8];
}

/// Rows as [`pack`] packs them.
struct Packed<W> {
    w: Global<W>,
    stride: usize,
}

impl<W: Wide> Rows for Packed<W> {
    const WIDTH: usize = W::WIDTH;
    type Row = Global<u8>;

    #[inline(always)]
    fn row(&self, row: usize) -> Global<u8> {
        self.w.offset(row * self.stride).cast()
    }

    #[inline(always)]
    fn load(&self, row: Global<u8>, column: u32) -> [f32; 8] {
        W::load_wide(row, column as usize / W::WIDTH)
    }
}

const _: () = assert!(size_of::<Params>() == 144);

/// Warps of a block.
const WARPS: u32 = 4;
/// Threads of a block.
pub const THREADS: u32 = 32 * WARPS;
/// Rows of W that a warp makes.
pub const ROWS: usize = 2;
/// Rows of W that a block makes.
const BLOCK_ROWS: u32 = WARPS * ROWS as u32;
/// Most rows of X.
pub const MOST: u32 = 16;
/// Floats of X that a block keeps.
const KEPT: u32 = 8192;

/// Elements of a packed row of W.
pub const fn stride(depth: u32, weights: Element) -> u32 {
    depth.next_multiple_of(16 / weights.bytes() as u32)
}

/// Columns of X that a block keeps at a time.
pub(crate) const fn chunk(batch: u32, stride: u32) -> u32 {
    let most = KEPT / if batch < 2 { 2 } else { batch };
    if stride < most { stride } else { most }
}

/// Bytes of a block's sums for `batch` rows of X.
const fn slab_bytes(batch: u32) -> u32 {
    4 * batch * BLOCK_ROWS
}

/// The launch for `batch` rows of X and a program of so many registers.
pub const fn geometry(batch: u32, rows: u32, stride: u32, slots: u32) -> Geometry {
    let (x, sums) = (4 * batch * chunk(batch, stride), shared_bytes(slab_bytes(batch), THREADS, slots));
    Geometry::linear(rows.div_ceil(BLOCK_ROWS), THREADS).with_shared(if x > sums { x } else { sums })
}

/// `sum + Σ a · b`, in the order of the elements.
#[inline(always)]
fn dot<const N: usize>(sum: f32, a: [f32; N], b: [f32; N]) -> f32 {
    let mut sum = sum;
    let mut i = 0;
    while i < N {
        sum = fma_f32(a[i], b[i], sum);
        i += 1;
    }
    sum
}

/// Copies columns `base..base + length` of X to shared memory, rows `chunk` floats apart, zeros where X has none; warps
/// take rows in turns, of a single one its quarters.
#[inline(always)]
fn stage<const M: usize>(p: &Params, tile: Shared<f32>, base: u32, length: u32) {
    let (first, start, step) =
        if M == 1 { (0, thread::thread_idx_x(), THREADS) } else { (warp::warp_id(), warp::lane_id(), 32) };
    let mut m = first;
    while m < M as u32 {
        let mut column = start;
        while column < length {
            let inside = m < p.batch && base + column < p.depth;
            let index = m as usize * p.x_stride as usize + (base + column) as usize;
            let value = if inside { load_real(p.x, p.element, index) } else { 0.0 };
            tile.store((m * p.chunk + column) as usize, value);
            column += step;
        }
        m += WARPS;
    }
}

/// Every thread of a block.
#[inline(always)]
fn run<W: Wide, const M: usize>(p: Params) {
    multiply::<Packed<W>, M>(&p, &Packed { w: p.w.cast(), stride: p.stride as usize });
}

/// Every thread of a block, rows of W read so.
#[inline(always)]
pub(crate) fn multiply<R: Rows, const M: usize>(p: &Params, w: &R) {
    let (lane, width) = (warp::lane_id(), R::WIDTH as u32);
    let first = (thread::block_idx_x() * WARPS + warp::warp_id()) as usize * ROWS;
    let last = p.rows as usize - 1;
    let tile = shared::array::<f32>(0, M as u32 * p.chunk);
    let mut rows = [w.row(last); ROWS];
    let mut r = 0;
    while r < ROWS {
        rows[r] = w.row(if first + r < last { first + r } else { last });
        r += 1;
    }
    let mut sums = [[0.0f32; M]; ROWS];
    let mut base = 0;
    while base < p.stride {
        let length = if p.stride - base < p.chunk { p.stride - base } else { p.chunk };
        stage::<M>(p, tile, base, length);
        thread::sync_threads();
        let mut k = lane * width;
        while k < length {
            let mut weights = [[0.0; 8]; ROWS];
            let mut r = 0;
            while r < ROWS {
                weights[r] = w.load(rows[r], base + k);
                r += 1;
            }
            let mut m = 0;
            while m < M {
                let quads = tile.cast::<Vector<f32, 4>>();
                let mut half = 0;
                while half < R::WIDTH / 4 {
                    let x = quads.load((m as u32 * p.chunk + k) as usize / 4 + half).0;
                    let mut r = 0;
                    while r < ROWS {
                        let w = weights[r];
                        let w = [w[4 * half], w[4 * half + 1], w[4 * half + 2], w[4 * half + 3]];
                        sums[r][m] = dot(sums[r][m], w, x);
                        r += 1;
                    }
                    half += 1;
                }
                m += 1;
            }
            k += 32 * width;
        }
        base += p.chunk;
        if base < p.stride {
            thread::sync_threads();
        }
    }
    store::<M>(p, &sums, lane as usize);
}

/// Adds up over the lanes and makes the block's rows of Y: sums meet in shared memory, `[M, 8]`, where X was.
#[inline(always)]
fn store<const M: usize>(p: &Params, sums: &[[f32; M]; ROWS], lane: usize) {
    let stage = shared::array::<f32>(0, M as u32 * BLOCK_ROWS);
    let own = warp::warp_id() as usize * ROWS;
    thread::sync_threads();
    let mut r = 0;
    while r < ROWS {
        let mut m = 0;
        while m < M {
            let sum = warp::reduce(sums[r][m], |a, b| a + b);
            if lane == r * M + m {
                stage.store(m * BLOCK_ROWS as usize + own + r, sum);
            }
            m += 1;
        }
        r += 1;
    }
    thread::sync_threads();
    let registers = shared::array(slab_bytes(M as u32), p.epilogue.slots() * THREADS);
    let slab = Slab { sums: stage, rows: M as u32, width: BLOCK_ROWS, pitch: BLOCK_ROWS, registers };
    let first = thread::block_idx_x() * BLOCK_ROWS;
    p.epilogue.store_slab(slab, |m, row| {
        let left = if m < p.batch { p.rows.saturating_sub(first + row) } else { 0 };
        (u64::from(m) * u64::from(p.rows) + u64::from(first + row), left)
    });
}

/// Most shared memory of an entry.
pub(crate) const SHARED: u32 = 4 * KEPT;
const _: () = assert!(shared_bytes(slab_bytes(MOST), THREADS, MOST_SLOTS) <= SHARED);

entry!(
    /// One vector, f32.
    F32_1 = gemv_f32_1(Params): run::<f32, 1>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Two vectors, f32.
    F32_2 = gemv_f32_2(Params): run::<f32, 2>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to four vectors, f32.
    F32_4 = gemv_f32_4(Params): run::<f32, 4>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to eight vectors, f32.
    F32_8 = gemv_f32_8(Params): run::<f32, 8>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to 16 vectors, f32.
    F32_16 = gemv_f32_16(Params): run::<f32, 16>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// One vector, f16.
    F16_1 = gemv_f16_1(Params): run::<F16, 1>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Two vectors, f16.
    F16_2 = gemv_f16_2(Params): run::<F16, 2>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to four vectors, f16.
    F16_4 = gemv_f16_4(Params): run::<F16, 4>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to eight vectors, f16.
    F16_8 = gemv_f16_8(Params): run::<F16, 8>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to 16 vectors, f16.
    F16_16 = gemv_f16_16(Params): run::<F16, 16>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// One vector, bf16.
    BF16_1 = gemv_bf16_1(Params): run::<BF16, 1>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Two vectors, bf16.
    BF16_2 = gemv_bf16_2(Params): run::<BF16, 2>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to four vectors, bf16.
    BF16_4 = gemv_bf16_4(Params): run::<BF16, 4>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to eight vectors, bf16.
    BF16_8 = gemv_bf16_8(Params): run::<BF16, 8>, THREADS, with_shared(SHARED), with_min_blocks(4)
);
entry!(
    /// Up to 16 vectors, bf16.
    BF16_16 = gemv_bf16_16(Params): run::<BF16, 16>, THREADS, with_shared(SHARED), with_min_blocks(4)
);

/// What is to be multiplied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Rows of X.
    pub batch: u32,
    /// Rows of W, which are columns of Y.
    pub rows: u32,
    /// Columns of X and W.
    pub depth: u32,
    /// Element type of W.
    pub weights: Element,
    /// Element type of X.
    pub x: Element,
    /// Element type of Y.
    pub y: Element,
}

/// The memory of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// W, packed by [`pack`].
    pub w: Buffer,
    /// Y, dense.
    pub y: Buffer,
    /// What comes between the product and Y.
    pub program: Option<Program>,
}

/// One way to compute the product.
#[derive(Debug)]
pub struct Variant {
    /// Its stable name.
    pub id: &'static str,
    pub(crate) weights: Element,
    pub(crate) batch: u32,
    entry: &'static Entry<Params>,
}

const fn variant(id: &'static str, weights: Element, batch: u32, entry: &'static Entry<Params>) -> Variant {
    Variant { id, weights, batch, entry }
}

/// The family; for each type of W by the number of vectors.
pub static VARIANTS: Variants<Variant> = Variants(&[
    variant("gemv.f32.1", Element::F32, 1, &F32_1),
    variant("gemv.f32.2", Element::F32, 2, &F32_2),
    variant("gemv.f32.4", Element::F32, 4, &F32_4),
    variant("gemv.f32.8", Element::F32, 8, &F32_8),
    variant("gemv.f32.16", Element::F32, 16, &F32_16),
    variant("gemv.f16.1", Element::F16, 1, &F16_1),
    variant("gemv.f16.2", Element::F16, 2, &F16_2),
    variant("gemv.f16.4", Element::F16, 4, &F16_4),
    variant("gemv.f16.8", Element::F16, 8, &F16_8),
    variant("gemv.f16.16", Element::F16, 16, &F16_16),
    variant("gemv.bf16.1", Element::BF16, 1, &BF16_1),
    variant("gemv.bf16.2", Element::BF16, 2, &BF16_2),
    variant("gemv.bf16.4", Element::BF16, 4, &BF16_4),
    variant("gemv.bf16.8", Element::BF16, 8, &BF16_8),
    variant("gemv.bf16.16", Element::BF16, 16, &BF16_16),
]);

impl crate::launch::Variant for Variant {
    type Problem = Shape;

    fn id(&self) -> &'static str {
        self.id
    }

    fn accepts(&self, shape: &Shape) -> Result<(), Reject> {
        if shape.weights != self.weights {
            return Err(Reject::ElementType { operand: "w" });
        }
        if shape.batch == 0 || shape.rows == 0 || shape.depth == 0 {
            return Err(Reject::Unsupported { what: "a product without elements" });
        }
        if shape.batch > self.batch {
            return Err(Reject::Extent { name: "batch", got: shape.batch.into(), limit: self.batch.into() });
        }
        for (name, got) in [("rows", shape.rows), ("depth", shape.depth)] {
            let limit = i32::MAX as u32 / 32;
            if got > limit {
                return Err(Reject::Extent { name, got: got.into(), limit: limit.into() });
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
        let (batch, rows, depth) = (u64::from(shape.batch), u64::from(shape.rows), u64::from(shape.depth));
        let Buffers { x, w, y, program } = buffers;
        x.holds("x", batch * depth * shape.x.bytes(), shape.x.bytes())?;
        w.holds("w", packed_bytes(shape), 16)?;
        let epilogue = Epilogue::new(program.as_ref(), *y, batch * rows, shape.y.into())?;
        let stride = stride(shape.depth, shape.weights);
        let params = Params {
            x: Global::from_address(x.address),
            w: Global::from_address(w.address),
            epilogue,
            batch: shape.batch,
            rows: shape.rows,
            depth: shape.depth,
            stride,
            chunk: chunk(self.batch, stride),
            x_stride: shape.depth,
            element: shape.x as u32,
        };
        Prepared::new(self.entry, geometry(self.batch, shape.rows, stride, epilogue.slots()), params, device)
    }
}

/// Bytes of W as the kernels read it.
pub const fn packed_bytes(shape: &Shape) -> u64 {
    shape.rows as u64 * stride(shape.depth, shape.weights) as u64 * shape.weights.bytes()
}

/// Packs W: element `[n, k]` lies at `n · row_stride + k · column_stride` of `weights`, in elements. Both slices hold
/// bytes; `packed` has [`packed_bytes`].
pub fn pack(shape: &Shape, weights: &[u8], row_stride: usize, column_stride: usize, packed: &mut [u8]) {
    let size = shape.weights.bytes() as usize;
    let stride = stride(shape.depth, shape.weights) as usize;
    packed.fill(0);
    for (n, row) in packed.chunks_exact_mut(stride * size).take(shape.rows as usize).enumerate() {
        for (k, element) in row.chunks_exact_mut(size).take(shape.depth as usize).enumerate() {
            let from = (n * row_stride + k * column_stride) * size;
            element.copy_from_slice(&weights[from..from + size]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape =
            Shape { batch: 3, rows: 8, depth: 10, weights: Element::F32, x: Element::F32, y: Element::F32 };
        let variant = VARIANTS.choose(&shape).expect("a variant");
        assert_eq!(variant.id, "gemv.f32.4");
        let buffer = |bytes| Buffer { address: 1 << 20, bytes };
        let good = Buffers { x: buffer(120), w: buffer(8 * 12 * 4), y: buffer(96), program: None };
        assert!(variant.prepare(&shape, &good, &EMULATED).is_ok());
        let refused = |buffers: &Buffers| variant.prepare(&shape, buffers, &EMULATED).err();
        let short = Buffers { w: buffer(8 * 10 * 4), ..good };
        assert_eq!(refused(&short), Some(Reject::Length { operand: "w", needed: 384, got: 320 }));
        let odd = Buffers { w: Buffer { address: (1 << 20) + 8, bytes: 384 }, ..good };
        assert!(matches!(refused(&odd), Some(Reject::Alignment { operand: "w", needed: 16, .. })));
        let none = Buffers { y: Buffer::default(), ..good };
        assert_eq!(refused(&none), Some(Reject::Absent { operand: "Y" }));
        let many = Shape { batch: 17, ..shape };
        assert_eq!(VARIANTS.choose(&many).err(), Some(Reject::Extent { name: "batch", got: 17, limit: 16 }));
        let narrow = VARIANTS.by_id("gemv.f32.2").expect("a variant").accepts(&shape);
        assert_eq!(narrow, Err(Reject::Extent { name: "batch", got: 3, limit: 2 }));
        let empty = Shape { depth: 0, ..shape };
        assert!(matches!(VARIANTS.choose(&empty).err(), Some(Reject::Unsupported { .. })));
    }
}
