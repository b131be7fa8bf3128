//! The steps of a recurrence, direction by direction, from the input's part of the gates on.
//!
//! Inputs: the gates, R, B, sequence_lens, initial h and c, P; outputs: Y, Y_h, Y_c; states as `[directions, batch,
//! hidden]`, everything but R in f32; a constant R is packed in 16 bits where the session asks for it. Lengths that no
//! sequence can have are those nearest to them.

use super::projection::Gates;
use super::{R, Sizes, activation};
use crate::cuda::families::narrow::bytes_as;
use crate::cuda::families::{element, extent};
use crate::cuda::{GpuKernel, GpuReject, GpuSite, Operands};
use crate::ops::recurrence::{Cell, Recurrence};
use recurve_kernels::launch::{Buffer, Device, Launch, Reject};
use recurve_kernels::recurrent::{self, Layout, gru, lstm, rnn};
use std::sync::Arc;

/// One direction as its kernels take it.
#[derive(Clone, Copy, Debug)]
enum Problem {
    Lstm(lstm::Problem),
    Gru(gru::Problem),
    Rnn(rnn::Problem),
}

type Launches = Vec<Arc<dyn Launch>>;

/// All directions.
struct Cells {
    directions: Vec<Problem>,
    sizes: Sizes,
    gates: Gates,
    /// Elements between the hidden states of two directions in Y.
    y_direction: usize,
    /// Whether one launch makes all steps.
    whole: bool,
    device: Device,
}

pub(super) fn new(
    recurrence: &Recurrence,
    site: &GpuSite<'_>,
    sizes: Sizes,
    gates: Gates,
) -> Result<GpuKernel, GpuReject> {
    let Sizes { time, batch, hidden, directions, .. } = sizes;
    // Y is `[time, directions, batch, hidden]`, or `[batch, time, directions, hidden]`.
    let (y, y_direction) = if recurrence.batch_first {
        ([directions * hidden, time * directions * hidden], hidden)
    } else {
        ([directions * batch * hidden, hidden], batch * hidden)
    };
    if recurrence.clip.is_some_and(|clip| clip <= 0.0) {
        return Err(GpuReject::Form("a clip of 0".into()));
    }
    let storage = site.storage(R);
    let element = storage.narrow().map_or_else(|| element(site.dtype(R)?), Ok)?;
    let mut problems = Vec::with_capacity(directions);
    for direction in &recurrence.directions {
        let layout = Layout {
            element,
            time: extent(time)?,
            batch: extent(batch)?,
            hidden: extent(hidden)?,
            gates: [gates.time as u64, gates.batch as u64],
            y: y.map(|elements| elements as u64),
            reverse: direction.reverse,
            clip: recurrence.clip,
        };
        let given: Vec<_> = direction.activations.iter().map(activation).collect();
        problems.push(match (recurrence.cell, given.as_slice()) {
            (Cell::Lstm { input_forget }, &[f, g, h]) => {
                Problem::Lstm(lstm::Problem { layout, functions: [f, g, h], input_forget })
            }
            (Cell::Gru { linear_before_reset }, &[f, g]) => {
                Problem::Gru(gru::Problem { layout, functions: [f, g], linear_before_reset })
            }
            (Cell::Rnn, &[function]) => Problem::Rnn(rnn::Problem { layout, function }),
            _ => return Err(GpuReject::NoKernel),
        });
    }
    let device = site.device;
    let whole = recurrent::takes_sequence(sizes.gates as u32, extent(hidden)?, extent(batch)?, &device);
    let cells = Cells { directions: problems, sizes, gates, y_direction, whole, device };
    let zeros = vec![0; cells.state()?];
    let workspace = cells.workspace()?;
    let kernel = GpuKernel::new(move |operands| cells.launches(operands));
    let kernel = kernel.with_workspace(workspace).with_data(zeros);
    let Some(weights) = site.constant(R).cloned() else { return Ok(kernel) };
    let bytes = weights.len() * element.bytes() as usize;
    let kernel = kernel.with_stored(storage.note(R, &weights, bytes));
    if storage.narrow().is_none() {
        return Ok(kernel);
    }
    Ok(kernel.with_weights(format!("R {element:?}"), bytes, move || bytes_as(&weights, element)))
}

/// A piece of a buffer.
fn part(of: Buffer, first: usize, bytes: usize) -> Buffer {
    if !of.is_some() {
        return of;
    }
    Buffer {
        address: of.address + first as u64,
        bytes: (bytes as u64).min(of.bytes.saturating_sub(first as u64)),
    }
}

impl Cells {
    /// Bytes of one direction's state.
    fn state(&self) -> Result<usize, GpuReject> {
        Sizes::bytes(&[self.sizes.batch, self.sizes.hidden])
    }

    /// Two hidden states, a cell state, and what a GRU's step keeps between its launches; each aligned.
    fn workspace(&self) -> Result<usize, GpuReject> {
        let state = self.state()?.checked_next_multiple_of(256);
        let bytes = state.and_then(|state| state.checked_mul(5));
        bytes.ok_or_else(|| GpuReject::Form("a recurrence of so many bytes".into()))
    }

    fn launches(&self, all: &Operands<'_>) -> Result<Launches, Reject> {
        let mut launches = Vec::new();
        for (number, problem) in self.directions.iter().enumerate() {
            let direction = Direction::new(self, number, all);
            if self.whole {
                launches.push(direction.sequence(problem, &self.device)?);
            } else {
                direction.steps(problem, self.sizes.time as u32, &self.device, &mut launches)?;
            }
        }
        Ok(launches)
    }
}

/// The memory of one direction.
struct Direction {
    operands: recurrent::Operands,
    cell: lstm::Cell,
    /// Another place for the hidden state.
    spare: Buffer,
    /// Where the last hidden state goes.
    last: Buffer,
    /// What a GRU's step keeps between its launches.
    between: Buffer,
}

impl Direction {
    fn new(cells: &Cells, number: usize, all: &Operands<'_>) -> Self {
        let Sizes { batch, hidden, .. } = cells.sizes;
        let rows = cells.sizes.rows();
        let state = 4 * batch * hidden;
        let space = state.next_multiple_of(256);
        let input = |at: usize| all.inputs.get(at).copied().unwrap_or_default();
        let output = |at: usize| all.outputs.get(at).copied().unwrap_or_default();
        let scratch = |at: usize, bytes: usize| part(all.workspace, at * space, bytes);
        let zeros = all.data.first().copied().unwrap_or_default();
        let before =
            |at: usize| if input(at).is_some() { part(input(at), number * state, state) } else { zeros };
        let or = |wanted: Buffer, other: Buffer| if wanted.is_some() { wanted } else { other };
        let r = all.weights.first().copied().unwrap_or_else(|| input(1));
        let weight = r.bytes as usize / cells.directions.len();
        let last = or(part(output(1), number * state, state), scratch(0, state));
        let from = 4 * number * cells.gates.direction;
        let y = 4 * number * cells.y_direction;
        let operands = recurrent::Operands {
            gates: part(input(0), from, usize::MAX),
            weights: part(r, number * weight, weight),
            bias: part(input(2), 4 * (2 * number + 1) * rows, 4 * rows),
            lengths: input(3),
            h_before: before(4),
            h_after: last,
            y: part(output(0), y, usize::MAX),
        };
        let cell = lstm::Cell {
            c_before: before(5),
            c_after: or(part(output(2), number * state, state), scratch(1, state)),
            peepholes: part(input(6), 12 * number * hidden, 12 * hidden),
        };
        Self { operands, cell, spare: scratch(2, state), last, between: scratch(3, 2 * state) }
    }

    /// All steps in one launch.
    fn sequence(&self, problem: &Problem, device: &Device) -> Result<Arc<dyn Launch>, Reject> {
        Ok(match problem {
            Problem::Lstm(lstm) => Arc::new(lstm.sequence(&self.operands, &self.cell, device)?),
            Problem::Gru(gru) => Arc::new(gru.sequence(&self.operands, device)?),
            Problem::Rnn(rnn) => Arc::new(rnn.sequence(&self.operands, device)?),
        })
    }

    /// A launch per step; the hidden state goes to and fro, so that the last step writes it where it is wanted.
    fn steps(
        mut self,
        problem: &Problem,
        time: u32,
        device: &Device,
        launches: &mut Launches,
    ) -> Result<(), Reject> {
        for step in 0..time {
            let to_end = (time - 1 - step) as usize;
            // Two places in turn, the wanted one at the end.
            self.operands.h_after = if to_end.is_multiple_of(2) { self.last } else { self.spare };
            match problem {
                Problem::Lstm(lstm) => {
                    launches.push(Arc::new(lstm.step(step, &self.operands, &self.cell, device)?));
                    self.cell.c_before = self.cell.c_after;
                }
                Problem::Gru(gru) => {
                    let (first, second) = gru.step(step, &self.operands, self.between, device)?;
                    launches.push(Arc::new(first));
                    launches.extend(second.map(|second| Arc::new(second) as Arc<dyn Launch>));
                }
                Problem::Rnn(rnn) => launches.push(Arc::new(rnn.step(step, &self.operands, device)?)),
            }
            self.operands.h_before = self.operands.h_after;
        }
        Ok(())
    }
}
