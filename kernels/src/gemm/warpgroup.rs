//! # Products by the tensor cores of Hopper
//! `wgmma` of f16 or bf16 with f32 sums. A block of two warpgroups computes 128 × 128 of C, a warpgroup 64 × 128: 64 sums of a
//! thread. Steps of 64 terms of both operands lie in a ring of three stages in the layout that they have in memory, lines of
//! 128 bytes in the swizzle that the instruction reads without conflicts; it multiplies what is stored the other way round
//! as it lies.
//!
//! Pieces of 16 bytes are copied by `cp.async`, which puts each where the swizzle wants it; so rows and batches begin at
//! multiples of 8 elements. Copies beyond the matrix or the part of k are filled with zeros, which add nothing. A thread
//! that has waited for its copies shows them to the tensor cores' way to memory before the barrier. A stage is overwritten
//! two steps after it was read, behind the barrier at the head of the step between; a step's products are waited for, and
//! two blocks on a multiprocessor fill each other's waits.
//!
//! A constant B may be packed: its tiles of 128 columns × 64 terms lie one behind the other as a stage has them, and a step's
//! is one bulk copy of 16 KiB that one thread starts, and that all await at the stage's mbarrier. Such a B has any layout.
//!
//! The instruction is that of compute capability 9.0 alone: later ones have another.
//!
//! Grid `⌈m / 128⌉ × ⌈n / 128⌉ × batches·splits`, block 256, shared memory 3 · 32 KiB, or 128 · 132 · 4 bytes for the sums and 4 KiB
//! for each register of the program where that is more; where B is packed, three mbarriers behind that.

use super::{Factors, Params, Place, Problem, Variant, divided};
use crate::device::barrier::Arrivals;
use crate::device::wgmma::{self, DEPTH, SUMS, swizzled};
use crate::device::{BF16, F16, Float16, Global, Shared, Vector, async_copy, barrier, shared, thread, warp};
use crate::element::{Element, Real};
use crate::entry;
use crate::epilogue::{self, MOST_SLOTS, Slab};
use crate::launch::Entry;

const TILE: u32 = 128;
/// Terms of a step.
const STEP: u32 = DEPTH;
const THREADS: u32 = 256;
const STAGES: u32 = 3;
/// Elements of one operand's part of a stage.
const STAGE: u32 = TILE * STEP;
/// Elements of the part that a warpgroup's rows have of A's: 64 lines, whichever way they run.
const HALF: u32 = STAGE / 2;
const SHARED: u32 = STAGES * 2 * STAGE * 2;
/// Floats between the rows of a tile's sums.
const PITCH: u32 = TILE + 4;
/// Bytes of a tile's sums.
const SLAB: u32 = TILE * PITCH * 4;
/// Most shared memory.
const MOST_SHARED: u32 = {
    let slab = epilogue::shared_bytes(SLAB, THREADS, MOST_SLOTS);
    if slab > SHARED { slab } else { SHARED }
};

/// Bytes of the mbarriers of a packed B's stages.
pub(super) const ARRIVALS: u32 = 8 * STAGES;

/// Where they are, behind everything else.
#[inline(always)]
const fn arrivals_at(slots: u32) -> u32 {
    let slab = epilogue::shared_bytes(SLAB, THREADS, slots);
    if slab > SHARED { slab } else { SHARED }
}

/// The variant for an A as it is multiplied and a packed B.
pub(super) const fn packed(id: &'static str, element: Element, entry: &'static Entry<Params>) -> Variant {
    Variant { packed: true, ..variant(id, element, entry, [false, false]) }
}

pub(super) const fn variant(
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
        only: Some(90),
        packed: false,
        piece: 8,
        factors: Factors::Own,
    }
}

/// Steps of B's terms.
const fn steps(k: u32) -> u32 {
    k.div_ceil(STEP)
}

/// Bytes of a packed B.
pub(super) fn packed_bytes(problem: &Problem) -> u64 {
    u64::from(problem.n.div_ceil(TILE)) * u64::from(steps(problem.k)) * u64::from(2 * STAGE)
}

/// Packs B: the element of term `k` and column `n` lies at `k · row + n · column` of `b`, in elements. Both slices hold bytes;
/// `packed` has [`Variant::packed_bytes`].
pub fn pack(problem: &Problem, b: &[u8], [row, column]: [usize; 2], packed: &mut [u8]) {
    packed.fill(0);
    let steps = steps(problem.k).max(1) as usize;
    for (number, stage) in packed.chunks_exact_mut(2 * STAGE as usize).enumerate() {
        let (first_column, first_term) = (number / steps * TILE as usize, number % steps * STEP as usize);
        for x in 0..(problem.n as usize - first_column).min(TILE as usize) {
            for k in 0..(problem.k as usize - first_term).min(STEP as usize) {
                let to = 2 * (8 * swizzled(x as u32, k as u32 / 8) as usize + k % 8);
                let from = 2 * ((first_term + k) * row + (first_column + x) * column);
                stage[to..to + 2].copy_from_slice(&b[from..from + 2]);
            }
        }
    }
}

/// The types that `wgmma` multiplies.
trait Factor: Float16 + Real {
    fn product<const A_EDGE: bool, const B_EDGE: bool>(
        sums: &mut [f32; SUMS],
        a: wgmma::Operand,
        b: wgmma::Operand,
    );
}

impl Factor for F16 {
    #[inline(always)]
    fn product<const A_EDGE: bool, const B_EDGE: bool>(
        sums: &mut [f32; SUMS],
        a: wgmma::Operand,
        b: wgmma::Operand,
    ) {
        wgmma::wgmma_f16::<A_EDGE, B_EDGE>(sums, a, b);
    }
}

impl Factor for BF16 {
    #[inline(always)]
    fn product<const A_EDGE: bool, const B_EDGE: bool>(
        sums: &mut [f32; SUMS],
        a: wgmma::Operand,
        b: wgmma::Operand,
    ) {
        wgmma::wgmma_bf16::<A_EDGE, B_EDGE>(sums, a, b);
    }
}

/// One operand: its stored rows run along k, or, with `EDGE`, along the tile's edge.
struct Operand<const EDGE: bool> {
    elements: Global<u16>,
    row: u64,
    edge: u32,
    edge_end: u32,
    terms_end: u32,
    /// The operand's part of stage 0.
    stages: Shared<u16>,
}

impl<const EDGE: bool> Operand<EDGE> {
    #[inline(always)]
    fn stage(&self, stage: u32) -> Shared<u16> {
        self.stages.offset((stage * 2 * STAGE) as usize)
    }

    /// Starts the thread's four copies of the step that begins at `term`.
    #[inline(always)]
    fn start(&self, stage: u32, term: u32) {
        let to = self.stage(stage).cast::<Vector<u16, 8>>();
        for quarter in 0..STAGE / 8 / THREADS {
            let number = thread::thread_idx_x() + quarter * THREADS;
            // Lines along k are 128 by 8 pieces; those along the edge are 64 by 16, of which 8 are in each half.
            let (line, piece, row, column) = if EDGE {
                let (k, x) = (number / 16, number % 16);
                (x / 8 * STEP + k, x % 8, term + k, self.edge + x * 8)
            } else {
                let (x, k) = (number / 8, number % 8);
                (x, k, self.edge + x, term + k * 8)
            };
            let (row_end, column_end) =
                if EDGE { (self.terms_end, self.edge_end) } else { (self.edge_end, self.terms_end) };
            let inside = if row < row_end { column_end.saturating_sub(column).min(8) } else { 0 };
            let at = if inside > 0 { u64::from(row) * self.row + u64::from(column) } else { 0 };
            let place = swizzled(line, piece) as usize;
            async_copy::copy_or_zero(to, place, self.elements.cast(), at as usize / 8, inside * 2);
        }
    }
}

/// A packed B's tile for a block's columns.
#[derive(Clone, Copy)]
struct Packed {
    /// The first step's stage.
    tiles: Global<u16>,
    stages: Shared<u16>,
    arrivals: Shared<Arrivals>,
}

impl Packed {
    /// Makes the barriers, which one thread does.
    #[inline(always)]
    fn initialise(&self) {
        if thread::thread_idx_x() == 0 {
            for stage in 0..STAGES {
                self.arrivals.offset(stage as usize).initialise(1);
            }
            barrier::publish_initialised();
        }
        thread::sync_threads();
    }

    /// Starts the copy of the step that begins at `term`, which one thread does.
    #[inline(always)]
    fn start(&self, stage: u32, term: u32) {
        if thread::thread_idx_x() == 0 {
            let (to, arrivals) =
                (self.stages.offset((stage * 2 * STAGE) as usize), self.arrivals.offset(stage as usize));
            arrivals.arrive_expecting(2 * STAGE);
            let from = self.tiles.offset((term / STEP * STAGE) as usize);
            async_copy::bulk_load(to, from, 2 * STAGE, arrivals);
        }
    }
}

#[inline(always)]
fn run<T: Factor, const A_TURNED: bool, const B_STORED_BY_COLUMN: bool>(p: Params) {
    if B_STORED_BY_COLUMN {
        product::<T, A_TURNED, false, false>(p);
    } else {
        product::<T, A_TURNED, true, false>(p);
    }
}

#[inline(always)]
fn run_packed<T: Factor>(p: Params) {
    product::<T, false, false, true>(p);
}

#[inline(always)]
fn product<T: Factor, const A_EDGE: bool, const B_EDGE: bool, const B_PACKED: bool>(p: Params) {
    let (batch, split) = divided(thread::block_idx_z(), p.splits);
    let [a_offset, b_offset] = p.offsets(batch);
    let [row, column] = [thread::block_idx_x() * TILE, thread::block_idx_y() * TILE];
    let [from, to] = p.terms(split);
    let memory = shared::array::<u16>(0, STAGES * 2 * STAGE);
    let a = Operand::<A_EDGE> {
        elements: p.a.cast::<u16>().offset(a_offset),
        row: p.a_row,
        edge: row,
        edge_end: p.m,
        terms_end: to,
        stages: memory,
    };
    let b = Operand::<B_EDGE> {
        elements: p.b.cast::<u16>().offset(b_offset),
        row: p.b_row,
        edge: column,
        edge_end: p.n,
        terms_end: to,
        stages: memory.offset(STAGE as usize),
    };
    let tile = u64::from(thread::block_idx_y()) * u64::from(steps(p.k)) * u64::from(STAGE);
    let packed = Packed {
        tiles: p.b.cast::<u16>().offset(if B_PACKED { tile as usize } else { 0 }),
        stages: b.stages,
        arrivals: shared::array(arrivals_at(p.epilogue.slots()), if B_PACKED { STAGES } else { 0 }),
    };
    if B_PACKED {
        packed.initialise();
    }
    let steps = if to > from { (to - from).div_ceil(STEP) } else { 0 };
    let begin = |step: u32| {
        if step < steps {
            a.start(step % STAGES, from + step * STEP);
            if B_PACKED {
                packed.start(step % STAGES, from + step * STEP);
            } else {
                b.start(step % STAGES, from + step * STEP);
            }
        }
        async_copy::commit();
    };
    begin(0);
    begin(1);
    let warpgroup = warp::warp_id() / 4;
    let mut sums = [0.0f32; SUMS];
    for step in 0..steps {
        async_copy::wait::<1>();
        if B_PACKED {
            packed.arrivals.offset((step % STAGES) as usize).wait(step / STAGES % 2);
        }
        barrier::fence_async();
        thread::sync_threads();
        begin(step + 2);
        let stage = step % STAGES;
        let of_a = wgmma::Operand::at(a.stage(stage).offset((warpgroup * HALF) as usize));
        T::product::<A_EDGE, B_EDGE>(&mut sums, of_a, wgmma::Operand::at(b.stage(stage)));
    }
    async_copy::wait::<0>();
    thread::sync_threads();
    let place = Place { batch, split, row, column };
    let stage = shared::array::<f32>(0, SLAB / 4);
    let registers = shared::array(SLAB, p.epilogue.slots() * THREADS);
    let slab = Slab { sums: stage, rows: TILE, width: TILE, pitch: PITCH, registers };
    let (group, member) = (warp::lane_id() / 4, warp::lane_id() % 4);
    let first = (warp::warp_id() * 16 + group) * PITCH + 2 * member;
    for pair in 0..SUMS / 4 {
        let upper = first as usize + 8 * pair;
        let lower = upper + (8 * PITCH) as usize;
        stage.store(upper, sums[4 * pair]);
        stage.store(upper + 1, sums[4 * pair + 1]);
        stage.store(lower, sums[4 * pair + 2]);
        stage.store(lower + 1, sums[4 * pair + 3]);
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
            with_shared(MOST_SHARED), with_min_blocks(2), with_capability(90), with_tensor_cores()
        );
    )* };
}

entries! {
    GEMM_WGMMA_F16_NN = gemm_wgmma_f16_nn: F16, false, false;
    GEMM_WGMMA_F16_NT = gemm_wgmma_f16_nt: F16, false, true;
    GEMM_WGMMA_F16_TN = gemm_wgmma_f16_tn: F16, true, false;
    GEMM_WGMMA_F16_TT = gemm_wgmma_f16_tt: F16, true, true;
    GEMM_WGMMA_BF16_NN = gemm_wgmma_bf16_nn: BF16, false, false;
    GEMM_WGMMA_BF16_NT = gemm_wgmma_bf16_nt: BF16, false, true;
    GEMM_WGMMA_BF16_TN = gemm_wgmma_bf16_tn: BF16, true, false;
    GEMM_WGMMA_BF16_TT = gemm_wgmma_bf16_tt: BF16, true, true;
}

entry!(
    /// f16, B packed.
    GEMM_WGMMA_F16_PACKED = gemm_wgmma_f16_packed(Params): run_packed::<F16>, THREADS,
    with_shared(MOST_SHARED + ARRIVALS), with_min_blocks(2), with_capability(90), with_tensor_cores()
);
entry!(
    /// bf16, B packed.
    GEMM_WGMMA_BF16_PACKED = gemm_wgmma_bf16_packed(Params): run_packed::<BF16>, THREADS,
    with_shared(MOST_SHARED + ARRIVALS), with_min_blocks(2), with_capability(90), with_tensor_cores()
);
