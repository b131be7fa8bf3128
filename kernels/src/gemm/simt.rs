//! # Products by scalar arithmetic
//! A block computes a square tile of C, a thread 8 × 8 of it: two groups of four rows by two groups of four columns, half
//! a tile apart. Steps of 8 terms pass through two buffers in shared memory, `[8, TILE + 4]` for each operand; the next
//! step's elements are on their way in registers meanwhile. Sums are f32, in the order of k.
//!
//! Grid `⌈m / TILE⌉ × ⌈n / TILE⌉ × batches·splits`, block `(TILE / 8)²`, shared `128 · (TILE + 4)` bytes. The four padding
//! words put the 8 × 4 elements that a warp stores at once into different banks.

use super::{A_TRANSPOSED, B_TRANSPOSED, Factors, Params, Place, Variant};
use crate::device::math::{fma_f32, opaque};
use crate::device::{BF16, F16, Global, Shared, Vector, shared, thread};
use crate::element::{Element, Real};
use crate::entry;
use crate::epilogue::{self, MOST_SLOTS, Slab};
use crate::launch::Entry;

/// Terms of a step.
const STEP: usize = 8;

const fn threads(tile: u32) -> u32 {
    (tile / 8) * (tile / 8)
}

const fn shared_bytes(tile: u32) -> u32 {
    2 * 2 * STEP as u32 * (tile + 4) * 4
}

/// Bytes of a slab of sums, `[TILE / 4, TILE + 4]`.
pub(crate) const fn slab_bytes(tile: u32) -> u32 {
    tile * (tile + 4)
}

/// Most shared memory.
pub(crate) const fn most_shared(tile: u32) -> u32 {
    let (steps, slabs) =
        (shared_bytes(tile), epilogue::shared_bytes(slab_bytes(tile), threads(tile), MOST_SLOTS));
    if steps > slabs { steps } else { slabs }
}

pub(super) const fn variant(
    id: &'static str,
    element: Element,
    entry: &'static Entry<Params>,
    tile: u32,
) -> Variant {
    Variant {
        id,
        element,
        entry,
        tile,
        step: STEP as u32,
        threads: threads(tile),
        shared: shared_bytes(tile),
        slab: slab_bytes(tile),
        layout: None,
        only: None,
        packed: false,
        piece: 1,
        factors: Factors::Own,
    }
}

/// One operand: rows along the tile's edge, columns along k, whichever way it is stored.
struct Operand<T> {
    elements: Global<T>,
    row: u64,
    /// Whether elements along the edge are adjacent, not those along k.
    edge_adjacent: bool,
    edge: u32,
    edge_end: u32,
    terms_end: u32,
}

impl<T: Real> Operand<T> {
    /// Where element `piece` of the thread lies in a step: along the edge, along k.
    #[inline(always)]
    fn position<const TILE: usize>(&self, piece: usize) -> (u32, u32) {
        let at = thread::thread_idx_x() + piece as u32 * threads(TILE as u32);
        let (tile, step) = (TILE as u32, STEP as u32);
        if self.edge_adjacent { (at % tile, at / tile) } else { (at / step, at % step) }
    }

    /// The thread's elements of the step that begins at `term`; zero outside the matrix.
    #[inline(always)]
    fn fetch<const TILE: usize>(&self, term: u32) -> [f32; 8] {
        let mut values = [0.0; 8];
        for piece in 0..512 / TILE {
            let (x, k) = self.position::<TILE>(piece);
            let (x, k) = (self.edge + x, term + k);
            if x < self.edge_end && k < self.terms_end {
                let (row, column) = if self.edge_adjacent { (k, x) } else { (x, k) };
                let at = u64::from(row) * self.row + u64::from(column);
                values[piece] = self.elements.load(at as usize).widen();
            }
        }
        values
    }

    /// Puts them into a buffer of shared memory, `[STEP, TILE + 4]`.
    #[inline(always)]
    fn put<const TILE: usize>(&self, buffer: Shared<f32>, values: &[f32; 8]) {
        for piece in 0..512 / TILE {
            let (x, k) = self.position::<TILE>(piece);
            buffer.store(k as usize * (TILE + 4) + x as usize, values[piece]);
        }
    }
}

/// Eight elements of a buffer's row: four from `at` on, four half a tile on.
#[inline(always)]
pub(crate) fn eight<const TILE: usize>(buffer: Shared<f32>, k: usize, at: usize) -> [f32; 8] {
    let row = buffer.offset(k * (TILE + 4)).cast::<Vector<f32, 4>>();
    let (Vector([a, b, c, d]), Vector([e, f, g, h])) = (row.load(at), row.load(at + TILE / 8));
    [a, b, c, d, e, f, g, h]
}

/// `sums += a · bᵀ`
#[inline(always)]
pub(crate) fn accumulate(sums: &mut [[f32; 8]; 8], a: &[f32; 8], b: &[f32; 8]) {
    for (i, row) in sums.iter_mut().enumerate() {
        for (j, sum) in row.iter_mut().enumerate() {
            *sum = fma_f32(a[i], b[j], *sum);
        }
    }
}

#[inline(always)]
fn run<T: Real, const TILE: usize>(p: Params) {
    let tile = TILE as u32;
    let place = Place::of_block(&p, tile);
    let [a_offset, b_offset] = p.offsets(place.batch);
    let [from, to] = p.terms(place.split);
    let a = Operand::<T> {
        elements: p.a.cast::<T>().offset(a_offset),
        row: p.a_row,
        edge_adjacent: p.transposed & A_TRANSPOSED != 0,
        edge: place.row,
        edge_end: p.m,
        terms_end: to,
    };
    let b = Operand::<T> {
        elements: p.b.cast::<T>().offset(b_offset),
        row: p.b_row,
        edge_adjacent: p.transposed & B_TRANSPOSED == 0,
        edge: place.column,
        edge_end: p.n,
        terms_end: to,
    };
    let size = STEP * (TILE + 4);
    let stage = shared::array::<f32>(0, 4 * size as u32);
    let buffers = |turn: usize| (stage.offset(2 * turn * size), stage.offset((2 * turn + 1) * size));
    let (tx, ty) =
        (thread::thread_idx_x() as usize % (TILE / 8), thread::thread_idx_x() as usize / (TILE / 8));
    let mut sums = [[0.0f32; 8]; 8];
    let (mut next_a, mut next_b) = (a.fetch::<TILE>(from), b.fetch::<TILE>(from));
    a.put::<TILE>(buffers(0).0, &next_a);
    b.put::<TILE>(buffers(0).1, &next_b);
    thread::sync_threads();
    let (mut term, mut turn) = (from, 0);
    while term < to {
        let next = term + STEP as u32;
        if next < to {
            next_a = a.fetch::<TILE>(next);
            next_b = b.fetch::<TILE>(next);
        }
        let (of_a, of_b) = buffers(turn);
        for k in 0..STEP {
            accumulate(&mut sums, &eight::<TILE>(of_a, k, ty), &eight::<TILE>(of_b, k, tx));
        }
        turn = 1 - turn;
        if next < to {
            a.put::<TILE>(buffers(turn).0, &next_a);
            b.put::<TILE>(buffers(turn).1, &next_b);
        }
        thread::sync_threads();
        term = next;
    }
    by_slabs::<TILE>(&sums, (stage, p.epilogue.slots()), |slab, rows| {
        p.store_slab(place, slab, |row| rows.row(row));
    });
}

/// Gives a tile's sums, slab by slab, to `store`, with what tells a staged row's number in the tile. A slab is two rows of
/// every thread, `[TILE / 4, TILE + 4]`. The staging alone differs from one to the next, so that what `store` does is in
/// the code once.
#[inline(always)]
pub(crate) fn by_slabs<const TILE: usize>(
    sums: &[[f32; 8]; 8],
    (stage, slots): (Shared<f32>, u32),
    store: impl Fn(Slab, SlabRows),
) {
    let tile = TILE as u32;
    let registers = shared::array(slab_bytes(tile), slots * threads(tile));
    let slab = Slab { sums: stage, rows: tile / 4, width: tile, pitch: tile + 4, registers };
    let (mut number, slabs) = (0, opaque(4));
    while number < slabs {
        // Each by its own constants: an array with another index would lie in memory.
        match number {
            0 => stage_pair::<TILE>(stage, &sums[0], &sums[1]),
            1 => stage_pair::<TILE>(stage, &sums[2], &sums[3]),
            2 => stage_pair::<TILE>(stage, &sums[4], &sums[5]),
            _ => stage_pair::<TILE>(stage, &sums[6], &sums[7]),
        }
        thread::sync_threads();
        store(slab, SlabRows { tile, number });
        thread::sync_threads();
        number += 1;
    }
}

/// Puts two rows of a thread's sums into a slab.
#[inline(always)]
fn stage_pair<const TILE: usize>(stage: Shared<f32>, upper: &[f32; 8], lower: &[f32; 8]) {
    let own = thread::thread_idx_x() as usize;
    let (tx, ty) = (own % (TILE / 8), own / (TILE / 8));
    let put = |row: usize, &[s0, s1, s2, s3, s4, s5, s6, s7]: &[f32; 8]| {
        let row = stage.offset(row * (TILE + 4)).cast::<Vector<f32, 4>>();
        row.store(tx, Vector([s0, s1, s2, s3]));
        row.store(tx + TILE / 8, Vector([s4, s5, s6, s7]));
    };
    put(2 * ty, upper);
    put(2 * ty + 1, lower);
}

/// Which rows of a tile a slab has.
#[derive(Clone, Copy)]
pub(crate) struct SlabRows {
    tile: u32,
    number: u32,
}

impl SlabRows {
    /// The number in the tile of a staged row.
    #[inline(always)]
    pub(crate) fn row(self, staged: u32) -> u32 {
        self.number / 2 * (self.tile / 2) + staged / 2 * 4 + self.number % 2 * 2 + staged % 2
    }
}

entry!(
    /// f32, tiles of 128 × 128.
    GEMM_SIMT_128_F32 = gemm_simt_128_f32(Params): run::<f32, 128>, threads(128),
    with_shared(most_shared(128)), with_min_blocks(1)
);
entry!(
    /// f32, tiles of 64 × 64.
    GEMM_SIMT_64_F32 = gemm_simt_64_f32(Params): run::<f32, 64>, threads(64), with_shared(most_shared(64)), with_min_blocks(4)
);
entry!(
    /// f16, tiles of 64 × 64.
    GEMM_SIMT_64_F16 = gemm_simt_64_f16(Params): run::<F16, 64>, threads(64), with_shared(most_shared(64)), with_min_blocks(4)
);
entry!(
    /// bf16, tiles of 64 × 64.
    GEMM_SIMT_64_BF16 = gemm_simt_64_bf16(Params): run::<BF16, 64>, threads(64), with_shared(most_shared(64)), with_min_blocks(4)
);
