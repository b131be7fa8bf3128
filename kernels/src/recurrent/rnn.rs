//! # RNN
//! One gate: `h' = F(x + R·h + Rb)`, clipped before F.
//!
//! See [`recurrent`](super) for steps and sequences: grid `⌈hidden / 8⌉ × ⌈batch / 4⌉`, block 256; or grid `batch`, block
//! `hidden`, shared `4 · (128 + 2·hidden + hidden·max(hidden − 64, 0))`. In a sequence all threads have read the hidden
//! state before any writes the new one, and all have written before any reads: two barriers per step.

use super::{
    ByElement, Layout, Operands, Row, SEQUENCE_HIDDEN, STEP_THREADS, Sequence, load_state, pad_y,
    sequence_geometry, sequence_memory, sequence_shared, step_geometry,
};
use crate::activation::Activation;
use crate::device::{BF16, F16, thread, warp};
use crate::element::Real;
use crate::entry;
use crate::launch::{Device, Prepared, Reject};

/// What the kernels of this family take.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    sequence: Sequence,
    function: Activation,
}

const _: () = assert!(size_of::<Params>() == 128);

const GATES: u32 = 1;

const STEP: ByElement<Params> = ByElement([&RNN_STEP_F32, &RNN_STEP_F16, &RNN_STEP_BF16]);
const SEQUENCE: ByElement<Params> = ByElement([&RNN_SEQUENCE_F32, &RNN_SEQUENCE_F16, &RNN_SEQUENCE_BF16]);

/// An RNN as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Problem {
    /// Sizes and layouts.
    pub layout: Layout,
    /// F.
    pub function: Activation,
}

impl Problem {
    fn params(&self, step: u32, operands: &Operands) -> Result<Params, Reject> {
        Ok(Params { sequence: self.layout.prepare(GATES, step, operands)?, function: self.function })
    }

    /// The launch of one step.
    pub fn step(&self, step: u32, operands: &Operands, device: &Device) -> Result<Prepared<Params>, Reject> {
        let entry = STEP.of(self.layout.element);
        let geometry = step_geometry(self.layout.hidden, self.layout.batch);
        Prepared::new(entry, geometry, self.params(step, operands)?, device)
    }

    /// The launch of all steps, for up to 128 hidden units.
    pub fn sequence(&self, operands: &Operands, device: &Device) -> Result<Prepared<Params>, Reject> {
        self.layout.kept()?;
        let entry = SEQUENCE.of(self.layout.element);
        let geometry = sequence_geometry(GATES, self.layout.hidden, self.layout.batch, 64);
        Prepared::new(entry, geometry, self.params(0, operands)?, device)
    }
}

#[inline(always)]
fn step<T: Real>(p: Params) {
    let s = &p.sequence;
    let (unit, first) = Sequence::place();
    if unit >= s.hidden {
        return;
    }
    let [sum] = s.recurrent::<T, 1>(0, s.h_before, unit, first);
    let b = first + warp::lane_id();
    if warp::lane_id() >= super::BATCH || b >= s.batch {
        return;
    }
    let at = (b * s.hidden + unit) as usize;
    let length = s.length(b);
    let time = s.moment(length, s.step);
    if s.step >= length {
        s.h_after.store(at, s.h_before.load(at));
        s.write_y(b, time, unit, 0.0);
        return;
    }
    let x = s.gates.load(s.gate_at(b, time, unit));
    let h = p.function.apply(s.clipped(x + (sum + s.bias_of(unit))));
    s.h_after.store(at, h);
    s.write_y(b, time, unit, h);
}

#[inline(always)]
fn sequence<T: Real>(p: Params) {
    let s = &p.sequence;
    let (b, row) = (thread::block_idx_x(), thread::thread_idx_x());
    let (state, _, _) = sequence_memory(s.hidden);
    let weights = Row::<64>::load::<T>(s, s.hidden, row);
    load_state(s, b, state);
    let owns = row < s.hidden;
    let at = (b * s.hidden + row) as usize;
    let mut h = if owns { s.h_before.load(at) } else { 0.0 };
    let bias = if owns { s.bias_of(row) } else { 0.0 };
    thread::sync_threads();
    let length = s.length(b);
    let mut step = 0;
    while step < length {
        let time = s.moment(length, step);
        let x = if owns { s.gates.load(s.gate_at(b, time, row)) } else { 0.0 };
        let sum = x + (weights.product(state) + bias);
        thread::sync_threads();
        if owns {
            h = p.function.apply(s.clipped(sum));
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

/// Entries of one element type.
macro_rules! entries {
    ($t:ty: $step:ident = $step_symbol:ident, $all:ident = $all_symbol:ident) => {
        entry!(
            /// One step.
            $step = $step_symbol(Params): step::<$t>, STEP_THREADS
        );
        entry!(
            /// All steps, up to 128 hidden units.
            $all = $all_symbol(Params): sequence::<$t>, SEQUENCE_HIDDEN,
            with_shared(sequence_shared(SEQUENCE_HIDDEN, SEQUENCE_HIDDEN, 64))
        );
    };
}

entries!(f32: RNN_STEP_F32 = rnn_step_f32, RNN_SEQUENCE_F32 = rnn_sequence_f32);
entries!(F16: RNN_STEP_F16 = rnn_step_f16, RNN_SEQUENCE_F16 = rnn_sequence_f16);
entries!(BF16: RNN_STEP_BF16 = rnn_step_bf16, RNN_SEQUENCE_BF16 = rnn_sequence_bf16);
