//! One thread's part of one direction: some hidden units through all steps.
//!
//! W·x + b is computed for a chunk of steps as one product, for the thread's own units, into memory that only
//! this thread touches. Then each step multiplies the shared state with the thread's panels of R, and the
//! barrier of the relay ends it (plain GRU has two: after `r ⊙ h`, and after `h`).

use super::blocks::Blocks;
use super::cells::{Hidden, Linear, Lstm, Plain, Reset, Step};
use super::gate::{Gate, Gates};
use super::layout::{Group, Layout};
use super::sequence::{Emit, Sequence, Store};
use crate::cpu::amx::Unit;
use crate::cpu::panels::{Panels, Product, RowsOf, Starts, Stored, next_group, sweep_wide, unit};
use crate::cpu::relay::{Member, Stopped};
use crate::cpu::shards::Shard;
use crate::cpu::wavefront::Link;
use crate::error::OpError;
use crate::exec::Interrupt;
use crate::ops::recurrence::Cell;
use std::ops::Range;

/// Multiply–adds between two looks at the clock.
const CHECK_EVERY: usize = 1 << 20;

/// See the module's documentation.
pub(super) struct Strand<'a, F> {
    pub(super) layout: &'a Layout,
    pub(super) sequence: Sequence<'a>,
    pub(super) gates: Gates<'a, F>,
    pub(super) peepholes: bool,
    /// The thread's units.
    pub(super) units: Range<usize>,
    /// The direction's panels of W and R, biases and extras.
    pub(super) input: Stored<'a, F>,
    pub(super) recurrent: Stored<'a, F>,
    /// The matrix unit, where it may multiply W, and R.
    pub(super) unit: [Option<Unit>; 2],
    pub(super) vectors: &'a [F],
    /// X, row by row, where it is not taken from the layer ahead.
    pub(super) x: &'a [F],
    pub(super) link: Link<'a>,
    /// Steps of all runs before.
    pub(super) steps_before: usize,
    pub(super) blocks: &'a Blocks,
    /// Most steps whose W·x is computed at once, and the memory for it.
    pub(super) chunk: usize,
    pub(super) projected: &'a mut [F],
    /// C of LSTM, z of plain GRU: `[batch, units]`.
    pub(super) private: &'a mut [F],
    /// What the products of as many rows as the plan says need.
    pub(super) turned: &'a mut [F],
    pub(super) relay: Member<'a, F>,
    /// Y, Y_h, Y_c.
    pub(super) outputs: [Shard<'a>; 3],
    pub(super) store: Store<F>,
    /// Bytes of an element of the outputs.
    pub(super) size: usize,
    /// Deadline and cancellation.
    pub(super) interrupt: &'a Interrupt,
}

/// Why a strand ended before its last step.
pub(super) enum Ended {
    /// Another thread ended.
    Stopped,
    /// The run is to end.
    Interrupted(OpError),
}

impl From<Stopped> for Ended {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl<F: Gate> Strand<'_, F> {
    /// Runs all steps.
    pub(super) fn run(&mut self) -> Result<(), Ended> {
        self.begin();
        let steps = self.sequence.steps();
        let mut active = self.sequence.active(0, self.sequence.batch());
        let (mut chunk, mut block) = (0..0, 0);
        let (mut start, mut end, mut of) = (0, 0, self.blocks.get(0));
        let work = (self.layout.panels(1) * self.layout.hidden * active).max(1);
        let interval = (CHECK_EVERY / work).max(1);
        for step in 0..steps {
            active = self.sequence.active(step, active);
            if step % interval == 0 {
                self.interrupt.check().map_err(Ended::Interrupted)?;
            }
            if step == chunk.end {
                if step == end {
                    of = self.blocks.get(block);
                    (start, end, block) = (step, (step + of.steps).min(steps), block + 1);
                }
                chunk = step..self.chunk_end(step, end);
                // Of the block, those in other pieces and in other chunks.
                let others = of.of - of.steps + (end - start - chunk.len());
                self.project(chunk.clone(), active, others)?;
            }
            self.step(step, step - chunk.start, active)?;
            self.hand_on(active);
            self.keep_last(step, active);
        }
        Ok(())
    }

    /// Where the chunk from `step` on ends, of a block that ends at `end`.
    fn chunk_end(&self, step: usize, end: usize) -> usize {
        match self.link.piece {
            // What is left beside the last piece belongs to it.
            Some(piece) if end - step >= piece.saturating_mul(2) => step + piece,
            _ => end,
        }
    }

    /// Gives the states of `rows` rows to the layer behind.
    fn hand_on(&mut self, rows: usize) {
        if let Some(giver) = &mut self.link.to {
            let (state, _) = self.relay.state();
            let states = state.chunks_exact(self.layout.padded.max(1)).take(rows);
            states.for_each(|state| giver.give(bytemuck::cast_slice(&state[..self.layout.hidden])));
        }
    }

    /// Zeros past the ends of rows, and the states of rows without steps.
    fn begin(&mut self) {
        let rows = self.sequence.batch();
        for row in 0..rows {
            for at in self.sequence.y_past_end(row) {
                self.outputs[0].row(at).fill(0);
            }
        }
        for row in self.sequence.active(0, rows)..rows {
            self.keep(row);
        }
    }

    /// Writes the last states of the rows that `step` was the last of.
    fn keep_last(&mut self, step: usize, active: usize) {
        for row in self.sequence.active(step + 1, active)..active {
            self.keep(row);
        }
    }

    fn keep(&mut self, row: usize) {
        let (at, own) = (self.sequence.state(row), self.units.len());
        let valid = self.valid();
        let (state, _) = self.relay.state();
        let h = &state[row * self.layout.padded + self.units.start..][..valid];
        (self.store)(h, self.outputs[1].row(at));
        if matches!(self.layout.cell, Cell::Lstm { .. }) {
            (self.store)(&self.private[row * own..][..valid], self.outputs[2].row(at));
        }
    }

    /// Whether the panels of `step`, or those of W for steps from it on, are read from the last one to the first.
    fn is_backwards(&self, step: usize) -> bool {
        self.steps_before.wrapping_add(step) % 2 == 1
    }

    /// The thread's units that are no padding.
    fn valid(&self) -> usize {
        self.units.end.min(self.layout.hidden) - self.units.start.min(self.layout.hidden)
    }

    /// W·x + b of `steps`, at the first of which `active` rows run; of their block, `others` steps are projected by themselves.
    fn project(&mut self, steps: Range<usize>, active: usize, others: usize) -> Result<(), Ended> {
        let own = self.units.len();
        let x = match self.link.from {
            Some(taker) => bytemuck::cast_slice(taker.first(steps.end * self.sequence.batch())?),
            None => self.x,
        };
        for (index, group) in self.layout.groups().iter().enumerate() {
            let region = projected_region(self.layout, index, own, self.chunk * self.sequence.batch());
            let mut step = steps.start;
            while step < steps.end {
                // Steps with equally many rows go together.
                let active = self.sequence.active(step, active);
                let same = |s: &usize| self.sequence.active(*s, active) == active;
                let end = (step..steps.end).take_while(same).last().map_or(steps.end, |last| last + 1);
                let rows = (end - step) * active;
                let whole = rows + others * active;
                let together = self.unit[0].and_then(|_| unit::group_rows(self.layout.input, (rows, whole)));
                let mut first = 0;
                while first < rows {
                    let count =
                        together.map_or_else(|| next_group(rows - first), |most| most.min(rows - first));
                    let place = Rows { step, active, first, count, whole };
                    let to = (step - steps.start, region.clone());
                    self.project_rows((index, group), (x, place), to)?;
                    first += count;
                }
                step = end;
            }
        }
        Ok(())
    }

    /// W·x + b of some rows of X for gates `group`, into `region`, where step `in_chunk` of the chunk is the first.
    fn project_rows(
        &mut self,
        (index, group): (usize, &Group),
        (x, rows): (&[F], Rows),
        (in_chunk, region): (usize, Range<usize>),
    ) -> Result<(), Ended> {
        let (own, depth, batch) = (self.units.len(), self.layout.input, self.sequence.batch());
        let (panels, backwards) = (own / group.units, self.is_backwards(rows.step));
        // A few panels at a time, so that the clock is looked at.
        let at_once = (64 * CHECK_EVERY / (rows.count * depth * group.width()).max(1)).max(1);
        for first in (0..panels).step_by(at_once) {
            self.interrupt.check().map_err(Ended::Interrupted)?;
            let last = (first + at_once).min(panels);
            let units = self.units.start + first * group.units..self.units.start + last * group.units;
            let mut product = Projection {
                sequence: self.sequence,
                x,
                depth,
                rows,
                bias: &self.vectors[self.layout.panels_of(index, 1, units.clone())],
                first_panel: first,
                width: own * group.gates,
                to: &mut self.projected[region.clone()][in_chunk * batch * own * group.gates..],
                batch,
            };
            let data = self.layout.panels_in(self.input, index, depth, units);
            let panels = Panels { data, depth, count: last - first, backwards };
            let part = RowsOf { count: rows.count, whole: rows.whole, memory: &mut *self.turned };
            let (on, starts) = ((self.gates.level, self.unit[0]), Starts::Alike);
            match group.width() {
                48 => sweep_wide::<F, 48>(on, panels, part, starts, &mut product),
                _ => sweep_wide::<F, 64>(on, panels, part, starts, &mut product),
            }
        }
        Ok(())
    }

    fn step(&mut self, step: usize, in_chunk: usize, active: usize) -> Result<(), Stopped> {
        let (layout, on) = (self.layout, (self.gates.level, self.unit[1]));
        let (own, depth, batch) = (self.units.len(), layout.hidden, self.sequence.batch());
        let (first, valid, backwards) = (self.units.start, self.valid(), self.is_backwards(step));
        let extras = &self.vectors[layout.panels(1)..];
        let extra = |row: usize| &extras[row * layout.padded..][self.units.clone()];
        let panels = |index: usize, group: &Group| Panels {
            data: layout.panels_in(self.recurrent, index, depth, self.units.clone()),
            depth,
            count: own / group.units,
            backwards,
        };
        let projected = &*self.projected;
        let gates = self.gates;
        let at = |index: usize, group: &Group| Step {
            operand: &[],
            stride: layout.padded,
            hidden: depth,
            first,
            own,
            projected: &projected[projected_region(layout, index, own, self.chunk * batch)]
                [in_chunk * batch * own * group.gates..],
            gates,
        };
        let turned = &mut *self.turned;
        let y = self.outputs[0].reborrow();
        let (sequence, size, store) = (self.sequence, self.size, self.store);
        let mut emit = Emit { y, sequence, step, valid, size, store };
        match (layout.cell, layout.groups()) {
            (Cell::Lstm { input_forget }, [group]) => {
                let (operand, next) = self.relay.state();
                let peepholes = self.peepholes.then(|| [extra(0), extra(1), extra(2)]);
                let step = Step { operand, ..at(0, group) };
                let mut product = Lstm { step, cell: self.private, next, peepholes, input_forget };
                sweep_wide(on, panels(0, group), RowsOf::all(active, turned), Starts::Own, &mut product);
                emit.write(&mut product.next, active);
            }
            (Cell::Gru { linear_before_reset: true }, [group]) => {
                let (operand, next) = self.relay.state();
                let mut product = Linear { step: Step { operand, ..at(0, group) }, bias: extra(0), next };
                sweep_wide(on, panels(0, group), RowsOf::all(active, turned), Starts::Own, &mut product);
                emit.write(&mut product.next, active);
            }
            (Cell::Gru { .. }, [gates, hidden]) => {
                let (operand, next) = self.relay.state();
                let mut product =
                    Reset { step: Step { operand, ..at(0, gates) }, update: self.private, next };
                sweep_wide(on, panels(0, gates), RowsOf::all(active, turned), Starts::Own, &mut product);
                self.relay.advance()?;
                let (operand, next) = self.relay.state();
                let mut product =
                    Hidden { step: Step { operand, ..at(1, hidden) }, update: self.private, next };
                sweep_wide(on, panels(1, hidden), RowsOf::all(active, turned), Starts::Own, &mut product);
                emit.write(&mut product.next, active);
            }
            (_, [group, ..]) => {
                let (operand, next) = self.relay.state();
                let mut product = Plain { step: Step { operand, ..at(0, group) }, next };
                sweep_wide(on, panels(0, group), RowsOf::all(active, turned), Starts::Own, &mut product);
                emit.write(&mut product.next, active);
            }
            (_, []) => {}
        }
        self.relay.advance()
    }
}

/// Where the projected gates of `group` lie for a thread of `own` units and `rows` rows.
pub(super) fn projected_region(layout: &Layout, group: usize, own: usize, rows: usize) -> Range<usize> {
    let before: usize = layout.groups()[..group].iter().map(|g| g.gates).sum();
    let gates = layout.groups()[group].gates;
    before * own * rows..(before + gates) * own * rows
}

/// Some of the rows of several steps.
#[derive(Clone, Copy)]
struct Rows {
    /// The first step, and the rows of each.
    step: usize,
    active: usize,
    /// The first row, counted from that of the first step, and how many.
    first: usize,
    count: usize,
    /// The rows of the product that they are of.
    whole: usize,
}

impl Rows {
    /// The step of row `index` of these, counted from the first step, and its row there.
    fn place(&self, index: usize) -> (usize, usize) {
        ((self.first + index) / self.active, (self.first + index) % self.active)
    }
}

/// W·x + b for rows of several steps.
struct Projection<'s, F> {
    sequence: Sequence<'s>,
    x: &'s [F],
    depth: usize,
    rows: Rows,
    bias: &'s [F],
    first_panel: usize,
    /// `[steps, batch, width]`.
    to: &'s mut [F],
    width: usize,
    batch: usize,
}

impl<F: Gate, const W: usize> Product<F, W> for Projection<'_, F> {
    fn operand(&self, row: usize) -> &[F] {
        let (step, row) = self.rows.place(row);
        &self.x[self.sequence.x(row, self.rows.step + step) * self.depth..][..self.depth]
    }

    #[inline(always)]
    fn start(&self, panel: usize, _: usize, sums: &mut [F; W]) {
        *sums = self.bias.as_chunks().0[panel];
    }

    #[inline(always)]
    fn finish(&mut self, panel: usize, row: usize, sums: &mut [F; W]) {
        let (step, row) = self.rows.place(row);
        let at = step * self.batch + row;
        self.to[at * self.width..].as_chunks_mut().0[self.first_panel + panel] = *sums;
    }
}
