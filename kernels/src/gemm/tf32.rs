//! # Products of f32 by tensor cores
//! `mma.sync.m16n8k8` of factors that are rounded to tf32, 10 bits of the fraction, to nearest and halves away from zero, with
//! f32 sums; only where the caller allows it ([`Factors::Tf32`]). Tiles and stages are `frame`'s: steps of 16
//! terms, copied in the layout that they have in memory and rounded as they are read: `ldmatrix` gives fragments of rows
//! along k, four floats for eight halves; of what is stored the other way round each lane reads its own.
//!
//! Each factor is off by at most `2⁻¹¹` of itself, so that the error is at most `(2⁻¹⁰ + 2⁻²²) · Σ|a·b|` beside that of
//! the sums. A factor above `(2 − 2⁻¹¹) · 2¹²⁷` becomes infinite.
//!
//! A copy is 16 bytes, so rows and batches begin at multiples of 4 elements. Copies beyond the matrix or the part of k are
//! filled with zeros.
//!
//! Grid `⌈m / 128⌉ × ⌈n / 128⌉ × batches·splits`, block 256, shared memory as [`tensor`](super::tensor) has it. Rows along
//! k have 20 words and rows along the edge 136: the 32 words that a warp reads at once lie in different banks. One entry has
//! the loops of all four layouts, since what follows them is the larger part of the code.

use super::frame::{self, Factor, MOST_SHARED, SHARED, SLAB, THREADS, TILE};
use super::{A_TRANSPOSED, B_TRANSPOSED, Factors, Params, Place, Variant};
use crate::device::{Shared, Vector, mma, warp};
use crate::element::Element;
use crate::entry;

/// Terms of a step.
const STEP: u32 = 16;

/// The family's one variant.
pub(super) const VARIANT: Variant = Variant {
    id: "tf32",
    element: Element::F32,
    entry: &GEMM_TF32,
    tile: TILE,
    step: STEP,
    threads: THREADS,
    shared: SHARED,
    slab: SLAB,
    layout: None,
    only: None,
    packed: false,
    piece: 4,
    factors: Factors::Tf32,
};

/// f32 whose factors are rounded to tf32.
pub(crate) enum Tf32 {}

impl Factor for Tf32 {
    type Bits = u32;
    type Piece = Vector<u32, 4>;

    #[inline(always)]
    fn matrices<const TURNED: bool>(
        stage: Shared<u32>,
        pitch: u32,
        [edge, term]: [u32; 2],
        k_first: bool,
    ) -> [u32; 4] {
        let place = |matrix: u32, along_edge: u32, along_k: u32| {
            let (first, second) = (matrix % 2, matrix / 2);
            let (x, k) = if k_first { (second, first) } else { (first, second) };
            let (x, k) = (edge + 8 * x + along_edge, term + 4 * k + along_k);
            (if TURNED { k * pitch + x } else { x * pitch + k }) as usize
        };
        let lane = warp::lane_id();
        let [a, b, c, d] = if TURNED {
            let own = |matrix: u32| stage.load(place(matrix, lane / 4, lane % 4));
            [own(0), own(1), own(2), own(3)]
        } else {
            mma::load_matrices(stage.offset(place(lane / 8, lane % 8, 0)).cast())
        };
        [mma::to_tf32(a), mma::to_tf32(b), mma::to_tf32(c), mma::to_tf32(d)]
    }

    #[inline(always)]
    fn product(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
        mma::m16n8k8_tf32(a, b, c)
    }
}

/// Every thread. B as it is multiplied has its rows along k: that is the turned one.
#[inline(always)]
fn run(p: Params) {
    let place = Place::of_block(&p, TILE);
    let a_turned = p.transposed & A_TRANSPOSED != 0;
    let sums = if p.transposed & B_TRANSPOSED == 0 {
        if a_turned {
            p.frame_sums::<Tf32, true, true>(place)
        } else {
            p.frame_sums::<Tf32, false, true>(place)
        }
    } else if a_turned {
        p.frame_sums::<Tf32, true, false>(place)
    } else {
        p.frame_sums::<Tf32, false, false>(place)
    };
    frame::store(&p.epilogue, &sums, |row, column| p.element(place, row, column));
}

entry!(
    /// See the module.
    GEMM_TF32 = gemm_tf32(Params): run, THREADS,
    with_shared(MOST_SHARED), with_min_blocks(2), with_capability(80), with_tensor_cores()
);
