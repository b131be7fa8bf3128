//! # Products by tensor cores
//! `mma.sync.m16n8k16` of f16 or bf16 with f32 sums, in `frame`'s tiles and stages: steps of 32 terms, copied
//! in the layout that they have in memory; `ldmatrix` turns what is stored the other way round.
//!
//! A copy is 16 bytes, so rows and batches begin at multiples of 8 elements. Copies beyond the matrix or the part of k are
//! filled with zeros, which add nothing.
//!
//! Grid `⌈m / 128⌉ × ⌈n / 128⌉ × batches·splits`, block 256, shared memory 128 · 132 · 4 bytes for the sums, more than
//! the stages take, and 4 KiB for each register of the program. Rows of a stage are 8 elements
//! longer than their content: the eight rows that `ldmatrix` reads at once lie in different banks.

use super::frame::{self, Factor, MOST_SHARED, SHARED, SLAB, THREADS, TILE};
use super::{Factors, Params, Place, Variant};
use crate::device::{BF16, F16, Shared, Vector, mma, warp};
use crate::element::Element;
use crate::entry;
use crate::launch::Entry;

/// Terms of a step.
const STEP: u32 = 32;

const fn variant(
    id: &'static str,
    element: Element,
    entry: &'static Entry<Params>,
    layout: [bool; 2],
) -> Variant {
    Variant {
        id,
        element,
        entry,
        tile: TILE,
        step: STEP,
        threads: THREADS,
        shared: SHARED,
        slab: SLAB,
        layout: Some(layout),
        only: None,
        packed: false,
        piece: 8,
        factors: Factors::Own,
    }
}

pub(super) const fn variant_f16(
    id: &'static str,
    entry: &'static Entry<Params>,
    layout: [bool; 2],
) -> Variant {
    variant(id, Element::F16, entry, layout)
}

pub(super) const fn variant_bf16(
    id: &'static str,
    entry: &'static Entry<Params>,
    layout: [bool; 2],
) -> Variant {
    variant(id, Element::BF16, entry, layout)
}

/// Four matrices of 8 × 8 elements of 16 bits.
#[inline(always)]
fn matrices<const TURNED: bool>(
    stage: Shared<u16>,
    pitch: u32,
    [edge, term]: [u32; 2],
    k_first: bool,
) -> [u32; 4] {
    let lane = warp::lane_id();
    let (matrix, line) = (lane / 8, lane % 8);
    let (first, second) = (matrix % 2 * 8, matrix / 2 * 8);
    let (x, k) = if k_first { (edge + second, term + first) } else { (edge + first, term + second) };
    let at = if TURNED { (k + line) * pitch + x } else { (x + line) * pitch + k };
    let row = stage.offset(at as usize);
    // A's fragments want rows along the edge, B's columns: either is the stored order or the turned one.
    if TURNED { mma::load_matrices_transposed(row) } else { mma::load_matrices(row) }
}

/// A type of 16 bits as `mma.sync` multiplies it.
macro_rules! factor {
    ($t:ty, $product:ident) => {
        impl Factor for $t {
            type Bits = u16;
            type Piece = Vector<u16, 8>;

            #[inline(always)]
            fn matrices<const TURNED: bool>(
                stage: Shared<u16>,
                pitch: u32,
                at: [u32; 2],
                k_first: bool,
            ) -> [u32; 4] {
                matrices::<TURNED>(stage, pitch, at, k_first)
            }

            #[inline(always)]
            fn product(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
                mma::$product(a, b, c)
            }
        }
    };
}

factor!(F16, m16n8k16_f16);
factor!(BF16, m16n8k16_bf16);

#[inline(always)]
fn run<T: Factor, const A_TURNED: bool, const B_STORED_BY_COLUMN: bool>(p: Params) {
    let place = Place::of_block(&p, TILE);
    let sums = if B_STORED_BY_COLUMN {
        p.frame_sums::<T, A_TURNED, false>(place)
    } else {
        p.frame_sums::<T, A_TURNED, true>(place)
    };
    frame::store(&p.epilogue, &sums, |row, column| p.element(place, row, column));
}

/// The entries of one type: layouts by A and B, `n` as they are multiplied, `t` transposed.
macro_rules! entries {
    ($($constant:ident = $symbol:ident: $t:ty, $a:literal, $b:literal;)*) => { $(
        entry!(
            /// See the module.
            $constant = $symbol(Params): run::<$t, $a, $b>, THREADS,
            with_shared(MOST_SHARED), with_min_blocks(2), with_capability(80), with_tensor_cores()
        );
    )* };
}

entries! {
    GEMM_TENSOR_F16_NN = gemm_tensor_f16_nn: F16, false, false;
    GEMM_TENSOR_F16_NT = gemm_tensor_f16_nt: F16, false, true;
    GEMM_TENSOR_F16_TN = gemm_tensor_f16_tn: F16, true, false;
    GEMM_TENSOR_F16_TT = gemm_tensor_f16_tt: F16, true, true;
    GEMM_TENSOR_BF16_NN = gemm_tensor_bf16_nn: BF16, false, false;
    GEMM_TENSOR_BF16_NT = gemm_tensor_bf16_nt: BF16, false, true;
    GEMM_TENSOR_BF16_TN = gemm_tensor_bf16_tn: BF16, true, false;
    GEMM_TENSOR_BF16_TT = gemm_tensor_bf16_tt: BF16, true, true;
}
