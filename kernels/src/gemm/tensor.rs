//! # Products by tensor cores
//! `mma.sync.m16n8k16` of f16 or bf16 with f32 sums. A block of 8 warps computes 128 × 128 of C, a warp 64 × 32: 4 × 4
//! products of 16 × 8 per 16 terms. Steps of 32 terms of both operands are copied by `cp.async` into a ring of three
//! stages in the layout that they have in memory; `ldmatrix` turns what is stored the other way round.
//!
//! A copy is 16 bytes, so rows and batches begin at multiples of 8 elements. Copies beyond the matrix or the part of k are
//! filled with zeros, which add nothing. A stage is overwritten two steps after it was read, behind the barrier at the
//! head of the step between.
//!
//! Grid `⌈m / 128⌉ × ⌈n / 128⌉ × batches·splits`, block 256, shared memory 128 · 132 · 4 bytes for the sums, more than
//! the stages take, and 4 KiB for each register of the program. Rows of a stage are 8 elements
//! longer than their content: the eight rows that `ldmatrix` reads at once lie in different banks.

use super::{Factors, Params, Place, Variant, divided};
use crate::device::{BF16, F16, Float16, Global, Shared, Vector, async_copy, mma, shared, thread, warp};
use crate::element::{Element, Real};
use crate::entry;
use crate::epilogue::{self, MOST_SLOTS, Slab};
use crate::launch::Entry;

pub(super) const TILE: u32 = 128;
/// Terms of a step.
const STEP: u32 = 32;
pub(super) const THREADS: u32 = 256;
const STAGES: u32 = 3;
/// Elements of one operand's part of a stage: the larger of `[128, 32 + 8]` and `[32, 128 + 8]`.
const STAGE: u32 = TILE * (STEP + 8);
const SHARED: u32 = STAGES * 2 * STAGE * 2;
/// Floats between the rows of a tile's sums.
const PITCH: u32 = TILE + 4;
/// Bytes of a tile's sums, which all leave the registers before a program needs some.
pub(super) const SLAB: u32 = TILE * PITCH * 4;
/// Most shared memory.
pub(super) const MOST_SHARED: u32 = epilogue::shared_bytes(SLAB, THREADS, MOST_SLOTS);

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

/// The types that `mma.sync` multiplies.
trait Factor: Float16 + Real {
    fn product(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4];
}

impl Factor for F16 {
    #[inline(always)]
    fn product(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
        mma::m16n8k16_f16(a, b, c)
    }
}

impl Factor for BF16 {
    #[inline(always)]
    fn product(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
        mma::m16n8k16_bf16(a, b, c)
    }
}

/// One operand: its rows run along the tile's edge and its columns along k, or, with `TURNED`, the other way round.
struct Operand<const TURNED: bool> {
    elements: Global<u16>,
    row: u64,
    edge: u32,
    edge_end: u32,
    terms_end: u32,
    /// The operand's part of stage 0.
    stages: Shared<u16>,
}

impl<const TURNED: bool> Operand<TURNED> {
    /// Elements of a row in a stage, and elements between rows.
    const WIDTH: u32 = if TURNED { TILE } else { STEP };
    const PITCH: u32 = Self::WIDTH + 8;

    #[inline(always)]
    fn stage(&self, stage: u32) -> Shared<u16> {
        self.stages.offset((stage * 2 * STAGE) as usize)
    }

    /// Starts the thread's two copies of the step that begins at `term`.
    #[inline(always)]
    fn start(&self, stage: u32, term: u32) {
        let to = self.stage(stage).cast::<Vector<u16, 8>>();
        for half in 0..2 {
            let piece = thread::thread_idx_x() + half * THREADS;
            let (y, x) = (piece / (Self::WIDTH / 8), piece % (Self::WIDTH / 8) * 8);
            let (row, column) = if TURNED { (term + y, self.edge + x) } else { (self.edge + y, term + x) };
            let (row_end, column_end) =
                if TURNED { (self.terms_end, self.edge_end) } else { (self.edge_end, self.terms_end) };
            let inside = if row < row_end { column_end.saturating_sub(column).min(8) } else { 0 };
            let at = if inside > 0 { u64::from(row) * self.row + u64::from(column) } else { 0 };
            let place = (y * Self::PITCH + x) / 8;
            async_copy::copy_or_zero(to, place as usize, self.elements.cast(), at as usize / 8, inside * 2);
        }
    }

    /// Four matrices of 8 × 8: pairs along k (`k_first`) or along the edge come first.
    #[inline(always)]
    fn matrices(&self, stage: u32, edge: u32, term: u32, k_first: bool) -> [u32; 4] {
        let lane = warp::lane_id();
        let (matrix, line) = (lane / 8, lane % 8);
        let (first, second) = (matrix % 2 * 8, matrix / 2 * 8);
        let (x, k) = if k_first { (edge + second, term + first) } else { (edge + first, term + second) };
        let at = if TURNED { (k + line) * Self::PITCH + x } else { (x + line) * Self::PITCH + k };
        let row = self.stage(stage).offset(at as usize);
        // A's fragments want rows along the edge, B's columns: either is the stored order or the turned one.
        if TURNED { mma::load_matrices_transposed(row) } else { mma::load_matrices(row) }
    }
}

#[inline(always)]
fn run<T: Factor, const A_TURNED: bool, const B_STORED_BY_COLUMN: bool>(p: Params) {
    if B_STORED_BY_COLUMN { product::<T, A_TURNED, false>(p) } else { product::<T, A_TURNED, true>(p) }
}

#[inline(always)]
fn product<T: Factor, const A_TURNED: bool, const B_TURNED: bool>(p: Params) {
    let (batch, split) = divided(thread::block_idx_z(), p.splits);
    let [a_offset, b_offset] = p.offsets(batch);
    let [row, column] = [thread::block_idx_x() * TILE, thread::block_idx_y() * TILE];
    let [from, to] = p.terms(split);
    let memory = shared::array::<u16>(0, STAGES * 2 * STAGE);
    let a = Operand::<A_TURNED> {
        elements: p.a.cast::<u16>().offset(a_offset),
        row: p.a_row,
        edge: row,
        edge_end: p.m,
        terms_end: to,
        stages: memory,
    };
    let b = Operand::<B_TURNED> {
        elements: p.b.cast::<u16>().offset(b_offset),
        row: p.b_row,
        edge: column,
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
    let warp_row = warp::warp_id() / 4 * 64;
    let warp_column = warp::warp_id() % 4 * 32;
    let mut sums = [[[0.0f32; 4]; 4]; 4];
    for step in 0..steps {
        async_copy::wait::<1>();
        thread::sync_threads();
        begin(step + 2);
        let stage = step % STAGES;
        for half in 0..2 {
            let term = 16 * half;
            let mut of_a = [[0; 4]; 4];
            for (i, fragment) in of_a.iter_mut().enumerate() {
                *fragment = a.matrices(stage, warp_row + 16 * i as u32, term, false);
            }
            for pair in 0..2 {
                let [b0, b1, b2, b3] = b.matrices(stage, warp_column + 16 * pair as u32, term, true);
                for (i, fragment) in of_a.iter().enumerate() {
                    sums[i][2 * pair] = T::product(*fragment, [b0, b1], sums[i][2 * pair]);
                    sums[i][2 * pair + 1] = T::product(*fragment, [b2, b3], sums[i][2 * pair + 1]);
                }
            }
        }
    }
    async_copy::wait::<0>();
    thread::sync_threads();
    store(&p, Place { batch, split, row, column }, [warp_row, warp_column], &sums);
}

/// Makes of the sums of a tile, 64 × 32 of a warp that begin at `[warp_row, warp_column]`, what there is to be made of them.
/// The stages are read by nobody any more.
#[inline(always)]
pub(super) fn store(p: &Params, place: Place, [warp_row, warp_column]: [u32; 2], sums: &[[[f32; 4]; 4]; 4]) {
    let stage = shared::array::<f32>(0, SLAB / 4);
    let registers = shared::array(SLAB, p.epilogue.slots() * THREADS);
    let slab = Slab { sums: stage, rows: TILE, width: TILE, pitch: PITCH, registers };
    let (group, member) = (warp::lane_id() / 4, warp::lane_id() % 4);
    for (i, of_rows) in sums.iter().enumerate() {
        let at = (warp_row + 16 * i as u32 + group) * PITCH + warp_column + 2 * member;
        for (j, fragment) in of_rows.iter().enumerate() {
            let upper = (at + 8 * j as u32) as usize;
            let lower = upper + (8 * PITCH) as usize;
            stage.store(upper, fragment[0]);
            stage.store(upper + 1, fragment[1]);
            stage.store(lower, fragment[2]);
            stage.store(lower + 1, fragment[3]);
        }
    }
    thread::sync_threads();
    p.store_slab(place, slab, |staged| staged);
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
