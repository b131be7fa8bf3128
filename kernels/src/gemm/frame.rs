//! # The frame of kernels on `mma.sync`
//! A block of 8 warps computes 128 × 128 sums, a warp 64 × 32: 4 × 4 products of 16 × 8 for each half of a step. A step of 64
//! bytes along k of both operands lies in one of three stages of shared memory, which are filled while the products of the
//! stages before are made: by `cp.async` two steps ahead ([`Operand`]), or by threads that hold the next step's elements in
//! registers ([`Staged::fetch`]). A stage is overwritten two steps after it was read, behind the barrier at the head of the
//! step between; what threads put there themselves, one step after the barrier behind which nobody reads it any more.
//!
//! What stands behind the sums finds them in shared memory, where the stages were.

use crate::device::{Global, Plain, Shared, async_copy, shared, thread, warp};
use crate::epilogue::{self, Epilogue, MOST_SLOTS, Slab};

pub(crate) const TILE: u32 = 128;
pub(crate) const THREADS: u32 = 256;
pub(crate) const STAGES: u32 = 3;
/// Bytes of one operand's part of a stage: 128 rows along k of 64 bytes and 16 more, which is more than the rows along
/// the edge take.
const STAGE: u32 = TILE * 80;
/// Bytes of all stages.
pub(crate) const SHARED: u32 = STAGES * 2 * STAGE;
/// Floats between the rows of a tile's sums.
const PITCH: u32 = TILE + 4;
/// Bytes of a tile's sums, which all leave the registers before a program needs some.
pub(crate) const SLAB: u32 = TILE * PITCH * 4;
/// Most shared memory.
pub(crate) const MOST_SHARED: u32 = epilogue::shared_bytes(SLAB, THREADS, MOST_SLOTS);

const _: () = assert!(SHARED <= SLAB);

/// The sums of a thread: of 4 × 4 products.
pub(crate) type Sums = [[[f32; 4]; 4]; 4];

/// What `mma.sync` multiplies.
pub(crate) trait Factor {
    /// An element in memory.
    type Bits: Plain;
    /// 16 bytes of them.
    type Piece: Plain;
    /// Elements of 16 bytes.
    const PIECE: u32 = 16 / size_of::<Self::Bits>() as u32;
    /// Terms of a step.
    const STEP: u32 = 4 * Self::PIECE;

    /// Four matrices of eight rows along the edge and 16 bytes along k, from element `edge` and term `term` of a stage on
    /// whose rows lie `pitch` elements apart: along k, or, if `TURNED`, along the edge. Pairs along k (`k_first`) or along the
    /// edge come first.
    fn matrices<const TURNED: bool>(
        stage: Shared<Self::Bits>,
        pitch: u32,
        at: [u32; 2],
        k_first: bool,
    ) -> [u32; 4];

    /// 16 × 8 sums and the products of half a step.
    fn product(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4];
}

/// An operand on its way through the stages. Steps behind the last one may be asked for.
pub(crate) trait Staged<F: Factor> {
    /// Starts the thread's copies of a step.
    #[inline(always)]
    fn start(&self, _step: u32) {}

    /// Loads the thread's elements of a step.
    #[inline(always)]
    fn fetch(&mut self, _step: u32) {}

    /// Puts the elements that were loaded where their step lies.
    #[inline(always)]
    fn put(&self, _step: u32) {}

    /// Fragments of a step as [`Factor::matrices`] has them.
    fn matrices(&self, step: u32, at: [u32; 2], k_first: bool) -> [u32; 4];
}

/// The memory of an operand, the first or the second one, in stage 0.
#[inline(always)]
pub(crate) fn stages<F: Factor>(operand: u32) -> Shared<F::Bits> {
    let elements = STAGE / size_of::<F::Bits>() as u32;
    shared::array::<F::Bits>(0, STAGES * 2 * elements).offset((operand * elements) as usize)
}

/// The stage of a step, from the operand's memory in stage 0.
#[inline(always)]
pub(crate) fn stage_of<F: Factor>(stages: Shared<F::Bits>, step: u32) -> Shared<F::Bits> {
    let elements = STAGE / size_of::<F::Bits>() as u32;
    stages.offset((step % STAGES * 2 * elements) as usize)
}

/// Elements between the rows of a stage.
#[inline(always)]
pub(crate) fn pitch<F: Factor>(turned: bool) -> u32 {
    if turned { TILE + 8 } else { F::STEP + F::PIECE }
}

/// A matrix: its rows run along the tile's edge and its columns along k, or, with `TURNED`, the other way round.
pub(crate) struct Operand<F: Factor, const TURNED: bool> {
    pub(crate) elements: Global<F::Bits>,
    pub(crate) row: u64,
    pub(crate) edge: u32,
    pub(crate) edge_end: u32,
    /// The terms that count.
    pub(crate) terms: [u32; 2],
    /// The operand's part of stage 0.
    pub(crate) stages: Shared<F::Bits>,
}

impl<F: Factor, const TURNED: bool> Staged<F> for Operand<F, TURNED> {
    /// Two copies; what is beyond the matrix or the terms is zero.
    #[inline(always)]
    fn start(&self, step: u32) {
        let [from, terms_end] = self.terms;
        let term = from + step * F::STEP;
        if term >= terms_end {
            return;
        }
        let to = stage_of::<F>(self.stages, step).cast::<F::Piece>();
        let width = if TURNED { TILE } else { F::STEP };
        for half in 0..2 {
            let piece = thread::thread_idx_x() + half * THREADS;
            let (y, x) = (piece / (width / F::PIECE), piece % (width / F::PIECE) * F::PIECE);
            let (row, column) = if TURNED { (term + y, self.edge + x) } else { (self.edge + y, term + x) };
            let (row_end, column_end) =
                if TURNED { (terms_end, self.edge_end) } else { (self.edge_end, terms_end) };
            let inside = if row < row_end { column_end.saturating_sub(column).min(F::PIECE) } else { 0 };
            let at = if inside > 0 { u64::from(row) * self.row + u64::from(column) } else { 0 };
            let place = (y * pitch::<F>(TURNED) + x) / F::PIECE;
            let bytes = inside * size_of::<F::Bits>() as u32;
            let from = at as usize / F::PIECE as usize;
            async_copy::copy_or_zero(to, place as usize, self.elements.cast(), from, bytes);
        }
    }

    #[inline(always)]
    fn matrices(&self, step: u32, at: [u32; 2], k_first: bool) -> [u32; 4] {
        F::matrices::<TURNED>(stage_of::<F>(self.stages, step), pitch::<F>(TURNED), at, k_first)
    }
}

/// Where a warp's part of the tile begins.
#[inline(always)]
fn warp_corner() -> [u32; 2] {
    [warp::warp_id() / 4 * 64, warp::warp_id() % 4 * 32]
}

/// The thread's sums over the terms `from..to`; nobody reads the stages any more.
#[inline(always)]
pub(crate) fn sums<F: Factor>(a: &impl Staged<F>, b: &mut impl Staged<F>, [from, to]: [u32; 2]) -> Sums {
    let steps = if to > from { (to - from).div_ceil(F::STEP) } else { 0 };
    for step in 0..2 {
        a.start(step);
        b.start(step);
        async_copy::commit();
    }
    b.fetch(0);
    b.put(0);
    let [warp_row, warp_column] = warp_corner();
    let mut sums = [[[0.0f32; 4]; 4]; 4];
    for step in 0..steps {
        async_copy::wait::<1>();
        thread::sync_threads();
        a.start(step + 2);
        b.start(step + 2);
        async_copy::commit();
        b.fetch(step + 1);
        for half in 0..2 {
            let term = F::STEP / 2 * half;
            let mut of_a = [[0; 4]; 4];
            for (i, fragment) in of_a.iter_mut().enumerate() {
                *fragment = a.matrices(step, [warp_row + 16 * i as u32, term], false);
            }
            for pair in 0..2 {
                let [b0, b1, b2, b3] = b.matrices(step, [warp_column + 16 * pair as u32, term], true);
                for (i, fragment) in of_a.iter().enumerate() {
                    let [left, right] = [2 * pair, 2 * pair + 1];
                    sums[i][left] = F::product(*fragment, [b0, b1], sums[i][left]);
                    sums[i][right] = F::product(*fragment, [b2, b3], sums[i][right]);
                }
            }
        }
        b.put(step + 1);
    }
    async_copy::wait::<0>();
    thread::sync_threads();
    sums
}

/// Makes of the sums of a tile what there is to be made of them. `place` gives an element's number in Y, from its row and
/// column in the tile, and how many follow it there.
#[inline(always)]
pub(crate) fn store(epilogue: &Epilogue, sums: &Sums, place: impl Fn(u32, u32) -> (u64, u32)) {
    let stage = shared::array::<f32>(0, SLAB / 4);
    let registers = shared::array(SLAB, epilogue.slots() * THREADS);
    let slab = Slab { sums: stage, rows: TILE, width: TILE, pitch: PITCH, registers };
    let (group, member) = (warp::lane_id() / 4, warp::lane_id() % 4);
    let [warp_row, warp_column] = warp_corner();
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
    epilogue.store_slab(slab, place);
}
