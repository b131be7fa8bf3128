//! # Convolutions by tensor cores
//! An implicit matrix product per group in the tiles and stages of products (`gemm/frame.rs`): 128 filters × 128
//! positions of a block. Weights are copied by `cp.async` as they lie, a filter's terms along k. Of the positions a thread
//! brings one, half a step's terms of it: it loads them into registers while the step before is multiplied, zero outside the
//! input, and puts them into a row of each term, neighbouring threads neighbouring positions. A step's first term is placed
//! with divisions, those behind it without.
//!
//! A filter's weights begin at a multiple of the 16 bytes of a copy: 8 of f16 and bf16, 4 of f32; where its terms are no such
//! multiple, as in first layers of three channels, its weights are packed with zeros behind them. Factors of f32 are rounded
//! to tf32 as in [`tf32`](crate::gemm::tf32), where the caller allows it. Sums are f32, errors those of the products.
//!
//! Floor: `2 · filters · positions · terms` operations at the tensor cores' rate, or X read once for each 128 filters. What the
//! design predicts beside it: 128 · 128 · 32 products of a step in 16 bits take 512 clocks of a multiprocessor of 1024
//! products a clock; its 4096 elements of X are 16 loads, places and stores of each thread, some 200 instructions of
//! 8 warps or 400 clocks on four schedulers, beside them. Nothing of this was measured.
//!
//! Grid `⌈positions / 128⌉ × ⌈filters of a group / 128⌉ × groups·parts`, block 256, shared memory as products have it.

use super::{Params, Place, Variant};
use crate::device::{BF16, F16, Global, Plain, Shared, thread};
use crate::element::Element;
use crate::entry;
use crate::gemm::Factors;
use crate::gemm::frame::{self, Factor, MOST_SHARED, Operand, SHARED, SLAB, Staged, THREADS, TILE};
use crate::gemm::tf32::Tf32;
use crate::implicit::{Column, Field};
use crate::launch::Entry;

/// The thread's words of a step: two terms of 16 bits each, or one.
const WORDS: usize = 8;

/// The positions' side: one position of the thread.
struct Positions<'a, F: Factor> {
    field: &'a Field,
    x: Global<F::Bits>,
    column: Column,
    /// The terms that count.
    terms: [u32; 2],
    /// The first of the thread's terms of a step.
    own: u32,
    words: [u32; WORDS],
    stages: Shared<F::Bits>,
}

/// Terms of a word.
const fn packed<F: Factor>() -> u32 {
    F::PIECE / 4
}

impl<F: Factor> Staged<F> for Positions<'_, F> {
    #[inline(always)]
    fn fetch(&mut self, step: u32) {
        let [from, to] = self.terms;
        let mut number = from + step * F::STEP + self.own;
        let mut term = self.field.term(number);
        for word in 0..WORDS {
            let mut bits = 0;
            for part in 0..packed::<F>() {
                let (inside, at) = self.field.place(self.column, term);
                if inside && number < to {
                    bits |= (self.x.load(at as usize).to_bits() as u32) << (16 * part);
                }
                term = self.field.next(term);
                number += 1;
            }
            self.words[word] = bits;
        }
    }

    #[inline(always)]
    fn put(&self, step: u32) {
        let (stage, pitch) = (frame::stage_of::<F>(self.stages, step), frame::pitch::<F>(true));
        let first = self.own * pitch + thread::thread_idx_x() % TILE;
        for word in 0..WORDS {
            for part in 0..packed::<F>() {
                let row = word as u32 * packed::<F>() + part;
                let bits = F::Bits::from_bits(u128::from(self.words[word] >> (16 * part)));
                stage.store((first + row * pitch) as usize, bits);
            }
        }
    }

    #[inline(always)]
    fn matrices(&self, step: u32, at: [u32; 2], k_first: bool) -> [u32; 4] {
        F::matrices::<true>(frame::stage_of::<F>(self.stages, step), frame::pitch::<F>(true), at, k_first)
    }
}

/// Every thread.
#[inline(always)]
fn run<F: Factor>(p: Params) {
    let place = Place::of_block(&p, TILE);
    let terms = p.terms(place.split);
    let first = u64::from(place.group * p.field.filters) * u64::from(p.field.row);
    let a = Operand::<F, false> {
        elements: p.w.cast::<F::Bits>().offset(first as usize),
        row: p.field.row.into(),
        edge: place.row,
        edge_end: p.field.filters,
        terms,
        stages: frame::stages::<F>(0),
    };
    let own = thread::thread_idx_x();
    let mut b = Positions::<F> {
        field: &p.field,
        x: p.x.cast(),
        column: p.field.column(place.column + own % TILE, place.group),
        terms,
        own: own / TILE * (F::STEP / 2),
        words: [0; WORDS],
        stages: frame::stages::<F>(1),
    };
    let sums = frame::sums::<F>(&a, &mut b, terms);
    frame::store(&p.epilogue, &sums, |row, column| p.result(place, row, column));
}

const fn variant(
    id: &'static str,
    (element, factors): (Element, Factors),
    entry: &'static Entry<Params>,
) -> Variant {
    let piece = 16 / element.bytes() as u32;
    let (step, shared) = (4 * piece, SHARED);
    Variant { id, element, entry, tile: TILE, step, threads: THREADS, shared, slab: SLAB, piece, factors }
}

pub(super) const F16_VARIANT: Variant = variant("tensor_f16", (Element::F16, Factors::Own), &CONV_TENSOR_F16);
pub(super) const BF16_VARIANT: Variant =
    variant("tensor_bf16", (Element::BF16, Factors::Own), &CONV_TENSOR_BF16);
pub(super) const TF32_VARIANT: Variant =
    variant("tensor_tf32", (Element::F32, Factors::Tf32), &CONV_TENSOR_TF32);

entry!(
    /// bf16.
    CONV_TENSOR_BF16 = conv_tensor_bf16(Params): run::<BF16>, THREADS,
    with_shared(MOST_SHARED), with_min_blocks(2), with_capability(80), with_tensor_cores()
);
entry!(
    /// f16.
    CONV_TENSOR_F16 = conv_tensor_f16(Params): run::<F16>, THREADS,
    with_shared(MOST_SHARED), with_min_blocks(2), with_capability(80), with_tensor_cores()
);
entry!(
    /// f32, factors rounded to tf32.
    CONV_TENSOR_TF32 = conv_tensor_tf32(Params): run::<Tf32>, THREADS,
    with_shared(MOST_SHARED), with_min_blocks(1), with_capability(80), with_tensor_cores()
);
