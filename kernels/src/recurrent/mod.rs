//! # Recurrent cells
//! What LSTM, GRU and RNN have in common. The input's part of all gates, `X·Wᵀ + Wb` for all steps, is a product that
//! [`gemm`](crate::gemm) computes before; what is left for a step is `R·h`, the gates and the new state.
//!
//! - A *step* is one launch: a warp per hidden unit, four sequences at a time, so that `R` is read once per four sequences.
//!   It suits any size, and a graph of launches.
//! - A *sequence* is one launch for all steps: a block per sequence, a thread per row of `R`, which stays in registers (the
//!   first 32 or 64 columns) and shared memory (the others) from the first step to the last. For up to 128 hidden units.
//!
//! Sums are f32. Sequences shorter than the longest keep their state and give zeros behind their end; a reversed sequence
//! begins at its own last element.

pub mod gru;
pub mod lstm;
pub mod rnn;
#[cfg(test)]
mod tests;

use crate::device::math::fma_f32;
use crate::device::{Global, Shared, Vector, shared, thread, warp};
use crate::element::{Element, Real};
use crate::launch::{Buffer, Device, Entry, Geometry, Reject};

/// The part of the parameters that every cell has.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Sequence {
    /// The input's part of the gates, by time and batch.
    gates: Global<f32>,
    /// R, `[gates·hidden, hidden]`.
    weights: Global<u8>,
    /// Rb, `[gates·hidden]`; null: zero.
    bias: Global<f32>,
    /// Steps of each sequence; null: all.
    lengths: Global<i32>,
    h_before: Global<f32>,
    h_after: Global<f32>,
    /// The hidden state of every step; null: not wanted.
    y: Global<f32>,
    gates_time: u64,
    gates_batch: u64,
    y_time: u64,
    y_batch: u64,
    time: u32,
    batch: u32,
    hidden: u32,
    step: u32,
    reverse: u32,
    clip: f32,
}

const _: () = assert!(size_of::<Sequence>() == 112);

/// Threads of a block of a step: eight units.
pub(crate) const STEP_THREADS: u32 = 256;
const UNITS: u32 = STEP_THREADS / warp::LANES;
/// Sequences that a warp works on at a time.
const BATCH: u32 = 4;
/// The most hidden units of a launch for a whole sequence.
pub const SEQUENCE_HIDDEN: u32 = 128;

/// A kernel's entries for R in f32, f16 and bf16.
struct ByElement<P: 'static>([&'static Entry<P>; 3]);

impl<P> ByElement<P> {
    const fn of(&self, element: Element) -> &'static Entry<P> {
        match element {
            Element::F32 => self.0[0],
            Element::F16 => self.0[1],
            Element::BF16 => self.0[2],
        }
    }
}

/// Grid, block and shared memory of a step.
pub(crate) const fn step_geometry(hidden: u32, batch: u32) -> Geometry {
    let mut geometry = Geometry::linear(hidden.div_ceil(UNITS), STEP_THREADS);
    geometry.grid[1] = batch.div_ceil(BATCH);
    geometry
}

/// Shared memory of a launch for whole sequences, in bytes: the hidden state, two numbers per row of R, and the columns
/// of R that are not in registers.
pub(crate) const fn sequence_shared(rows: u32, hidden: u32, kept: u32) -> u32 {
    4 * (SEQUENCE_HIDDEN + 2 * rows + hidden.saturating_sub(kept) * rows)
}

/// Grid, block and shared memory for whole sequences.
pub(crate) const fn sequence_geometry(gates: u32, hidden: u32, batch: u32, kept: u32) -> Geometry {
    let rows = gates * hidden;
    Geometry::linear(batch, rows.next_multiple_of(warp::LANES))
        .with_shared(sequence_shared(rows, hidden, kept))
}

/// Whether one launch makes all steps of a cell with so many gates and hidden units on `device`.
pub fn takes_sequence(gates: u32, hidden: u32, batch: u32, device: &Device) -> bool {
    let kept = if gates > 1 && hidden <= 32 { 32 } else { 64 };
    let few = (1..=SEQUENCE_HIDDEN).contains(&hidden);
    few && sequence_geometry(gates, hidden, batch, kept).shared_bytes <= device.shared_bytes
}

/// Sizes, layouts and what all attributes of the operators have in common, as the caller describes them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Layout {
    /// Type of R.
    pub element: Element,
    /// Steps of the longest sequence.
    pub time: u32,
    /// Sequences.
    pub batch: u32,
    /// Hidden units.
    pub hidden: u32,
    /// Elements between the input's part of the gates of two steps, and of two sequences.
    pub gates: [u64; 2],
    /// Elements between the hidden states of two steps, and of two sequences.
    pub y: [u64; 2],
    /// From the last step to the first.
    pub reverse: bool,
    /// Bound of what activations are applied to.
    pub clip: Option<f32>,
}

/// The memory of a launch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operands {
    /// `X·Wᵀ + Wb`.
    pub gates: Buffer,
    /// R.
    pub weights: Buffer,
    /// Rb, or none.
    pub bias: Buffer,
    /// i32 lengths of the sequences, or none.
    pub lengths: Buffer,
    /// The hidden state before, `[batch, hidden]`.
    pub h_before: Buffer,
    /// The hidden state after; another buffer than the one before.
    pub h_after: Buffer,
    /// The hidden states of all steps, or none.
    pub y: Buffer,
}

impl Layout {
    /// Checks the operands and makes the parameters of step `step` (0 for whole sequences) of a cell with `gates` gates.
    fn prepare(&self, gates: u32, step: u32, operands: &Operands) -> Result<Sequence, Reject> {
        let Self { time, batch, hidden, .. } = *self;
        let limit = 1 << 20;
        for (name, got) in [("steps", time), ("sequences", batch), ("hidden units", hidden)] {
            if got == 0 || got > limit {
                return Err(Reject::Extent { name, got: got.into(), limit: limit.into() });
            }
        }
        if step >= time {
            return Err(Reject::Extent { name: "step", got: step.into(), limit: u64::from(time) - 1 });
        }
        if self.clip.is_some_and(|clip| clip.is_nan() || clip <= 0.0) {
            return Err(Reject::Unsupported { what: "a clip that is not positive" });
        }
        let rows = u64::from(gates) * u64::from(hidden);
        let reach = |[by_time, by_batch]: [u64; 2], width: u64| {
            let last = u64::from(time - 1).saturating_mul(by_time);
            last.saturating_add(u64::from(batch - 1).saturating_mul(by_batch)).saturating_add(width)
        };
        let state = 4 * u64::from(batch) * u64::from(hidden);
        operands.gates.holds("gates", reach(self.gates, rows).saturating_mul(4), 4)?;
        operands.weights.holds("R", rows * u64::from(hidden) * self.element.bytes(), self.element.bytes())?;
        if operands.bias.is_some() {
            operands.bias.holds("Rb", 4 * rows, 4)?;
        }
        if operands.lengths.is_some() {
            operands.lengths.holds("sequence_lens", 4 * u64::from(batch), 4)?;
        }
        operands.h_before.holds("h before", state, 4)?;
        operands.h_after.holds("h after", state, 4)?;
        if operands.h_before.address == operands.h_after.address {
            return Err(Reject::Unsupported { what: "a hidden state that is overwritten while it is read" });
        }
        if operands.y.is_some() {
            operands.y.holds("Y", reach(self.y, hidden.into()).saturating_mul(4), 4)?;
        }
        Ok(Sequence {
            gates: Global::from_address(operands.gates.address),
            weights: Global::from_address(operands.weights.address),
            bias: Global::from_address(operands.bias.address),
            lengths: Global::from_address(operands.lengths.address),
            h_before: Global::from_address(operands.h_before.address),
            h_after: Global::from_address(operands.h_after.address),
            y: Global::from_address(operands.y.address),
            gates_time: self.gates[0],
            gates_batch: self.gates[1],
            y_time: self.y[0],
            y_batch: self.y[1],
            time,
            batch,
            hidden,
            step,
            reverse: self.reverse.into(),
            clip: self.clip.unwrap_or(f32::INFINITY),
        })
    }

    /// The least number of columns in registers that kernels for whole sequences are compiled for.
    fn kept(&self) -> Result<u32, Reject> {
        match self.hidden {
            ..=32 => Ok(32),
            33..=SEQUENCE_HIDDEN => Ok(64),
            got => {
                let limit = SEQUENCE_HIDDEN.into();
                Err(Reject::Extent { name: "hidden units", got: got.into(), limit })
            }
        }
    }
}

impl Sequence {
    /// Steps of sequence `b`, whatever the data says.
    #[inline(always)]
    fn length(&self, b: u32) -> u32 {
        if self.lengths.is_null() {
            return self.time;
        }
        let length = self.lengths.load(b as usize);
        if length < 0 { 0 } else { self.time.min(length as u32) }
    }

    /// The time of step `step` of a sequence of that length.
    #[inline(always)]
    fn moment(&self, length: u32, step: u32) -> u32 {
        if self.reverse != 0 && step < length { length - 1 - step } else { step }
    }

    /// Index of a row of the input's part of the gates.
    #[inline(always)]
    fn gate_at(&self, b: u32, time: u32, row: u32) -> usize {
        (u64::from(time) * self.gates_time + u64::from(b) * self.gates_batch + u64::from(row)) as usize
    }

    /// Writes the hidden state of a step, where it is wanted.
    #[inline(always)]
    fn write_y(&self, b: u32, time: u32, unit: u32, h: f32) {
        if !self.y.is_null() {
            let at = u64::from(time) * self.y_time + u64::from(b) * self.y_batch + u64::from(unit);
            self.y.store(at as usize, h);
        }
    }

    #[inline(always)]
    fn bias_of(&self, row: u32) -> f32 {
        if self.bias.is_null() { 0.0 } else { self.bias.load(row as usize) }
    }

    #[inline(always)]
    fn clipped(&self, x: f32) -> f32 {
        if x > self.clip {
            self.clip
        } else if x < -self.clip {
            -self.clip
        } else {
            x
        }
    }

    /// The unit of the calling warp in a step and its first sequence.
    #[inline(always)]
    fn place() -> (u32, u32) {
        (thread::block_idx_x() * UNITS + warp::warp_id(), thread::block_idx_y() * BATCH)
    }

    /// `R[row] · v[b]` of the lane's sequence `first + lane` for rows `unit`, `unit + hidden`… from gate `gate` on. Lanes
    /// from [`BATCH`] on get that of the last. All lanes of a warp come here.
    #[inline(always)]
    fn recurrent<T: Real, const GATES: usize>(
        &self,
        gate: u32,
        vectors: Global<f32>,
        unit: u32,
        first: u32,
    ) -> [f32; GATES] {
        let mut sums = [[0.0f32; BATCH as usize]; GATES];
        let (weights, hidden) = (self.weights.cast::<T>(), self.hidden as usize);
        let mut k = warp::lane_id() as usize;
        while k < hidden {
            let mut of_row = [0.0; GATES];
            for g in 0..GATES {
                let row = (gate as usize + g) * hidden + unit as usize;
                of_row[g] = weights.load_read_only(row * hidden + k).widen();
            }
            for b in 0..BATCH as usize {
                if first + (b as u32) < self.batch {
                    let h = vectors.load((first as usize + b) * hidden + k);
                    for g in 0..GATES {
                        sums[g][b] = fma_f32(of_row[g], h, sums[g][b]);
                    }
                }
            }
            k += warp::LANES as usize;
        }
        let mut own = [0.0; GATES];
        for g in 0..GATES {
            for b in 0..BATCH {
                let sum = warp::reduce(sums[g][b as usize], |a, b| a + b);
                if b <= warp::lane_id() {
                    own[g] = sum;
                }
            }
        }
        own
    }
}

/// A row of R in the thread that owns it, from the first step to the last.
struct Row<const KEPT: usize> {
    kept: [f32; KEPT],
    /// The other columns of all rows, `[hidden − KEPT, rows]`.
    others: Shared<f32>,
    row: u32,
    rows: u32,
    hidden: u32,
}

impl<const KEPT: usize> Row<KEPT> {
    /// Reads the thread's row; threads beyond the last have a row of zeros.
    #[inline(always)]
    fn load<T: Real>(s: &Sequence, rows: u32, row: u32) -> Self {
        let hidden = s.hidden;
        let weights = s.weights.cast::<T>();
        let others =
            shared::array::<f32>(4 * (SEQUENCE_HIDDEN + 2 * rows), hidden.saturating_sub(KEPT as u32) * rows);
        let mut kept = [0.0; KEPT];
        for k in 0..KEPT {
            if row < rows && (k as u32) < hidden {
                kept[k] = weights.load((row * hidden) as usize + k).widen();
            }
        }
        if row < rows {
            let mut k = KEPT as u32;
            while k < hidden {
                let weight = weights.load((row * hidden + k) as usize).widen();
                others.store(((k - KEPT as u32) * rows + row) as usize, weight);
                k += 1;
            }
        }
        Self { kept, others, row, rows, hidden }
    }

    /// `R[row] · v`, with `v` in shared memory, zeros behind its end up to column KEPT.
    #[inline(always)]
    fn product(&self, v: Shared<f32>) -> f32 {
        let mut sums = [0.0f32; 4];
        for four in 0..KEPT / 4 {
            let Vector(h) = v.cast::<Vector<f32, 4>>().load(four);
            for i in 0..4 {
                sums[i] = fma_f32(self.kept[4 * four + i], h[i], sums[i]);
            }
        }
        let mut sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        if self.row < self.rows {
            let mut k = KEPT as u32;
            while k < self.hidden {
                let weight = self.others.load(((k - KEPT as u32) * self.rows + self.row) as usize);
                sum = fma_f32(weight, v.load(k as usize), sum);
                k += 1;
            }
        }
        sum
    }
}

/// The shared memory of a block that works on one sequence: the hidden state, and two numbers per row.
#[inline(always)]
fn sequence_memory(rows: u32) -> (Shared<f32>, Shared<f32>, Shared<f32>) {
    let state = shared::array::<f32>(0, SEQUENCE_HIDDEN);
    let first = shared::array::<f32>(4 * SEQUENCE_HIDDEN, rows);
    let second = shared::array::<f32>(4 * (SEQUENCE_HIDDEN + rows), rows);
    (state, first, second)
}

/// Puts the initial hidden state of sequence `b` into shared memory, zeros behind its end.
#[inline(always)]
fn load_state(s: &Sequence, b: u32, state: Shared<f32>) {
    let mut k = thread::thread_idx_x();
    while k < SEQUENCE_HIDDEN {
        let h = if k < s.hidden { s.h_before.load((b * s.hidden + k) as usize) } else { 0.0 };
        state.store(k as usize, h);
        k += thread::block_dim_x();
    }
}

/// Zeros behind the end of sequence `b`.
#[inline(always)]
fn pad_y(s: &Sequence, b: u32, length: u32, unit: u32) {
    let mut time = length;
    while time < s.time {
        s.write_y(b, time, unit, 0.0);
        time += 1;
    }
}
