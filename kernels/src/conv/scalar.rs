//! # Convolutions by scalar arithmetic
//! A block computes a tile of 64 filters × 64 positions, a thread 8 × 8 of it. Steps of 8 terms pass through two buffers in
//! shared memory, `[8, 64 + 4]` for each operand, while the next step's elements are on their way in registers: a thread
//! brings one filter's and one position's. A position's place is decoded once; terms follow one another without divisions.
//!
//! Sums are f32, in the order of the terms. The error is that of such a sum: at most `(k + 2) · 2⁻²⁴ · Σ|w·x|`, and the
//! rounding to Y's type.
//!
//! Grid `⌈positions / 64⌉ × ⌈filters of a group / 64⌉ × groups·parts`, block 64, shared memory 8704 bytes.

use super::{Params, Place, Variant};
use crate::device::{BF16, F16, Shared, shared, thread};
use crate::element::{Element, Real};
use crate::entry;
use crate::gemm::Factors;
use crate::gemm::simt::{accumulate, by_slabs, eight, most_shared, slab_bytes};
use crate::implicit::{Column, Term};
use crate::launch::Entry;

/// Filters and positions of a block.
const TILE: usize = 64;
/// Terms of a step.
const STEP: usize = 8;
/// Threads of a block.
const THREADS: u32 = TILE as u32;
/// Elements of a buffer's row.
const PITCH: usize = TILE + 4;
const SHARED: u32 = (2 * 2 * STEP * PITCH * 4) as u32;

impl Params {
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

pub(super) const fn variant(id: &'static str, element: Element, entry: &'static Entry<Params>) -> Variant {
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
