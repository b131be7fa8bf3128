//! # Products with weights of few bits by tensor cores
//! The tiles and stages of products in f16 and bf16 (`gemm/frame.rs`): rows of X are copied by `cp.async`; of the weights a
//! thread brings 16 of a row in each step, which lie in one block. It loads them packed while the step before is multiplied,
//! and puts them into their stage as numbers rounded to X's type.
//!
//! Sums are f32, in parts along k where tiles are few; a weight is off by half an ulp of its type. X's rows begin at multiples
//! of 8 elements.
//!
//! Grid `⌈m / 128⌉ × ⌈n / 128⌉ × parts`, block 256, shared memory as products have it.

use super::{Blocks, Buffers, Shape, number};
use crate::device::{BF16, F16, Float16, Global, Shared, Vector, thread};
use crate::dtype::DType;
use crate::element::Element;
use crate::entry;
use crate::epilogue::{Epilogue, shared_bytes};
use crate::gemm::frame::{self, Factor, MOST_SHARED, Operand, SHARED, SLAB, Staged, THREADS, TILE};
use crate::gemm::{self, split_k};
use crate::launch::{Device, Entry, Geometry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    blocks: Blocks,
    /// Y, and what comes before it; or the parts.
    epilogue: Epilogue,
    m: u32,
    n: u32,
    k: u32,
    /// Terms of one part.
    part: u32,
}

const _: () = assert!(size_of::<Params>() == 168);

/// Terms of a step, and those of them that a thread brings.
const STEP: u32 = 32;
const OWN: u32 = STEP / 2;
/// Elements of a copy.
const PIECE: u32 = 8;

/// The weights' side: one row of the thread.
struct Weights<'a, const BITS: u32> {
    blocks: &'a Blocks,
    row: u32,
    inside: bool,
    /// The first of the thread's terms, and the end of those that are there.
    from: u32,
    end: u32,
    words: [u32; 4],
    scale: f32,
    zero: f32,
    stages: Shared<u16>,
}

/// The row of a step that the thread brings, and its first term there.
#[inline(always)]
fn own() -> (u32, u32) {
    let own = thread::thread_idx_x();
    (own % TILE, own / TILE * OWN)
}

impl<T: Float16 + Factor<Bits = u16>, const BITS: u32> Staged<T> for Weights<'_, BITS> {
    #[inline(always)]
    fn fetch(&mut self, step: u32) {
        let column = self.from + step * STEP;
        // Behind the end the other side is zero, and these are to be finite.
        (self.words, self.scale, self.zero) = ([0; 4], 0.0, 0.0);
        if self.inside && column < self.end {
            (self.scale, self.zero) = self.blocks.scale::<BITS>(self.row, column);
            match BITS {
                2 => self.words[0] = self.blocks.word::<u32, BITS>(self.row, column),
                4 => {
                    let word = self.blocks.word::<u64, BITS>(self.row, column);
                    (self.words[0], self.words[1]) = (word as u32, (word >> 32) as u32);
                }
                _ => self.words = self.blocks.word::<Vector<u32, 4>, BITS>(self.row, column).0,
            }
        }
    }

    #[inline(always)]
    fn put(&self, step: u32) {
        let (row, first) = own();
        let to = frame::stage_of::<T>(self.stages, step).cast::<Vector<u32, 4>>();
        let at = (row * frame::pitch::<T>(false) + first) / PIECE;
        let per_word = 32 / BITS;
        for half in 0..2 {
            let mut pairs = [0; 4];
            for pair in 0..4 {
                let value = |i: u32| {
                    let i = half * PIECE + 2 * pair as u32 + i;
                    let number = number::<BITS>(self.words[(i / per_word) as usize], i % per_word);
                    (number - self.zero) * self.scale
                };
                pairs[pair] = T::pair(value(0), value(1));
            }
            to.store((at + half) as usize, Vector(pairs));
        }
    }

    #[inline(always)]
    fn matrices(&self, step: u32, at: [u32; 2], k_first: bool) -> [u32; 4] {
        T::matrices::<false>(frame::stage_of::<T>(self.stages, step), frame::pitch::<T>(false), at, k_first)
    }
}

/// Every thread.
#[inline(always)]
fn run<T: Float16 + Factor<Bits = u16>, const BITS: u32>(p: Params) {
    let (row, column) = (thread::block_idx_x() * TILE, thread::block_idx_y() * TILE);
    let part = thread::block_idx_z();
    let first = part * p.part;
    let terms = [first, p.k.min(first + p.part)];
    let a = Operand::<T, false> {
        elements: p.x.cast(),
        row: p.k.into(),
        edge: row,
        edge_end: p.m,
        terms,
        stages: frame::stages::<T>(0),
    };
    let (own_row, own_term) = own();
    let mut b = Weights::<BITS> {
        blocks: &p.blocks,
        row: column + own_row,
        inside: column + own_row < p.n,
        from: first + own_term,
        end: terms[1],
        words: [0; 4],
        scale: 0.0,
        zero: 0.0,
        stages: frame::stages::<T>(1),
    };
    let sums = frame::sums::<T>(&a, &mut b, terms);
    frame::store(&p.epilogue, &sums, |of_row, of_column| {
        let (row, column) = (row + of_row, column + of_column);
        let number = u64::from(part) * u64::from(p.m) + u64::from(row);
        let left = if row < p.m { p.n.saturating_sub(column) } else { 0 };
        (number * u64::from(p.n) + u64::from(column), left)
    });
}

/// The entries: types and bits.
macro_rules! entries {
    ($($constant:ident = $symbol:ident: $t:ty, $bits:literal;)*) => { $(
        entry!(
            /// See the module.
            $constant = $symbol(Params): run::<$t, $bits>, THREADS,
            with_shared(MOST_SHARED), with_min_blocks(2), with_capability(80), with_tensor_cores()
        );
    )* };
}

entries! {
    BLOCKS_TENSOR_F16_2 = blocks_tensor_f16_2: F16, 2;
    BLOCKS_TENSOR_F16_4 = blocks_tensor_f16_4: F16, 4;
    BLOCKS_TENSOR_F16_8 = blocks_tensor_f16_8: F16, 8;
    BLOCKS_TENSOR_BF16_2 = blocks_tensor_bf16_2: BF16, 2;
    BLOCKS_TENSOR_BF16_4 = blocks_tensor_bf16_4: BF16, 4;
    BLOCKS_TENSOR_BF16_8 = blocks_tensor_bf16_8: BF16, 8;
}

/// A product as launches: the product itself, and the sum of its parts where k is split.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Writes Y, or the parts.
    pub product: Prepared<Params>,
    /// Writes Y from the parts.
    pub sum: Option<Prepared<gemm::Params>>,
}

fn entry(shape: &Shape) -> Result<&'static Entry<Params>, Reject> {
    Ok(match (shape.element, shape.bits) {
        (Element::F16, 2) => &BLOCKS_TENSOR_F16_2,
        (Element::F16, 4) => &BLOCKS_TENSOR_F16_4,
        (Element::F16, _) => &BLOCKS_TENSOR_F16_8,
        (Element::BF16, 2) => &BLOCKS_TENSOR_BF16_2,
        (Element::BF16, 4) => &BLOCKS_TENSOR_BF16_4,
        (Element::BF16, _) => &BLOCKS_TENSOR_BF16_8,
        (Element::F32, _) => return Err(Reject::ElementType { operand: "X" }),
    })
}

/// The parts of k that keep a device busy, where tensor cores compute `shape` there.
pub fn parts(shape: &Shape, device: &Device) -> Result<u32, Reject> {
    shape.accepts()?;
    let needed = entry(shape)?.kernel.capability;
    if device.capability < needed {
        return Err(Reject::Capability { needed, got: device.capability });
    }
    if !shape.k.is_multiple_of(PIECE) {
        return Err(Reject::Multiple { name: "terms", got: shape.k.into(), of: PIECE.into() });
    }
    let tiles = shape.m.div_ceil(TILE) * shape.n.div_ceil(TILE);
    // A part shorter than eight steps does not hide its start.
    Ok((device.multiprocessors / tiles).min(shape.k.div_ceil(STEP) / 8).clamp(1, 16))
}

/// Bytes of the workspace for so many parts.
pub fn workspace_bytes(shape: &Shape, parts: u32) -> u64 {
    if parts < 2 { 0 } else { 4 * u64::from(parts) * u64::from(shape.m) * u64::from(shape.n) }
}

/// Checks everything and makes the launches; the terms in so many parts.
pub fn prepare(shape: &Shape, splits: u32, buffers: &Buffers, device: &Device) -> Result<Plan, Reject> {
    parts(shape, device)?;
    if splits == 0 {
        return Err(Reject::Extent { name: "parts", got: 0, limit: 16 });
    }
    let outputs = u64::from(shape.m) * u64::from(shape.n);
    buffers.x.holds("x", u64::from(shape.m) * u64::from(shape.k) * shape.element.bytes(), 16)?;
    let last = Epilogue::new(buffers.program.as_ref(), buffers.y, outputs, shape.element.into())?;
    let bytes = workspace_bytes(shape, splits);
    buffers.workspace.holds("workspace", bytes, 4)?;
    let whole = (splits > 1).then(|| Epilogue::new(None, buffers.workspace, bytes / 4, DType::F32));
    let whole = whole.transpose()?;
    let epilogue = whole.unwrap_or(last);
    let params = Params {
        x: Global::from_address(buffers.x.address),
        blocks: shape.weights(buffers)?,
        epilogue,
        m: shape.m,
        n: shape.n,
        k: shape.k,
        part: shape.k.div_ceil(splits).next_multiple_of(STEP),
    };
    let grid = [shape.m.div_ceil(TILE), shape.n.div_ceil(TILE), splits];
    let shared = shared_bytes(SLAB, THREADS, epilogue.slots()).max(SHARED);
    let geometry = Geometry { grid, ..Geometry::linear(1, THREADS) }.with_shared(shared);
    let product = Prepared::new(entry(shape)?, geometry, params, device)?;
    let sum = whole.map(|_| split_k::sum(buffers.workspace, (splits, outputs), last, device)).transpose()?;
    Ok(Plan { product, sum })
}
