//! A row program over the rows of a tensor.
//!
//! A thread takes a number of rows that depends on their length alone, and of these a *group* at once: as many as stay
//! in L1. It runs one stage after the other on them ([`row_stage`](super::row_stage)): first what is one element for a
//! row, then tile after tile, each instruction in one loop over all rows. Scratch memory of a thread, in bytes, for groups
//! of `lanes` rows: `[registers of each stage | tiles to be reduced | kept rows | scalars | inputs of one element for a row]`;
//! scalars and such inputs lie in lines of `lanes` elements.

use super::compile::SHORT;
use super::compiled::{Compiled, Reach};
use super::kept_rows::{in_outputs, reaches};
use super::reductions::reduction;
use super::row_layout::{CELL, RowLayout, collect, lanes};
use super::row_stage::{BoundStage, Group, Kept, Reduction, kept_row};
use crate::cpu::simd::Level;
use crate::cpu::tiles::{Chunks, Each, Lanes, for_each_tile};
use crate::cpu::{Kernel, RunContext};
use crate::error::OpError;
use crate::exec::Looks;
use crate::loops::program::{Instruction, Opcode};
use crate::loops::rows::{Combine, Extent, RowProgram, Source};
use smallvec::SmallVec;

/// A row program bound to shapes.
#[derive(Debug)]
pub(crate) struct RowKernel {
    rows: usize,
    /// Extents of the axes of rows, without those of one.
    axes: SmallVec<[usize; 4]>,
    length: usize,
    tile: usize,
    stages: Vec<BoundStage>,
    /// Layout and bytes per element of each input.
    inputs: Vec<(RowLayout, usize)>,
    /// Of which inputs elements of rows are collected.
    of_rows: Vec<bool>,
    /// Elements per row and bytes per element of each output.
    outputs: Vec<(usize, usize)>,
    /// Bytes of the parts of a thread's scratch memory.
    registers: usize,
    tiles: usize,
    kept: usize,
    scalars: usize,
    given: usize,
    /// Rows at once.
    lanes: usize,
    work: usize,
    threads: usize,
}

/// Elements that a thread takes at a time, at least and at most: whole rows, one or more.
const PIECE: [usize; 2] = [1 << 11, 1 << 13];
/// Pieces of few rows: a thread that begins late still finds its share.
const PIECES: usize = 16;

impl RowKernel {
    /// `program` on `rows` rows of `length` elements.
    pub(crate) fn new(
        program: &RowProgram,
        [rows, length]: [usize; 2],
        layouts: &[RowLayout],
        threads: usize,
    ) -> Result<Self, OpError> {
        Self::on(Level::detect(), program, (&[rows], length), layouts, threads)
    }

    /// `program` on rows of `length` elements along axes of extents `rows`.
    pub(crate) fn over(
        program: &RowProgram,
        (rows, length): (&[usize], usize),
        layouts: &[RowLayout],
        threads: usize,
    ) -> Result<Self, OpError> {
        Self::on(Level::detect(), program, (rows, length), layouts, threads)
    }

    /// The same on a certain instruction set.
    pub(super) fn on(
        level: Level,
        program: &RowProgram,
        (rows, length): (&[usize], usize),
        layouts: &[RowLayout],
        threads: usize,
    ) -> Result<Self, OpError> {
        let misfit = |l: &RowLayout| l.column > 1 || l.run == 0 || l.rows.len() != rows.len();
        if layouts.len() != program.inputs.len() || layouts.iter().any(misfit) {
            return Err(OpError::internal("a row program has inputs of other layouts"));
        }
        let waiting = in_outputs(program, layouts);
        let lanes = lanes(program, length, layouts, waiting.iter().filter(|w| w.is_none()).count());
        let mut stages: Vec<BoundStage> = Vec::new();
        let (mut registers, mut kept, mut scalars, mut most, mut work) = (0, 0, 0, 0, 0);
        let mut kept_before = 0;
        for (at, stage) in program.stages.iter().enumerate() {
            let once = stage.extent != Extent::Row;
            let there = waiting[..kept_before].iter().map(|w| w.is_some_and(|(reader, _)| reader == at));
            let reaches = reaches(layouts, once, there, scalars);
            let of_rows = layouts.len()..layouts.len() + kept_before;
            let reads_row =
                |i: &Instruction| i.opcode == Opcode::Input && of_rows.contains(&(i.arguments[0] as usize));
            if once && stage.program.instructions().iter().any(reads_row) {
                return Err(OpError::internal("a stage that runs once per row reads elements of it"));
            }
            let compiled = Compiled::with_lanes(level, &stage.program, &reaches, (lanes, length.min(SHORT)))?;
            let mut reduced: Vec<Reduction> = Vec::new();
            for &(combine, source) in &stage.reduced {
                let width = match source {
                    Source::Output(k) => compiled.widths[k],
                    // A row of one element is read alike, whether or not it moves.
                    Source::Input(k) if layouts[k].reach() == Reach::Run || length <= 1 => {
                        program.inputs[k].bits() / 8
                    }
                    Source::Input(_) => return Err(OpError::internal("a reduced input is one element")),
                };
                let one = matches!(source, Source::Input(k) if layouts[k].column == 0);
                let routine = reduction(level, combine, width);
                reduced.push(Reduction { combine, source, one, width, routine });
            }
            let own = compiled.widths[stage.passing..].iter().zip(&waiting[kept_before..]);
            let own = own.map(|(&width, waits)| Kept { width, output: waits.map(|(_, output)| output) });
            let own: SmallVec<[Kept; 2]> = own.take(stage.kept).collect();
            let made = match stage.extent {
                Extent::Row => reduced.len(),
                Extent::Once { scalars } => scalars,
            };
            most = most.max(stage.passing);
            if !once {
                work += stage.program.instructions().len();
            }
            let sums = match reduced.as_slice() {
                [Reduction { combine: Combine::Sum, source: Source::Output(k), .. }] => {
                    compiled.adds_up(*k, *k >= stage.passing)
                }
                _ => false,
            };
            let bound = BoundStage {
                once,
                registers,
                sums,
                kept_before,
                scalars: made,
                stored: stage.stored.clone(),
                reduced,
                passing: stage.passing,
                kept: own.clone(),
                compiled,
            };
            registers += bound.compiled.scratch.next_multiple_of(64);
            kept_before += own.len();
            for Kept { width, .. } in own.into_iter().filter(|row| row.output.is_none()) {
                let bytes = length.checked_mul(width).and_then(|b| b.checked_next_multiple_of(64));
                kept = bytes
                    .and_then(|b| b.checked_mul(lanes)?.checked_add(kept))
                    .ok_or_else(|| OpError::internal("a row beyond all memory"))?;
            }
            scalars += made;
            stages.push(bound);
        }
        let tile = stages.iter().map(|s| s.compiled.tile).min().unwrap_or(1);
        let parts = length.div_ceil(tile).max(1);
        let tile = length.div_ceil(parts).next_multiple_of(32).min(tile);
        let count = rows.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        Ok(Self {
            rows: count.ok_or_else(|| OpError::internal("rows beyond all memory"))?,
            axes: rows.iter().copied().filter(|&d| d != 1).collect(),
            length,
            tile,
            inputs: layouts
                .iter()
                .map(|l| l.clone().moving(rows))
                .zip(program.inputs.iter().map(|d| d.bits() / 8))
                .collect(),
            of_rows: layouts.iter().map(|l| l.column == 0 || stages.iter().any(|s| s.once)).collect(),
            outputs: program
                .outputs
                .iter()
                .map(|o| (if o.single { 1 } else { length }, o.dtype.bits() / 8))
                .collect(),
            registers,
            tiles: most * (lanes * tile * CELL),
            kept,
            scalars: (scalars * lanes * CELL).next_multiple_of(64),
            given: layouts.len() * lanes * CELL,
            lanes,
            work,
            threads,
            stages,
        })
    }

    /// Bytes of scratch memory that a thread needs.
    fn lane(&self) -> usize {
        [self.tiles, self.kept, self.scalars, self.given]
            .into_iter()
            .fold(self.registers, usize::saturating_add)
    }

    /// Bytes of scratch memory that [`RowKernel::run`] needs.
    pub(crate) fn scratch(&self) -> usize {
        Lanes::bytes(self.lane(), self.threads)
    }

    /// Computes the outputs from the bytes of the inputs.
    pub(crate) fn run(
        &self,
        inputs: &[&[u8]],
        outputs: SmallVec<[&mut [u8]; 4]>,
        scratch: &mut [u8],
        context: RunContext<'_>,
    ) -> Result<(), OpError> {
        let holds = |(bytes, (layout, width)): (&&[u8], &(RowLayout, usize))| {
            let length = if layout.column == 0 { 1 } else { self.length };
            let needed = layout.needed(&self.axes, length).unwrap_or(0);
            bytes.len() / width >= needed && is_aligned(bytes, *width)
        };
        let stored = |(bytes, (per_row, width)): (&&mut [u8], &(usize, usize))| {
            bytes.len() == self.rows * per_row * width && is_aligned(bytes, *width)
        };
        if inputs.len() != self.inputs.len()
            || outputs.len() != self.outputs.len()
            || !inputs.iter().zip(&self.inputs).all(holds)
            || !outputs.iter().zip(&self.outputs).all(stored)
            || scratch.len() < self.lane()
            || !is_aligned(scratch, 64)
        {
            return Err(OpError::internal("memory of a row program has another size or is not aligned"));
        }
        if self.rows == 0 {
            return Ok(());
        }
        let [least, most] = PIECE.map(|elements| (elements / self.length.max(1)).max(1));
        let many = self.rows.div_ceil(PIECES).clamp(least, most);
        let pieces = outputs
            .into_iter()
            .zip(&self.outputs)
            .map(|(out, (per_row, width))| Chunks::new(out, many * per_row * width));
        let pieces = Each(pieces.collect());
        let lanes = Lanes::new(scratch, self.lane());
        for_each_tile(
            context,
            self.rows.saturating_mul(self.length).saturating_mul(self.work),
            lanes,
            &pieces,
            &|piece, mut outputs, scratch| {
                for stage in &self.stages {
                    stage.compiled.prepare(&mut scratch[stage.registers..]);
                }
                let (mut at, rows) = (0, many.min(self.rows - piece * many));
                let mut looks = Looks::new(context.interrupt);
                let last = self.axes.last().copied().unwrap_or(1).max(1);
                // Groups of a piece are about as large as each other.
                let lanes = rows.div_ceil(rows.div_ceil(self.lanes));
                while at < rows {
                    let first = piece * many + at;
                    let count = lanes.min(rows - at).min(last - first % last);
                    self.rows((first, at, count), inputs, &mut outputs, scratch, &mut looks);
                    at += count;
                }
                looks.end()
            },
        )
    }

    /// Runs all stages on `count` rows from row `first` on, the `at`-th of the outputs' pieces. All of them lie along the
    /// last axis of rows.
    fn rows(
        &self,
        (first, at, count): (usize, usize, usize),
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        scratch: &mut [u8],
        looks: &mut Looks<'_>,
    ) {
        let (registers, rest) = scratch.split_at_mut(self.registers);
        let (tiles, rest) = rest.split_at_mut(self.tiles);
        let (kept, rest) = rest.split_at_mut(self.kept);
        let (scalars, given) = rest.split_at_mut(self.scalars);
        let line = self.lanes * CELL;
        for (((k, (layout, width)), bytes), line) in
            self.inputs.iter().enumerate().zip(inputs).zip(given.chunks_exact_mut(line))
        {
            if self.of_rows[k] {
                let start = layout.start(&self.axes, first) * width;
                collect(line, (bytes.get(start..).unwrap_or(&[]), layout.step() * width), *width, count);
            }
        }
        let given: &[u8] = given;
        let (windows, steps) = (SmallVec::new(), SmallVec::new());
        let inputs_of = &self.inputs;
        let mut group = Group {
            count,
            at,
            length: self.length,
            tile: self.tile,
            line,
            inputs: inputs_of,
            windows,
            steps,
            outputs,
            looks,
        };
        for (((layout, width), bytes), line) in self.inputs.iter().zip(inputs).zip(given.chunks_exact(line)) {
            if layout.column == 0 {
                group.windows.push(line);
                group.steps.push(0);
            } else {
                let start = layout.start(&self.axes, first) * width;
                group.windows.push(bytes.get(start..).unwrap_or(&[]));
                group.steps.push(layout.step() * width);
            }
        }
        let (mut kept, mut scalars) = (kept, scalars);
        for stage in &self.stages {
            let registers = &mut registers[stage.registers..];
            let kept_apart = stage.kept.iter().filter(|row| row.output.is_none());
            let rows: usize = kept_apart.map(|row| self.lanes * kept_row(self.length, row.width)).sum();
            let (own, rest) = std::mem::take(&mut kept).split_at_mut(rows);
            kept = rest;
            let (made, rest) = std::mem::take(&mut scalars).split_at_mut(stage.scalars * line);
            scalars = rest;
            if stage.once {
                stage.once(&mut group, (given, self.inputs.len()), &self.outputs, made, registers);
            } else {
                stage.run(&mut group, &self.outputs, (&mut *tiles, &mut *own), made, registers);
            }
            group.push(stage, self.inputs.len(), own, made);
        }
    }

    /// The kernel of a node whose outputs are the program's, and whose inputs `read` are.
    pub(crate) fn into_kernel(self, read: SmallVec<[usize; 8]>) -> Kernel {
        let scratch = self.scratch();
        Kernel::new(move |io| {
            let mut inputs: SmallVec<[&[u8]; 8]> = SmallVec::new();
            for &index in &read {
                inputs.push(io.tensor(index)?.bytes());
            }
            let context = io.context;
            let (outputs, scratch) = io.all_bytes_and_scratch(self.outputs.len())?;
            self.run(&inputs, outputs, scratch, context)
        })
        .with_scratch(scratch)
    }
}

fn is_aligned(bytes: &[u8], width: usize) -> bool {
    bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(width)
}
