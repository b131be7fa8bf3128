//! # LSTM with quantised weights
//!
//! `gates = ((x_q − x_z)·(W − W_z))·(x_s·W_s) + ((h_q − h_z)·(R − R_z))·(h_s·R_s) + b`, sums in i32, everything else in
//! f32; then the cell as in [`super::cells`]. X is quantised over the range of all its steps, h over the range of
//! the step's states in all rows of the batch. `Σ (a − z)(w − v) = Σ (a − z)·w − v·Σ (a − z)`, so that weights are
//! read as they are.
//!
//! A step is cut into tiles of hidden units, whose four gates are computed together. What a tile writes lies
//! together: `[tiles, rows, units]`. Rows of a batch are ordered by length ([`super::sequence`]).

use super::cells::{LstmGates, UNITS};
use super::gate::Gates;
use super::pack::{spaced, take};
use super::sequence::{Sequence, arrange};
use super::{B, INITIAL, LENGTHS, P, R, W, X};
use crate::cpu::integer_product::Byte;
use crate::cpu::simd::{Lane, Level};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::cpu::{CpuSite, Io, Kernel};
use crate::dtype::DType;
use crate::error::OpError;
use crate::ops::recurrence::{Cell, Recurrence};

/// Positions of scales and zero points; a weight's zero points follow its scales.
const W_SCALE: usize = 8;
const R_SCALE: usize = 10;
/// Gates i, o, f, c.
const GATES: usize = 4;
/// Units of a tile: a cache line of each row of the weights.
const TILE: usize = 64;

/// The kernel for inputs of known shapes.
pub(crate) fn kernel(recurrence: &Recurrence, site: &CpuSite<'_>) -> Result<Kernel, OpError> {
    let (x, r) = (site.input_shape(X)?, site.input_shape(R)?);
    let ([time, batch, input], [_, hidden, _]) = (&x[..], &r[..]) else {
        return Err(OpError::internal("a recurrence of other ranks than inferred"));
    };
    let plan = Plan {
        recurrence: recurrence.clone(),
        time: *time,
        batch: *batch,
        input: *input,
        hidden: *hidden,
        level: Level::detect(),
    };
    let scratch = plan.scratch_bytes().ok_or_else(|| OpError::shape("the recurrence is too large"))?;
    let types = (site.inputs.tensor(W)?.dtype, site.inputs.tensor(R)?.dtype);
    Ok(Kernel::new(move |io| match types {
        (DType::U8, DType::U8) => plan.run::<u8, u8>(io),
        (DType::U8, _) => plan.run::<u8, i8>(io),
        (_, DType::U8) => plan.run::<i8, u8>(io),
        _ => plan.run::<i8, i8>(io),
    })
    .with_scratch(scratch))
}

#[derive(Debug)]
struct Plan {
    recurrence: Recurrence,
    time: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    level: Level,
}

/// Scale and zero point of values quantised to u8.
#[derive(Clone, Copy, Debug)]
struct Quantisation {
    scale: f32,
    zero: f32,
}

impl Quantisation {
    /// For `values`, over their range widened to hold 0.
    fn of<'v>(values: impl Iterator<Item = &'v f32>) -> Self {
        let (least, most) = values.fold((0f32, 0f32), |(a, b), &v| (a.min(v), b.max(v)));
        let scale = if least == most { 1.0 } else { (most - least) / 255.0 };
        Self { scale, zero: (-least / scale).clamp(0.0, 255.0).round_ties_even() }
    }

    /// Quantises `from` and leaves the zero point out.
    fn apply(self, from: &[f32], to: &mut [i16]) {
        for (to, x) in to.iter_mut().zip(from) {
            let quantised = ((x / self.scale).round_ties_even() + self.zero).clamp(0.0, 255.0);
            *to = (quantised - self.zero) as i16;
        }
    }
}

/// One of W and R of one direction: `[depth, 4 · hidden]`, with its scales and zero points, one or one for each
/// column.
#[derive(Clone, Copy, Debug)]
struct Weights<'a, T> {
    data: &'a [T],
    scales: &'a [f32],
    zeros: &'a [T],
}

impl<'a, T: Byte + Into<i32>> Weights<'a, T> {
    /// Direction `plane` of `planes` of what inputs `index` and `scale` hold.
    fn new(io: &Io<'a, '_>, index: usize, scale: usize, at: [usize; 2]) -> Result<Self, OpError> {
        Ok(Self {
            data: per_plane(io.input::<T>(index)?, at),
            scales: per_plane(io.input::<f32>(scale)?, at),
            zeros: per_plane(io.input::<T>(scale + 1)?, at),
        })
    }

    /// Adds the product of `operand` with the columns of a tile to `sums`, gate by gate.
    fn add(
        &self,
        (operand, scale): (&[i16], f32),
        hidden: usize,
        first: usize,
        sums: &mut [[f32; TILE]; GATES],
    ) {
        let units = (hidden - first).min(TILE);
        let mut totals = [[0i32; TILE]; GATES];
        for (&a, row) in operand.iter().zip(self.data.chunks_exact(GATES * hidden)) {
            let a = i32::from(a);
            for (gate, totals) in totals.iter_mut().enumerate() {
                let row = &row[gate * hidden + first..][..units];
                for (total, &w) in totals.iter_mut().zip(row) {
                    *total = total.wrapping_add(a.wrapping_mul(w.into()));
                }
            }
        }
        let sum = operand.iter().fold(0i32, |sum, &a| sum.wrapping_add(a.into()));
        let scale_at = |column: usize| self.scales[if self.scales.len() == 1 { 0 } else { column }];
        let zero_at = |column: usize| self.zeros[if self.zeros.len() == 1 { 0 } else { column }];
        for (gate, (sums, totals)) in sums.iter_mut().zip(&totals).enumerate() {
            for (unit, (to, total)) in sums.iter_mut().zip(totals).take(units).enumerate() {
                let column = gate * hidden + first + unit;
                let zero: i32 = zero_at(column).into();
                *to += total.wrapping_sub(zero.wrapping_mul(sum)) as f32 * (scale * scale_at(column));
            }
        }
    }
}

/// The part of direction `plane` of `planes`.
fn per_plane<T>(all: &[T], [plane, planes]: [usize; 2]) -> &[T] {
    let each = all.len() / planes;
    &all[plane * each..(plane + 1) * each]
}

impl Plan {
    fn tiles(&self) -> usize {
        self.hidden.div_ceil(TILE)
    }

    /// Elements of what tiles write, for one direction.
    fn tiled(&self) -> Option<usize> {
        self.tiles().checked_mul(TILE)?.checked_mul(self.batch)
    }

    fn scratch_bytes(&self) -> Option<usize> {
        let (x, h) = (self.batch.checked_mul(self.input)?, self.batch.checked_mul(self.hidden)?);
        let tiled = spaced::<f32>(self.tiled()?)?.checked_mul(2)?;
        let rows = spaced::<usize>(self.batch)?.checked_mul(2)?;
        let quantised = spaced::<i16>(x)?.checked_add(spaced::<i16>(h)?)?;
        rows.checked_add(quantised)?.checked_add(spaced::<f32>(h)?)?.checked_add(tiled)
    }

    fn run<S, T>(&self, io: &mut Io<'_, '_>) -> Result<(), OpError>
    where
        S: Byte + Into<i32>,
        T: Byte + Into<i32>,
    {
        let (batch, hidden) = (self.batch, self.hidden);
        let planes = self.recurrence.directions.len();
        let x = io.input::<f32>(X)?;
        let given_lengths = io.optional_input::<i32>(LENGTHS)?;
        let initial = [io.optional_input::<f32>(INITIAL[0])?, io.optional_input::<f32>(INITIAL[1])?];
        let (bias, peepholes) = (io.optional_input::<f32>(B)?, io.optional_input::<f32>(P)?);
        let mut weights = smallvec::SmallVec::<[_; 2]>::new();
        for plane in 0..planes {
            let at = [plane, planes];
            weights.push((Weights::<S>::new(io, W, W_SCALE, at)?, Weights::<T>::new(io, R, R_SCALE, at)?));
        }
        let context = io.context;
        let ([y, last_h, last_c], mut rest) = io.outputs_and_scratch::<f32, 3>()?;
        let (order, lengths) = (take::<usize>(&mut rest, batch)?, take::<usize>(&mut rest, batch)?);
        arrange(given_lengths, self.time, order, lengths)?;
        let steps = lengths.first().copied().unwrap_or(0);
        let tiled = self.tiled().unwrap_or_default();
        let x_now = take::<i16>(&mut rest, batch * self.input)?;
        let h_now = take::<i16>(&mut rest, batch * hidden)?;
        let state = take::<f32>(&mut rest, batch * hidden)?;
        let (cell, next) = (take::<f32>(&mut rest, tiled)?, take::<f32>(&mut rest, tiled)?);
        y.fill(0.0);
        if hidden == 0 || batch == 0 {
            return Ok(());
        }
        let x_form = Quantisation::of(x[..steps * batch * self.input].iter());
        for (plane, (w, r)) in weights.iter().enumerate() {
            let direction = &self.recurrence.directions[plane];
            let sequence = Sequence {
                order,
                lengths,
                time: self.time,
                batch_first: false,
                reverse: direction.reverse,
                plane,
                planes,
            };
            let gates = Gates::new(self.level, &direction.activations, self.recurrence.clip);
            let bias = bias.map_or(&[][..], |all| per_plane(all, [plane, planes]));
            let peepholes = peepholes.map_or(&[][..], |all| per_plane(all, [plane, planes]));
            let cell_step = CellStep {
                gates,
                bias,
                peepholes,
                input_forget: self.recurrence.cell == Cell::Lstm { input_forget: true },
                hidden,
            };
            for row in 0..batch {
                let from = sequence.state(row) * hidden;
                let of = |initial: Option<&[f32]>, unit: usize| initial.map_or(0.0, |all| all[from + unit]);
                for unit in 0..hidden {
                    state[row * hidden + unit] = of(initial[0], unit);
                    cell[place(batch, row, unit)] = of(initial[1], unit);
                }
            }
            let mut active = batch;
            for step in 0..steps {
                context.interrupt.check()?;
                active = sequence.active(step, active);
                // A row that ended a step ago still counts: its last state stands before this step.
                let counted = lengths.iter().take_while(|&&length| length >= step).count();
                let h_form = Quantisation::of(state[..counted * hidden].iter());
                h_form.apply(&state[..active * hidden], h_now);
                for (row, to) in x_now.chunks_exact_mut(self.input.max(1)).take(active).enumerate() {
                    x_form.apply(&x[sequence.x(row, step) * self.input..][..self.input], to);
                }
                let (x_now, h_now) = (&*x_now, &*h_now);
                let work = active * (self.input + hidden) * GATES * hidden;
                let pieces = (Chunks::new(cell, batch * TILE), Chunks::new(next, batch * TILE));
                for_each_tile(context, work, Lanes::none(), &pieces, &|tile, (cell, next), _| {
                    let first = tile * TILE;
                    for row in 0..active {
                        let mut sums = [[0f32; TILE]; GATES];
                        let x = (&x_now[row * self.input..][..self.input], x_form.scale);
                        let h = (&h_now[row * hidden..][..hidden], h_form.scale);
                        w.add(x, hidden, first, &mut sums);
                        r.add(h, hidden, first, &mut sums);
                        let of_row = row * TILE..(row + 1) * TILE;
                        cell_step.run(first, &mut sums, (&mut cell[of_row.clone()], &mut next[of_row]));
                    }
                    Ok(())
                })?;
                for row in 0..active {
                    let to = &mut state[row * hidden..][..hidden];
                    for (unit, h) in to.iter_mut().enumerate() {
                        *h = next[place(batch, row, unit)];
                    }
                    if !y.is_empty() {
                        y[sequence.y(row, step) * hidden..][..hidden].copy_from_slice(to);
                    }
                }
            }
            for row in 0..batch {
                let to = sequence.state(row) * hidden;
                for unit in 0..hidden {
                    if let Some(h) = last_h.get_mut(to + unit) {
                        *h = state[row * hidden + unit];
                    }
                    if let Some(c) = last_c.get_mut(to + unit) {
                        *c = cell[place(batch, row, unit)];
                    }
                }
            }
        }
        Ok(())
    }
}

/// Where `unit` of `row` lies in what tiles write.
fn place(batch: usize, row: usize, unit: usize) -> usize {
    (unit / TILE * batch + row) * TILE + unit % TILE
}

/// From sums to states, for one direction.
struct CellStep<'a> {
    gates: Gates<'a, f32>,
    /// Biases of W and of R, `[2, 4, hidden]`, or nothing.
    bias: &'a [f32],
    /// Peepholes i, o, f, `[3, hidden]`, or nothing.
    peepholes: &'a [f32],
    input_forget: bool,
    hidden: usize,
}

impl CellStep<'_> {
    /// The units from `first` on of one row: `sums` without biases become states.
    fn run(&self, first: usize, sums: &mut [[f32; TILE]; GATES], (cell, h): (&mut [f32], &mut [f32])) {
        let hidden = self.hidden;
        for at in (0..(hidden - first).min(TILE)).step_by(UNITS) {
            let mut panel = [0f32; GATES * UNITS];
            let mut extras = [[0f32; UNITS]; 3];
            for unit in 0..UNITS.min(hidden - first - at) {
                let column = first + at + unit;
                for gate in 0..GATES {
                    let bias = match self.bias {
                        [] => 0.0,
                        bias => bias[gate * hidden + column] + bias[(GATES + gate) * hidden + column],
                    };
                    panel[gate * UNITS + unit] = sums[gate][at + unit] + bias;
                }
                for (row, extra) in extras.iter_mut().enumerate().take(self.peepholes.len() / hidden) {
                    extra[unit] = self.peepholes[row * hidden + column];
                }
            }
            let peepholes = (!self.peepholes.is_empty()).then(|| extras.each_ref().map(|e| &e[..]));
            let work = LstmGates {
                gates: &self.gates,
                sums: &mut panel,
                cell: &mut cell.as_chunks_mut().0[at / UNITS],
                h: &mut h.as_chunks_mut().0[at / UNITS],
                peepholes,
                input_forget: self.input_forget,
            };
            f32::run(self.gates.level, work);
        }
    }
}
