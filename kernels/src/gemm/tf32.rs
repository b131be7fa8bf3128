//! # Products of f32 by tensor cores
//! `mma.sync.m16n8k8` of factors that are rounded to tf32, 10 bits of the fraction, to nearest and halves away from zero, with
//! f32 sums; only where the caller allows it ([`Factors::Tf32`]). A block of 8 warps computes 128 × 128 of C, a warp
//! 64 × 32: 4 × 4 products of 16 × 8 per 8 terms. Steps of 16 terms of both operands are copied by `cp.async` into a ring of
//! three stages in the layout that they have in memory, and rounded as they are read: `ldmatrix` gives fragments of rows
//! along k, four floats for eight halves; of what is stored the other way round each lane reads its own.
//!
//! Each factor is off by at most `2⁻¹¹` of itself, so that the error is at most `(2⁻¹⁰ + 2⁻²²) · Σ|a·b|` beside that of
//! the sums. A factor above `(2 − 2⁻¹¹) · 2¹²⁷` becomes infinite.
//!
//! A copy is 16 bytes, so rows and batches begin at multiples of 4 elements. Copies beyond the matrix or the part of k are
//! filled with zeros. A stage is overwritten two steps after it was read, behind the barrier at the head of the step
//! between.
//!
//! Grid `⌈m / 128⌉ × ⌈n / 128⌉ × batches·splits`, block 256, shared memory as [`tensor`](super::tensor) has it. Rows along
//! k have 20 words and rows along the edge 136: the 32 words that a warp reads at once lie in different banks. One entry has
//! the loops of all four layouts, since what follows them is the larger part of the code.

use super::tensor::{MOST_SHARED, SLAB, THREADS, TILE, store};
use super::{A_TRANSPOSED, B_TRANSPOSED, Factors, Params, Place, Variant, divided};
use crate::device::{Global, Shared, Vector, async_copy, mma, shared, thread, warp};
use crate::element::Element;
use crate::entry;

/// Terms of a step.
const STEP: u32 = 16;
const STAGES: u32 = 3;
/// Words of one operand's part of a stage: the larger of `[128, 16 + 4]` and `[16, 128 + 8]`.
const STAGE: u32 = TILE * (STEP + 4);
const SHARED: u32 = STAGES * 2 * STAGE * 4;
const _: () = assert!(SHARED <= SLAB);

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

/// One operand: its rows run along the tile's edge and its columns along k, or, with `TURNED`, the other way round.
struct Operand<const TURNED: bool> {
    elements: Global<u32>,
    row: u64,
    edge: u32,
    edge_end: u32,
    terms_end: u32,
    /// The operand's part of stage 0.
    stages: Shared<u32>,
}

impl<const TURNED: bool> Operand<TURNED> {
    /// Words of a row in a stage, and words between rows.
    const WIDTH: u32 = if TURNED { TILE } else { STEP };
    const PITCH: u32 = Self::WIDTH + if TURNED { 8 } else { 4 };

    #[inline(always)]
    fn stage(&self, stage: u32) -> Shared<u32> {
        self.stages.offset((stage * 2 * STAGE) as usize)
    }

    /// Starts the thread's two copies of the step that begins at `term`.
    #[inline(always)]
    fn start(&self, stage: u32, term: u32) {
        let to = self.stage(stage).cast::<Vector<u32, 4>>();
        for half in 0..2 {
            let piece = thread::thread_idx_x() + half * THREADS;
            let (y, x) = (piece / (Self::WIDTH / 4), piece % (Self::WIDTH / 4) * 4);
            let (row, column) = if TURNED { (term + y, self.edge + x) } else { (self.edge + y, term + x) };
            let (row_end, column_end) =
                if TURNED { (self.terms_end, self.edge_end) } else { (self.edge_end, self.terms_end) };
            let inside = if row < row_end { column_end.saturating_sub(column).min(4) } else { 0 };
            let at = if inside > 0 { u64::from(row) * self.row + u64::from(column) } else { 0 };
            let place = (y * Self::PITCH + x) / 4;
            async_copy::copy_or_zero(to, place as usize, self.elements.cast(), at as usize / 4, inside * 4);
        }
    }

    /// Four matrices of 8 along the edge × 4 along k: pairs along k (`k_first`) or along the edge come first.
    #[inline(always)]
    fn matrices(&self, stage: u32, edge: u32, term: u32, k_first: bool) -> [u32; 4] {
        let stage = self.stage(stage);
        let place = |matrix: u32, along_edge: u32, along_k: u32| {
            let (first, second) = (matrix % 2, matrix / 2);
            let (x, k) = if k_first { (second, first) } else { (first, second) };
            let (x, k) = (edge + 8 * x + along_edge, term + 4 * k + along_k);
            (if TURNED { k * Self::PITCH + x } else { x * Self::PITCH + k }) as usize
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
}

/// Where a warp's part of the tile begins.
#[inline(always)]
fn warp_corner() -> [u32; 2] {
    [warp::warp_id() / 4 * 64, warp::warp_id() % 4 * 32]
}

/// The warp's sums of a tile.
#[inline(always)]
fn sums<const A_TURNED: bool, const B_TURNED: bool>(p: &Params, place: Place) -> [[[f32; 4]; 4]; 4] {
    let [a_offset, b_offset] = p.offsets(place.batch);
    let [from, to] = p.terms(place.split);
    let memory = shared::array::<u32>(0, STAGES * 2 * STAGE);
    let a = Operand::<A_TURNED> {
        elements: p.a.cast::<u32>().offset(a_offset),
        row: p.a_row,
        edge: place.row,
        edge_end: p.m,
        terms_end: to,
        stages: memory,
    };
    let b = Operand::<B_TURNED> {
        elements: p.b.cast::<u32>().offset(b_offset),
        row: p.b_row,
        edge: place.column,
        edge_end: p.n,
        terms_end: to,
        stages: memory.offset(STAGE as usize),
    };
    let steps = if to > from { (to - from).div_ceil(STEP) } else { 0 };
    let begin = |step: u32| {
        if step < steps {
            a.start(step % STAGES, from + step * STEP);
            b.start(step % STAGES, from + step * STEP);
        }
        async_copy::commit();
    };
    begin(0);
    begin(1);
    let [warp_row, warp_column] = warp_corner();
    let mut sums = [[[0.0f32; 4]; 4]; 4];
    for step in 0..steps {
        async_copy::wait::<1>();
        thread::sync_threads();
        begin(step + 2);
        let stage = step % STAGES;
        for half in 0..2 {
            let term = 8 * half;
            let mut of_a = [[0; 4]; 4];
            for (i, fragment) in of_a.iter_mut().enumerate() {
                *fragment = a.matrices(stage, warp_row + 16 * i as u32, term, false);
            }
            for pair in 0..2 {
                let [b0, b1, b2, b3] = b.matrices(stage, warp_column + 16 * pair as u32, term, true);
                for (i, fragment) in of_a.iter().enumerate() {
                    let [left, right] = [2 * pair, 2 * pair + 1];
                    sums[i][left] = mma::m16n8k8_tf32(*fragment, [b0, b1], sums[i][left]);
                    sums[i][right] = mma::m16n8k8_tf32(*fragment, [b2, b3], sums[i][right]);
                }
            }
        }
    }
    async_copy::wait::<0>();
    thread::sync_threads();
    sums
}

/// Every thread. B as it is multiplied has its rows along k: that is the turned one.
#[inline(always)]
fn run(p: Params) {
    let (batch, split) = divided(thread::block_idx_z(), p.splits);
    let place =
        Place { batch, split, row: thread::block_idx_x() * TILE, column: thread::block_idx_y() * TILE };
    let a_turned = p.transposed & A_TRANSPOSED != 0;
    let sums = if p.transposed & B_TRANSPOSED == 0 {
        if a_turned { sums::<true, true>(&p, place) } else { sums::<false, true>(&p, place) }
    } else if a_turned {
        sums::<true, false>(&p, place)
    } else {
        sums::<false, false>(&p, place)
    };
    store(&p, place, warp_corner(), &sums);
}

entry!(
    /// See the module.
    GEMM_TF32 = gemm_tf32(Params): run, THREADS,
    with_shared(MOST_SHARED), with_min_blocks(2), with_capability(80), with_tensor_cores()
);
