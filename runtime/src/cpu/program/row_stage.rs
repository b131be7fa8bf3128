//! A stage of a row program on a group of rows: each instruction is one loop over the tiles of all of them.

use super::compiled::{Compiled, Rows, Tile};
use super::reductions::{combined, identity};
use super::row_layout::{CELL, LANES, RowLayout, spread};
use crate::cpu::simd::{Across, Routine, Span};
use crate::exec::Looks;
use crate::loops::rows::{Combine, Source};
use bytemuck::cast_slice_mut;
use smallvec::SmallVec;

/// A stage bound to shapes.
#[derive(Debug)]
pub(super) struct BoundStage {
    pub(super) compiled: Compiled,
    /// Whether it runs once per row.
    pub(super) once: bool,
    /// Start of its registers.
    pub(super) registers: usize,
    pub(super) reduced: Vec<Reduction>,
    /// Outputs that are only reduced.
    pub(super) passing: usize,
    /// Whether its only reduction is a sum that the loops take as they compute what is added.
    pub(super) sums: bool,
    /// How many rows are kept before it, and those that it keeps.
    pub(super) kept_before: usize,
    pub(super) kept: SmallVec<[Kept; 2]>,
    /// Scalars that it makes.
    pub(super) scalars: usize,
    pub(super) stored: Vec<usize>,
}

/// A row that is kept for later stages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Bytes per element.
    pub(super) width: usize,
    /// The nest's output in which it waits, where not in scratch memory.
    pub(super) output: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Reduction {
    pub(super) combine: Combine,
    pub(super) source: Source,
    /// Whether that is an input of one element for a row.
    pub(super) one: bool,
    /// Bytes of an element.
    pub(super) width: usize,
    pub(super) routine: Routine,
}

/// Rows that are worked on at once.
pub(super) struct Group<'g, 'o, 'l> {
    /// How many.
    pub(super) count: usize,
    /// Which of the outputs' rows is the first.
    pub(super) at: usize,
    /// Elements of a row and of a tile.
    pub(super) length: usize,
    pub(super) tile: usize,
    /// Bytes of a line of scalars.
    pub(super) line: usize,
    /// Layout and bytes per element of the inputs.
    pub(super) inputs: &'g [(RowLayout, usize)],
    /// What stages read so far: inputs, kept rows, scalars; and bytes from row to row of all but the scalars.
    pub(super) windows: SmallVec<[&'g [u8]; 8]>,
    pub(super) steps: SmallVec<[usize; 8]>,
    /// The outputs' rows.
    pub(super) outputs: &'g mut [&'o mut [u8]],
    /// Between the tiles of long rows.
    pub(super) looks: &'g mut Looks<'l>,
}

/// Bytes between kept rows of `length` elements of `width` bytes.
pub(super) fn kept_row(length: usize, width: usize) -> usize {
    (length * width).next_multiple_of(64)
}

impl<'g> Group<'g, '_, '_> {
    /// Lets later stages read what `stage` kept and made; `inputs` are those of the nest.
    pub(super) fn push(&mut self, stage: &BoundStage, inputs: usize, mut kept: &'g [u8], made: &'g [u8]) {
        for (k, row) in stage.kept.iter().enumerate() {
            let step = if row.output.is_some() { 0 } else { kept_row(self.length, row.width) };
            let (own, rest) = kept.split_at(self.line / CELL * step);
            self.windows.insert(inputs + stage.kept_before + k, own);
            self.steps.insert(inputs + stage.kept_before + k, step);
            kept = rest;
        }
        for line in made.chunks_exact(self.line) {
            self.windows.push(line);
        }
    }
}

impl BoundStage {
    /// Runs a stage that runs once per row: the first lines of `given` are what it reads of the nest's inputs.
    pub(super) fn once(
        &self,
        group: &mut Group<'_, '_, '_>,
        (given, inputs): (&[u8], usize),
        stored: &[(usize, usize)],
        made: &mut [u8],
        registers: &mut [u8],
    ) {
        let mut windows: SmallVec<[&[u8]; 8]> = given.chunks_exact(group.line).take(inputs).collect();
        windows.extend_from_slice(&group.windows[inputs..]);
        let mut targets: SmallVec<[&mut [u8]; 4]> = made.chunks_exact_mut(group.line).collect();
        for (k, output) in group.outputs.iter_mut().enumerate() {
            if self.stored.contains(&k) {
                targets.push(&mut output[group.at * stored[k].1..]);
            }
        }
        self.compiled.run(&mut Tile {
            len: group.count,
            rows: Rows::ONE,
            inputs: &windows,
            outputs: &mut targets,
            at: 0,
            scratch: registers,
            gather: &|_, _, _| {},
        });
    }

    /// Runs a stage over the elements of rows. `stored` are elements per row and bytes per element of the nest's outputs,
    /// `tiles` and `kept` places for what is reduced and what is kept.
    pub(super) fn run(
        &self,
        group: &mut Group<'_, '_, '_>,
        stored: &[(usize, usize)],
        (tiles, kept): (&mut [u8], &mut [u8]),
        made: &mut [u8],
        registers: &mut [u8],
    ) {
        let (count, at, tile, length) = (group.count, group.at, group.tile, group.length);
        let step_of = |k: usize| stored[k].0 * stored[k].1;
        self.compiled.run_uniform(count, &group.windows, registers);
        let (mut targets, mut apart) = (SmallVec::<[&mut [u8]; 4]>::new(), SmallVec::<[usize; 4]>::new());
        let lanes = group.line / CELL;
        let cells = (lanes * tile * CELL).max(1);
        for place in tiles.chunks_exact_mut(cells).take(self.passing) {
            targets.push(place);
            apart.push(tile * CELL);
        }
        let mut free = kept;
        for row in &self.kept {
            let step = row.output.map_or_else(|| kept_row(length, row.width), step_of);
            let bytes = if row.output.is_some() { 0 } else { lanes * step };
            let (rows, rest) = free.split_at_mut(bytes);
            targets.push(rows);
            apart.push(step);
            free = rest;
        }
        for (k, output) in group.outputs.iter_mut().enumerate() {
            if self.stored.contains(&k) {
                targets.push(&mut output[at * step_of(k)..]);
                apart.push(step_of(k));
            } else if let Some(own) = self.kept.iter().position(|row| row.output == Some(k)) {
                targets[self.passing + own] = &mut output[at * step_of(k)..];
            }
        }
        let (steps, layouts) = (&group.steps, group.inputs);
        let mut over = |from: usize, targets: &mut [&mut [u8]], sums: Option<&mut [f32]>| {
            let rows = Rows { count, from, inputs: steps, outputs: &apart, still: self.passing };
            let (len, inputs) = (tile.min(length - from), &group.windows);
            let spread_input = |k: usize, row: usize, to: &mut [u8]| {
                let (layout, width) = &layouts[k];
                spread(&inputs[k][row * steps[k]..], (layout.run, from), *width, to);
            };
            let (outputs, gather) = (targets, &spread_input);
            let mut tile = Tile { len, rows, inputs, outputs, at: from, scratch: registers, gather };
            self.compiled.run_steps(&mut tile, sums);
            (rows, len)
        };
        if length <= tile && length > 0 {
            // A row is one tile: what is reduced of it is the scalar.
            if self.sums {
                over(0, &mut targets, Some(cast_slice_mut(made)));
                return;
            }
            let (rows, len) = over(0, &mut targets, None);
            for (reduction, line) in self.reduced.iter().zip(made.chunks_exact_mut(group.line)) {
                let (elements, step) = reduction.elements(&rows, &group.windows, &targets);
                match reduction.width {
                    4 => cast_slice_mut::<u8, f32>(line).fill(identity(reduction.combine) as f32),
                    _ => cast_slice_mut::<u8, f64>(line).fill(identity(reduction.combine)),
                }
                reduction.call((elements, step), len, line, count);
            }
            return;
        }
        let mut totals: SmallVec<[f64; LANES]> = SmallVec::new();
        for reduction in &self.reduced {
            totals.extend(std::iter::repeat_n(identity(reduction.combine), count));
        }
        for from in (0..length).step_by(tile.max(1)) {
            if group.looks.is_over(count * tile) {
                return;
            }
            if self.sums {
                let mut sums = [0.0; LANES];
                over(from, &mut targets, Some(&mut sums));
                totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += f64::from(sum));
                continue;
            }
            let (rows, len) = over(from, &mut targets, None);
            for (reduction, totals) in self.reduced.iter().zip(totals.chunks_exact_mut(count)) {
                let (elements, step) = reduction.elements(&rows, &group.windows, &targets);
                reduction.add((elements, step), len, totals);
            }
        }
        let lines = made.chunks_exact_mut(group.line).zip(totals.chunks_exact(count));
        for ((line, totals), reduction) in lines.zip(&self.reduced) {
            match reduction.width {
                4 => {
                    let cells: &mut [f32] = cast_slice_mut(line);
                    cells.iter_mut().zip(totals).for_each(|(cell, total)| *cell = *total as f32);
                }
                _ => cast_slice_mut::<u8, f64>(line)[..count].copy_from_slice(totals),
            }
        }
    }
}

impl Reduction {
    /// What is reduced of tiles, and bytes from row to row.
    fn elements<'m>(
        &self,
        rows: &Rows<'_>,
        inputs: &[&'m [u8]],
        outputs: &'m [&mut [u8]],
    ) -> (&'m [u8], usize) {
        let from = rows.from * self.width;
        match self.source {
            Source::Output(k) if k < rows.still => (&*outputs[k], rows.outputs[k]),
            Source::Output(k) => (&outputs[k][from..], rows.outputs[k]),
            Source::Input(k) if self.one => (inputs[k], self.width),
            Source::Input(k) => (&inputs[k][from..], rows.inputs[k]),
        }
    }

    /// Combines `len` elements of each row with what is in its cell of `to`.
    fn call(&self, (elements, step): (&[u8], usize), len: usize, to: &mut [u8], count: usize) {
        let none = Span::default();
        let from = [Span { bytes: len * self.width, step }, none, none];
        let across = Across { rows: count, to: Span { bytes: self.width, step: self.width }, from };
        self.routine.call_rows(to, [elements, &[], &[]], &across);
    }

    /// Combines `len` elements of each row with its total.
    fn add(&self, elements: (&[u8], usize), len: usize, totals: &mut [f64]) {
        let empty = identity(self.combine);
        if self.width == 4 {
            let mut values = [empty as f32; LANES];
            self.call(elements, len, cast_slice_mut(&mut values), totals.len());
            for (total, value) in totals.iter_mut().zip(values) {
                *total = combined(self.combine, *total, value.into());
            }
        } else {
            let mut values = [empty; LANES];
            self.call(elements, len, cast_slice_mut(&mut values), totals.len());
            for (total, value) in totals.iter_mut().zip(values) {
                *total = combined(self.combine, *total, value);
            }
        }
    }
}
