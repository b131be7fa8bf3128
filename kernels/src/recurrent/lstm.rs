//! # LSTM
//! Gates i, o, f, c in the order of ONNX, `a = x + R·h + Rb` each, `x` the input's part:
//!
//! ```text
//! i  = F(a_i + P_i ⊙ c)            f = F(a_f + P_f ⊙ c)   or   1 − i
//! c' = f ⊙ c + i ⊙ G(a_c)          o = F(a_o + P_o ⊙ c')       h' = o ⊙ H(c')
//! ```
//!
//! F and G are applied to clipped values. See [`recurrent`](super) for steps and sequences: grid
//! `⌈hidden / 8⌉ × ⌈batch / 4⌉`, block 256; or grid `batch`, block `4·hidden`, shared
//! `4 · (128 + 8·hidden + 4·hidden·max(hidden − 64, 0))`. A step does not wait for anything; a sequence has two barriers per
//! step, one behind the gates and one behind the new hidden state.

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
    c_before: Global<f32>,
    c_after: Global<f32>,
    /// P_i, P_o, P_f; null: zero.
    peepholes: Global<f32>,
    functions: [Activation; 3],
    input_forget: u32,
}

const _: () = assert!(size_of::<Params>() == 176);

const GATES: u32 = 4;
/// Threads of the largest block of a sequence.
const SEQUENCE_THREADS: u32 = GATES * SEQUENCE_HIDDEN;

const STEP: ByElement<Params> = ByElement([&LSTM_STEP_F32, &LSTM_STEP_F16, &LSTM_STEP_BF16]);
const SEQUENCE_32: ByElement<Params> =
    ByElement([&LSTM_SEQUENCE_32_F32, &LSTM_SEQUENCE_32_F16, &LSTM_SEQUENCE_32_BF16]);
const SEQUENCE_64: ByElement<Params> =
    ByElement([&LSTM_SEQUENCE_64_F32, &LSTM_SEQUENCE_64_F16, &LSTM_SEQUENCE_64_BF16]);

/// An LSTM as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Problem {
    /// Sizes and layouts.
    pub layout: Layout,
    /// F, G, H.
    pub functions: [Activation; 3],
    /// Whether `f = 1 − i`.
    pub input_forget: bool,
}

/// Memory beside the common operands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// The cell state before, `[batch, hidden]`.
    pub c_before: Buffer,
    /// The cell state after; may be the buffer before.
    pub c_after: Buffer,
    /// `[3, hidden]`, or none.
    pub peepholes: Buffer,
}

impl Problem {
    fn params(&self, step: u32, operands: &Operands, cell: &Cell) -> Result<Params, Reject> {
        let sequence = self.layout.prepare(GATES, step, operands)?;
        let row = 4 * u64::from(self.layout.hidden);
        let state = row * u64::from(self.layout.batch);
        cell.c_before.holds("c before", state, 4)?;
        cell.c_after.holds("c after", state, 4)?;
        if cell.peepholes.is_some() {
            cell.peepholes.holds("P", 3 * row, 4)?;
        }
        Ok(Params {
            sequence,
            c_before: Global::from_address(cell.c_before.address),
            c_after: Global::from_address(cell.c_after.address),
            peepholes: Global::from_address(cell.peepholes.address),
            functions: self.functions,
            input_forget: self.input_forget.into(),
        })
    }

    /// The launch of one step.
    pub fn step(
        &self,
        step: u32,
        operands: &Operands,
        cell: &Cell,
        device: &Device,
    ) -> Result<Prepared<Params>, Reject> {
        let entry = STEP.of(self.layout.element);
        let geometry = step_geometry(self.layout.hidden, self.layout.batch);
        Prepared::new(entry, geometry, self.params(step, operands, cell)?, device)
    }

    /// The launch of all steps, for up to 128 hidden units.
    pub fn sequence(
        &self,
        operands: &Operands,
        cell: &Cell,
        device: &Device,
    ) -> Result<Prepared<Params>, Reject> {
        let kept = self.layout.kept()?;
        let entries = if kept == 32 { SEQUENCE_32 } else { SEQUENCE_64 };
        let entry = entries.of(self.layout.element);
        let geometry = sequence_geometry(GATES, self.layout.hidden, self.layout.batch, kept);
        Prepared::new(entry, geometry, self.params(0, operands, cell)?, device)
    }
}

impl Params {
    /// h' and c' of a unit from its gates and c.
    #[inline(always)]
    fn cell(&self, unit: u32, [i, o, f, g]: [f32; 4], c: f32) -> (f32, f32) {
        let (s, [of_gates, of_input, of_output]) = (&self.sequence, self.functions);
        let hidden = s.hidden;
        let peephole = |gate: u32| {
            if self.peepholes.is_null() { 0.0 } else { self.peepholes.load((gate * hidden + unit) as usize) }
        };
        let input = of_gates.apply(s.clipped(fma_f32(peephole(0), c, i)));
        let forget = if self.input_forget != 0 {
            1.0 - input
        } else {
            of_gates.apply(s.clipped(fma_f32(peephole(2), c, f)))
        };
        let after = fma_f32(forget, c, input * of_input.apply(s.clipped(g)));
        let output = of_gates.apply(s.clipped(fma_f32(peephole(1), after, o)));
        (output * of_output.apply(after), after)
    }
}

#[inline(always)]
fn step<T: Real>(p: Params) {
    let s = &p.sequence;
    let (unit, first) = Sequence::place();
    if unit >= s.hidden {
        return;
    }
    let sums = s.recurrent::<T, 4>(0, s.h_before, unit, first);
    let b = first + warp::lane_id();
    if warp::lane_id() >= super::BATCH || b >= s.batch {
        return;
    }
    let at = (b * s.hidden + unit) as usize;
    let (length, c) = (s.length(b), p.c_before.load(at));
    let time = s.moment(length, s.step);
    if s.step >= length {
        s.h_after.store(at, s.h_before.load(at));
        p.c_after.store(at, c);
        s.write_y(b, time, unit, 0.0);
        return;
    }
    let mut gates = [0.0; 4];
    for g in 0..4 {
        let row = g as u32 * s.hidden + unit;
        gates[g] = s.gates.load(s.gate_at(b, time, row)) + (sums[g] + s.bias_of(row));
    }
    let (h, c) = p.cell(unit, gates, c);
    s.h_after.store(at, h);
    p.c_after.store(at, c);
    s.write_y(b, time, unit, h);
}

#[inline(always)]
fn sequence<T: Real, const KEPT: usize>(p: Params) {
    let s = &p.sequence;
    let (b, row, rows) = (thread::block_idx_x(), thread::thread_idx_x(), GATES * s.hidden);
    let (state, gates, _) = sequence_memory(rows);
    let weights = Row::<KEPT>::load::<T>(s, rows, row);
    load_state(s, b, state);
    let owns = row < s.hidden;
    let at = (b * s.hidden + row) as usize;
    let (mut h, mut c) = if owns { (s.h_before.load(at), p.c_before.load(at)) } else { (0.0, 0.0) };
    let bias = if row < rows { s.bias_of(row) } else { 0.0 };
    thread::sync_threads();
    let length = s.length(b);
    let mut step = 0;
    while step < length {
        let time = s.moment(length, step);
        let x = if row < rows { s.gates.load(s.gate_at(b, time, row)) } else { 0.0 };
        let sum = x + (weights.product(state) + bias);
        if row < rows {
            gates.store(row as usize, sum);
        }
        thread::sync_threads();
        if owns {
            let gate = |g: u32| gates.load((g * s.hidden + row) as usize);
            (h, c) = p.cell(row, [gate(0), gate(1), gate(2), gate(3)], c);
            state.store(row as usize, h);
            s.write_y(b, time, row, h);
        }
        thread::sync_threads();
        step += 1;
    }
    if owns {
        s.h_after.store(at, h);
        p.c_after.store(at, c);
        pad_y(s, b, length, row);
    }
}

/// Entries of one element type.
macro_rules! entries {
    ($t:ty: $step:ident = $step_symbol:ident, $small:ident = $small_symbol:ident, $large:ident = $large_symbol:ident) => {
        entry!(
            /// One step.
            $step = $step_symbol(Params): step::<$t>, STEP_THREADS
        );
        entry!(
            /// All steps, up to 32 hidden units.
            $small = $small_symbol(Params): sequence::<$t, 32>, GATES * 32,
            with_shared(sequence_shared(GATES * 32, 32, 32))
        );
        entry!(
            /// All steps, up to 128 hidden units.
            $large = $large_symbol(Params): sequence::<$t, 64>, SEQUENCE_THREADS,
            with_shared(sequence_shared(SEQUENCE_THREADS, SEQUENCE_HIDDEN, 64))
        );
    };
}

entries!(f32: LSTM_STEP_F32 = lstm_step_f32, LSTM_SEQUENCE_32_F32 = lstm_sequence_32_f32, LSTM_SEQUENCE_64_F32 = lstm_sequence_64_f32);
entries!(F16: LSTM_STEP_F16 = lstm_step_f16, LSTM_SEQUENCE_32_F16 = lstm_sequence_32_f16, LSTM_SEQUENCE_64_F16 = lstm_sequence_64_f16);
entries!(BF16: LSTM_STEP_BF16 = lstm_step_bf16, LSTM_SEQUENCE_32_BF16 = lstm_sequence_32_bf16, LSTM_SEQUENCE_64_BF16 = lstm_sequence_64_bf16);
