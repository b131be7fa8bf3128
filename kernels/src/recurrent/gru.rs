//! # GRU
//! Gates z, r, h in the order of ONNX, `x` the input's part of each:
//!
//! ```text
//! z = F(x_z + R_z·h + Rb_z)        n = G(x_h + R_h·(r ⊙ h) + Rb_h)
//! r = F(x_r + R_r·h + Rb_r)    or  n = G(x_h + r ⊙ (R_h·h + Rb_h))      linear_before_reset
//! h' = (1 − z) ⊙ n + z ⊙ h
//! ```
//!
//! F and G are applied to clipped values. Without `linear_before_reset` the candidate needs `r ⊙ h` of all units: a step
//! is two launches then, the gates' and the candidate's, and a sequence has four barriers per step instead of two.
//!
//! See [`recurrent`](super) for steps and sequences: grid `⌈hidden / 8⌉ × ⌈batch / 4⌉`, block 256; or grid `batch`, block
//! `3·hidden`, shared `4 · (128 + 6·hidden + 3·hidden·max(hidden − 64, 0))`.

use super::{
    ByElement, Layout, Operands, Row, SEQUENCE_HIDDEN, STEP_THREADS, Sequence, load_state, pad_y,
    sequence_geometry, sequence_memory, sequence_shared, step_geometry,
};
use crate::activation::Activation;
use crate::device::math::fma_f32;
use crate::device::{BF16, F16, Global, thread, warp};
use crate::element::Real;
use crate::entry;
use crate::launch::{Buffer, Device, Prepared, Reject};

/// What the kernels of this family take.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    sequence: Sequence,
    /// z of all units and sequences, then `r ⊙ h`: what a step's first launch leaves to its second.
    between: Global<f32>,
    functions: [Activation; 2],
    linear_before_reset: u32,
}

const _: () = assert!(size_of::<Params>() == 152);

const GATES: u32 = 3;
/// Threads of the largest block of a sequence.
const SEQUENCE_THREADS: u32 = GATES * SEQUENCE_HIDDEN;

const STEP: ByElement<Params> = ByElement([&GRU_STEP_F32, &GRU_STEP_F16, &GRU_STEP_BF16]);
const STEP_GATES: ByElement<Params> = ByElement([&GRU_GATES_F32, &GRU_GATES_F16, &GRU_GATES_BF16]);
const CANDIDATE: ByElement<Params> = ByElement([&GRU_CANDIDATE_F32, &GRU_CANDIDATE_F16, &GRU_CANDIDATE_BF16]);
const SEQUENCE_32: ByElement<Params> =
    ByElement([&GRU_SEQUENCE_32_F32, &GRU_SEQUENCE_32_F16, &GRU_SEQUENCE_32_BF16]);
const SEQUENCE_64: ByElement<Params> =
    ByElement([&GRU_SEQUENCE_64_F32, &GRU_SEQUENCE_64_F16, &GRU_SEQUENCE_64_BF16]);

/// A GRU as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Problem {
    /// Sizes and layouts.
    pub layout: Layout,
    /// F, G.
    pub functions: [Activation; 2],
    /// Whether r is applied to the product instead of to h.
    pub linear_before_reset: bool,
}

/// The launches of a step: one with `linear_before_reset`, else two.
pub type Step = (Prepared<Params>, Option<Prepared<Params>>);

impl Problem {
    /// Bytes of the workspace of a step; a sequence needs none.
    pub fn workspace_bytes(&self) -> u64 {
        if self.linear_before_reset {
            return 0;
        }
        8 * u64::from(self.layout.batch) * u64::from(self.layout.hidden)
    }

    fn params(&self, step: u32, operands: &Operands, between: Buffer) -> Result<Params, Reject> {
        Ok(Params {
            sequence: self.layout.prepare(GATES, step, operands)?,
            between: Global::from_address(between.address),
            functions: self.functions,
            linear_before_reset: self.linear_before_reset.into(),
        })
    }

    /// The launches of one step, with a workspace of [`workspace_bytes`](Self::workspace_bytes).
    pub fn step(
        &self,
        step: u32,
        operands: &Operands,
        workspace: Buffer,
        device: &Device,
    ) -> Result<Step, Reject> {
        let element = self.layout.element;
        let params = self.params(step, operands, workspace)?;
        workspace.holds("workspace", self.workspace_bytes(), 4)?;
        let geometry = step_geometry(self.layout.hidden, self.layout.batch);
        if self.linear_before_reset {
            return Ok((Prepared::new(STEP.of(element), geometry, params, device)?, None));
        }
        let first = Prepared::new(STEP_GATES.of(element), geometry, params, device)?;
        Ok((first, Some(Prepared::new(CANDIDATE.of(element), geometry, params, device)?)))
    }

    /// The launch of all steps, for up to 128 hidden units.
    pub fn sequence(&self, operands: &Operands, device: &Device) -> Result<Prepared<Params>, Reject> {
        let kept = self.layout.kept()?;
        let entries = if kept == 32 { SEQUENCE_32 } else { SEQUENCE_64 };
        let entry = entries.of(self.layout.element);
        let geometry = sequence_geometry(GATES, self.layout.hidden, self.layout.batch, kept);
        Prepared::new(entry, geometry, self.params(0, operands, Buffer::default())?, device)
    }
}

impl Params {
    /// F of a clipped value.
    #[inline(always)]
    fn gate(&self, x: f32) -> f32 {
        self.functions[0].apply(self.sequence.clipped(x))
    }

    /// h' from the update gate, the candidate's argument and h.
    #[inline(always)]
    fn after(&self, z: f32, candidate: f32, h: f32) -> f32 {
        let n = self.functions[1].apply(self.sequence.clipped(candidate));
        fma_f32(1.0 - z, n, z * h)
    }
}

/// A lane's unit of one sequence in a step.
struct Place {
    b: u32,
    unit: u32,
    at: usize,
    time: u32,
}

/// The lane's place, if it has one and its sequence goes on; where it has ended the state is kept if `ends`.
#[inline(always)]
fn place(s: &Sequence, unit: u32, first: u32, ends: bool) -> Option<Place> {
    let b = first + warp::lane_id();
    if warp::lane_id() >= super::BATCH || b >= s.batch {
        return None;
    }
    let at = (b * s.hidden + unit) as usize;
    let length = s.length(b);
    let time = s.moment(length, s.step);
    if s.step >= length {
        if ends {
            s.h_after.store(at, s.h_before.load(at));
            s.write_y(b, time, unit, 0.0);
        }
        return None;
    }
    Some(Place { b, unit, at, time })
}

impl Place {
    /// The input's part of a gate, and the bias of the recurrent part.
    #[inline(always)]
    fn parts(&self, s: &Sequence, gate: u32) -> (f32, f32) {
        let row = gate * s.hidden + self.unit;
        (s.gates.load(s.gate_at(self.b, self.time, row)), s.bias_of(row))
    }
}

/// A step with `linear_before_reset`.
#[inline(always)]
fn step<T: Real>(p: Params) {
    let s = &p.sequence;
    let (unit, first) = Sequence::place();
    if unit >= s.hidden {
        return;
    }
    let [z, r, n] = s.recurrent::<T, 3>(0, s.h_before, unit, first);
    let Some(place) = place(s, unit, first, true) else { return };
    let ((xz, bz), (xr, br), (xn, bn)) = (place.parts(s, 0), place.parts(s, 1), place.parts(s, 2));
    let (update, reset) = (p.gate(xz + (z + bz)), p.gate(xr + (r + br)));
    let h = p.after(update, fma_f32(reset, n + bn, xn), s.h_before.load(place.at));
    s.h_after.store(place.at, h);
    s.write_y(place.b, place.time, unit, h);
}

/// The first launch of a step without: z, and `r ⊙ h`.
#[inline(always)]
fn gates<T: Real>(p: Params) {
    let s = &p.sequence;
    let (unit, first) = Sequence::place();
    if unit >= s.hidden {
        return;
    }
    let [z, r] = s.recurrent::<T, 2>(0, s.h_before, unit, first);
    // The second launch reads `r ⊙ h` of sequences that have ended, too, and does not use the sum.
    let b = first + warp::lane_id();
    let kept = (s.batch * s.hidden) as usize;
    let Some(place) = place(s, unit, first, false) else {
        if warp::lane_id() < super::BATCH && b < s.batch {
            p.between.store(kept + (b * s.hidden + unit) as usize, 0.0);
        }
        return;
    };
    let ((xz, bz), (xr, br)) = (place.parts(s, 0), place.parts(s, 1));
    p.between.store(place.at, p.gate(xz + (z + bz)));
    p.between.store(kept + place.at, p.gate(xr + (r + br)) * s.h_before.load(place.at));
}

/// The second launch of a step without.
#[inline(always)]
fn candidate<T: Real>(p: Params) {
    let s = &p.sequence;
    let (unit, first) = Sequence::place();
    if unit >= s.hidden {
        return;
    }
    let kept = p.between.offset((s.batch * s.hidden) as usize);
    let [n] = s.recurrent::<T, 1>(2, kept, unit, first);
    let Some(place) = place(s, unit, first, true) else { return };
    let (xn, bn) = place.parts(s, 2);
    let h = p.after(p.between.load(place.at), xn + (n + bn), s.h_before.load(place.at));
    s.h_after.store(place.at, h);
    s.write_y(place.b, place.time, unit, h);
}

#[inline(always)]
fn sequence<T: Real, const KEPT: usize>(p: Params) {
    let s = &p.sequence;
    let (b, row, rows) = (thread::block_idx_x(), thread::thread_idx_x(), GATES * s.hidden);
    let (state, recurrent, input) = sequence_memory(rows);
    let weights = Row::<KEPT>::load::<T>(s, rows, row);
    load_state(s, b, state);
    let (owns, linear) = (row < s.hidden, p.linear_before_reset != 0);
    let at = (b * s.hidden + row) as usize;
    let mut h = if owns { s.h_before.load(at) } else { 0.0 };
    let bias = if row < rows { s.bias_of(row) } else { 0.0 };
    thread::sync_threads();
    let length = s.length(b);
    let mut step = 0;
    while step < length {
        let time = s.moment(length, step);
        if row < rows {
            input.store(row as usize, s.gates.load(s.gate_at(b, time, row)));
        }
        let sum = weights.product(state) + bias;
        if row < rows {
            recurrent.store(row as usize, sum);
        }
        thread::sync_threads();
        let of = |gate: u32| {
            let at = (gate * s.hidden + row) as usize;
            (input.load(at), recurrent.load(at))
        };
        let (mut update, mut reset) = (0.0, 0.0);
        if owns {
            let ((xz, z), (xr, r)) = (of(0), of(1));
            (update, reset) = (p.gate(xz + z), p.gate(xr + r));
        }
        if !linear {
            if owns {
                state.store(row as usize, reset * h);
            }
            thread::sync_threads();
            let sum = weights.product(state) + bias;
            if row < rows {
                recurrent.store(row as usize, sum);
            }
            thread::sync_threads();
        }
        if owns {
            let (xn, n) = of(2);
            let argument = if linear { fma_f32(reset, n, xn) } else { xn + n };
            h = p.after(update, argument, h);
            state.store(row as usize, h);
            s.write_y(b, time, row, h);
        }
        thread::sync_threads();
        step += 1;
    }
    if owns {
        s.h_after.store(at, h);
        pad_y(s, b, length, row);
    }
}

/// Entries of a step, of one element type.
macro_rules! steps {
    ($t:ty: $step:ident = $step_symbol:ident, $gates:ident = $gates_symbol:ident, $candidate:ident = $candidate_symbol:ident) => {
        entry!(
            /// One step with `linear_before_reset`.
            $step = $step_symbol(Params): step::<$t>, STEP_THREADS
        );
        entry!(
            /// The gates of a step.
            $gates = $gates_symbol(Params): gates::<$t>, STEP_THREADS
        );
        entry!(
            /// The candidate and the state of a step.
            $candidate = $candidate_symbol(Params): candidate::<$t>, STEP_THREADS
        );
    };
}

/// Entries of whole sequences, of one element type.
macro_rules! sequences {
    ($t:ty: $small:ident = $small_symbol:ident, $large:ident = $large_symbol:ident) => {
        entry!(
            /// All steps, up to 32 hidden units.
            $small = $small_symbol(Params): sequence::<$t, 32>, GATES * 32,
            with_shared(sequence_shared(GATES * 32, 32, 32)), with_min_blocks(2)
        );
        entry!(
            /// All steps, up to 128 hidden units.
            $large = $large_symbol(Params): sequence::<$t, 64>, SEQUENCE_THREADS,
            with_shared(sequence_shared(SEQUENCE_THREADS, SEQUENCE_HIDDEN, 64))
        );
    };
}

steps!(f32: GRU_STEP_F32 = gru_step_f32, GRU_GATES_F32 = gru_gates_f32, GRU_CANDIDATE_F32 = gru_candidate_f32);
steps!(F16: GRU_STEP_F16 = gru_step_f16, GRU_GATES_F16 = gru_gates_f16, GRU_CANDIDATE_F16 = gru_candidate_f16);
steps!(BF16: GRU_STEP_BF16 = gru_step_bf16, GRU_GATES_BF16 = gru_gates_bf16, GRU_CANDIDATE_BF16 = gru_candidate_bf16);
sequences!(f32: GRU_SEQUENCE_32_F32 = gru_sequence_32_f32, GRU_SEQUENCE_64_F32 = gru_sequence_64_f32);
sequences!(F16: GRU_SEQUENCE_32_F16 = gru_sequence_32_f16, GRU_SEQUENCE_64_F16 = gru_sequence_64_f16);
sequences!(BF16: GRU_SEQUENCE_32_BF16 = gru_sequence_32_bf16, GRU_SEQUENCE_64_BF16 = gru_sequence_64_bf16);
