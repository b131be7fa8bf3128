//! A row program over the rows of a tensor.
//!
//! A thread takes a number of rows that depends on their length alone, and of these as many at once as stay in L1. It
//! runs one stage after the other on them: first what is one element for a row, for all of them in one loop, then row
//! after row, in tiles. Scratch memory of a thread, in bytes, `lanes` rows at once:
//! `[registers of each stage | tiles to be reduced | kept rows | scalars | inputs of one element for a row]`; scalars and
//! such inputs lie in lines of `lanes` elements.

use super::compile::{Compiled, Reach, Tile};
use super::reductions::{combined, identity, reduction};
use crate::cpu::simd::{Level, Routine};
use crate::cpu::tiles::{Chunks, Each, Lanes, for_each_tile};
use crate::cpu::{Kernel, RunContext};
use crate::error::OpError;
use crate::loops::program::{Instruction, Opcode};
use crate::loops::rows::{Combine, Extent, RowProgram, Source};
use smallvec::SmallVec;

/// How an input lies under the rows: the element at the front of the first, and by how many elements a step along
/// each axis of rows, and along a row, moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RowLayout {
    /// First element.
    pub(crate) offset: usize,
    /// From row to row, along each of their axes.
    pub(crate) rows: SmallVec<[usize; 4]>,
    /// From element to element: 0 or 1.
    pub(crate) column: usize,
}

impl RowLayout {
    /// Rows along one axis, `row` elements from each other, or the same elements in all of them where it is 0.
    pub(crate) fn plain(row: usize) -> Self {
        Self { offset: 0, rows: SmallVec::from_slice(&[row]), column: 1 }
    }

    /// The layout under axes of extents `rows` without the axes of extent 1.
    fn moving(mut self, rows: &[usize]) -> Self {
        let kept = self.rows.iter().zip(rows).filter(|(_, extent)| **extent != 1).map(|(stride, _)| *stride);
        self.rows = kept.collect();
        self
    }

    /// The front of row `row`, whose axes have the extents `rows`.
    fn start(&self, rows: &[usize], mut row: usize) -> usize {
        let Some((first, rest)) = self.rows.split_first() else { return self.offset };
        let mut at = self.offset;
        for (extent, stride) in rows[1..].iter().zip(rest).rev() {
            at += row % extent * stride;
            row /= extent;
        }
        at + row * first
    }

    /// Elements that there must be for rows of `length`.
    fn needed(&self, rows: &[usize], length: usize) -> Option<usize> {
        let last = rows.iter().zip(&self.rows).try_fold(self.offset, |at, (extent, stride)| {
            at.checked_add(extent.checked_sub(1)?.checked_mul(*stride)?)
        })?;
        last.checked_add(length.checked_sub(1)?.checked_mul(self.column)?)?.checked_add(1)
    }
}

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

#[derive(Debug)]
struct BoundStage {
    compiled: Compiled,
    once: bool,
    /// Start of its registers.
    registers: usize,
    reduced: Vec<Reduction>,
    /// Outputs that are only reduced.
    passing: usize,
    /// Whether its only reduction is a sum that the loops take as they compute what is added.
    sums: bool,
    /// Start of the rows that it keeps, and bytes per element of each kept row so far, of its own and of all before.
    kept_at: usize,
    kept: Vec<usize>,
    kept_before: Vec<usize>,
    /// Scalars before it, and those that it makes itself.
    scalars_before: usize,
    scalars: usize,
    stored: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Reduction {
    combine: Combine,
    source: Source,
    /// Bytes of an element.
    width: usize,
    routine: Routine,
}

/// Elements that a thread takes at a time, at least and at most: whole rows, one or more.
const PIECE: [usize; 2] = [1 << 11, 1 << 13];
/// Pieces of few rows: a thread that begins late still finds its share.
const PIECES: usize = 24;
/// Bytes of a scalar's place.
const CELL: usize = 8;
/// Bytes of rows that are worked on at once, and their number at most.
const CACHED: usize = 32 << 10;
const LANES: usize = 16;

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
        let misfit = |l: &RowLayout| l.column > 1 || l.rows.len() != rows.len();
        if layouts.len() != program.inputs.len() || layouts.iter().any(misfit) {
            return Err(OpError::internal("a row program has inputs of other layouts"));
        }
        let lanes = lanes(program, length, layouts);
        let mut stages: Vec<BoundStage> = Vec::new();
        let (mut registers, mut kept, mut scalars, mut most, mut work) = (0, 0, 0, 0, 0);
        let mut kept_widths: Vec<usize> = Vec::new();
        for stage in &program.stages {
            let once = stage.extent != Extent::Row;
            // A stage that runs once per row runs over the rows as others do over their elements.
            let of_row = if once { Reach::Run } else { Reach::One };
            let of_input = |l: &RowLayout| if l.column == 0 { of_row } else { Reach::Run };
            let mut reaches: Vec<Reach> = layouts.iter().map(of_input).collect();
            reaches.extend(kept_widths.iter().map(|_| Reach::Run));
            reaches.extend(std::iter::repeat_n(of_row, scalars));
            let of_rows = layouts.len()..layouts.len() + kept_widths.len();
            let reads_row =
                |i: &Instruction| i.opcode == Opcode::Input && of_rows.contains(&(i.arguments[0] as usize));
            if once && stage.program.instructions().iter().any(reads_row) {
                return Err(OpError::internal("a stage that runs once per row reads elements of it"));
            }
            let compiled = Compiled::with_lanes(level, &stage.program, &reaches, lanes)?;
            let mut reduced: Vec<Reduction> = Vec::new();
            for &(combine, source) in &stage.reduced {
                let width = match source {
                    Source::Output(k) => compiled.widths[k],
                    // A row of one element is read alike, whether or not it moves.
                    Source::Input(k) if layouts[k].column == 1 || length <= 1 => program.inputs[k].bits() / 8,
                    Source::Input(_) => return Err(OpError::internal("a reduced input is one element")),
                };
                reduced.push(Reduction { combine, source, width, routine: reduction(level, combine, width) });
            }
            let own: Vec<usize> = compiled.widths[stage.passing..][..stage.kept].to_vec();
            let made = match stage.extent {
                Extent::Row => reduced.len(),
                Extent::Once { scalars } => scalars,
            };
            most = most.max(stage.passing);
            if !once {
                work += stage.program.instructions().len();
            }
            let sums = match reduced.as_slice() {
                [Reduction { combine: Combine::Sum, source: Source::Output(k), .. }] => compiled.adds_up(*k),
                _ => false,
            };
            let bound = BoundStage {
                once,
                registers,
                sums,
                kept_at: kept,
                kept_before: kept_widths.clone(),
                scalars_before: scalars,
                scalars: made,
                stored: stage.stored.clone(),
                reduced,
                passing: stage.passing,
                kept: own.clone(),
                compiled,
            };
            registers += bound.compiled.scratch.next_multiple_of(64);
            for width in own {
                let bytes = length.checked_mul(width).and_then(|b| b.checked_next_multiple_of(64));
                kept = bytes
                    .and_then(|b| b.checked_mul(lanes)?.checked_add(kept))
                    .ok_or_else(|| OpError::internal("a row beyond all memory"))?;
                kept_widths.push(width);
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
            stages,
            inputs: layouts
                .iter()
                .map(|l| l.clone().moving(rows))
                .zip(program.inputs.iter().map(|d| d.bits() / 8))
                .collect(),
            outputs: program
                .outputs
                .iter()
                .map(|o| (if o.single { 1 } else { length }, o.dtype.bits() / 8))
                .collect(),
            registers,
            tiles: most * (tile * CELL),
            kept,
            scalars: (scalars * lanes * CELL).next_multiple_of(64),
            given: layouts.len() * lanes * CELL,
            lanes,
            work,
            threads,
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
                let rows = many.min(self.rows - piece * many);
                for at in (0..rows).step_by(self.lanes) {
                    let count = self.lanes.min(rows - at);
                    self.rows(piece * many + at, at, count, inputs, &mut outputs, scratch);
                }
                Ok(())
            },
        )
    }

    /// Runs all stages on `count` rows from row `first` on, the `at`-th of the outputs' pieces.
    fn rows(
        &self,
        first: usize,
        at: usize,
        count: usize,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        scratch: &mut [u8],
    ) {
        let (registers, rest) = scratch.split_at_mut(self.registers);
        let (tiles, rest) = rest.split_at_mut(self.tiles);
        let (kept, rest) = rest.split_at_mut(self.kept);
        let (scalars, given) = rest.split_at_mut(self.scalars);
        let line = self.lanes * CELL;
        for ((line, (layout, width)), bytes) in given.chunks_exact_mut(line).zip(&self.inputs).zip(inputs) {
            for (row, cell) in line.chunks_exact_mut(*width).take(count).enumerate() {
                let start = layout.start(&self.axes, first + row) * width;
                // A row of no elements has no first one.
                if let Some(element) = bytes.get(start..start + width) {
                    cell.copy_from_slice(element);
                }
            }
        }
        for stage in &self.stages {
            let registers = &mut registers[stage.registers..];
            let (before, own) = kept.split_at_mut(stage.kept_at);
            let (known, made) = scalars.split_at_mut(stage.scalars_before * line);
            // All inputs as those see them that have an element for each row.
            let mut windows: SmallVec<[&[u8]; 8]> = given.chunks_exact(line).take(inputs.len()).collect();
            windows.extend(stage.kept_before.iter().map(|_| &[][..]));
            windows.extend(known.chunks_exact(line));
            if stage.once {
                self.once(stage, at, count, (&windows, made), outputs, registers);
                continue;
            }
            stage.compiled.run_uniform(count, &windows, registers);
            for lane in 0..count {
                self.row(
                    stage,
                    (first + lane, at + lane, lane),
                    inputs,
                    &mut windows,
                    RowMemory { outputs, before, own, tiles, made, registers },
                );
            }
        }
    }

    /// Runs a stage that runs once per row on `count` rows.
    fn once(
        &self,
        stage: &BoundStage,
        at: usize,
        count: usize,
        (inputs, made): (&[&[u8]], &mut [u8]),
        outputs: &mut [&mut [u8]],
        registers: &mut [u8],
    ) {
        let lines = made.chunks_exact_mut(self.lanes * CELL).take(stage.scalars).zip(&stage.compiled.widths);
        let mut targets: SmallVec<[&mut [u8]; 4]> =
            lines.map(|(line, width)| &mut line[..count * width]).collect();
        for (k, output) in outputs.iter_mut().enumerate().filter(|(k, _)| stage.stored.contains(k)) {
            let (_, width) = self.outputs[k];
            targets.push(&mut output[at * width..][..count * width]);
        }
        let outputs = &mut targets;
        let mut tile =
            Tile { len: count, lane: 0, inputs, outputs, at: 0, scratch: registers, gather: &|_, _| {} };
        stage.compiled.run(&mut tile);
    }

    /// Runs a stage on row `row`, the `at`-th of the outputs' pieces and the `lane`-th of those that are worked on.
    /// `windows` begin with the inputs and the rows kept before; those that lie along the row are set here.
    fn row<'m>(
        &self,
        stage: &BoundStage,
        (row, at, lane): (usize, usize, usize),
        inputs: &[&'m [u8]],
        windows: &mut SmallVec<[&'m [u8]; 8]>,
        memory: RowMemory<'_, '_, 'm>,
    ) {
        let RowMemory { outputs, before, own, tiles, made, registers } = memory;
        let line = |width: usize| (self.length * width).next_multiple_of(64);
        let mut totals: SmallVec<[f64; 4]> = stage.reduced.iter().map(|r| identity(r.combine)).collect();
        for from in (0..self.length).step_by(self.tile) {
            let len = self.tile.min(self.length - from);
            for ((window, bytes), (layout, width)) in windows.iter_mut().zip(inputs).zip(&self.inputs) {
                if layout.column == 1 {
                    *window = &bytes[(layout.start(&self.axes, row) + from) * width..];
                }
            }
            let mut start = 0;
            for (window, width) in windows[inputs.len()..].iter_mut().zip(&stage.kept_before) {
                *window = &before[start + lane * line(*width) + from * width..];
                start += self.lanes * line(*width);
            }
            let mut targets: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
            let mut free = &mut *tiles;
            for width in &stage.compiled.widths[..stage.passing] {
                let (tile, rest) = free.split_at_mut(self.tile * CELL);
                targets.push(&mut tile[..len * width]);
                free = rest;
            }
            let mut free = &mut *own;
            for width in &stage.kept {
                let (lines, rest) = free.split_at_mut(self.lanes * line(*width));
                targets.push(&mut lines[lane * line(*width) + from * width..][..len * width]);
                free = rest;
            }
            for (k, output) in outputs.iter_mut().enumerate() {
                if stage.stored.contains(&k) {
                    let (per_row, width) = self.outputs[k];
                    targets.push(&mut output[(at * per_row + from) * width..][..len * width]);
                }
            }
            let mut tile = Tile {
                len,
                lane,
                inputs: windows,
                outputs: &mut targets,
                at: 0,
                scratch: registers,
                gather: &|_, _| {},
            };
            let sum = stage.compiled.run_steps(&mut tile, stage.sums);
            if stage.sums {
                totals[0] += f64::from(sum);
                continue;
            }
            for (total, reduction) in totals.iter_mut().zip(&stage.reduced) {
                let elements = match reduction.source {
                    Source::Output(k) => &*targets[k],
                    Source::Input(k) if self.inputs[k].0.column == 1 => &windows[k][..len * reduction.width],
                    Source::Input(k) => &windows[k][lane * reduction.width..][..reduction.width],
                };
                *total = combined(reduction.combine, *total, reduce(reduction, elements));
            }
        }
        let cells = made.chunks_exact_mut(self.lanes * CELL).zip(&totals).zip(&stage.reduced);
        for ((cells, total), reduction) in cells {
            let cell = &mut cells[lane * reduction.width..][..reduction.width];
            match reduction.width {
                4 => cell.copy_from_slice(&(*total as f32).to_ne_bytes()),
                _ => cell.copy_from_slice(&total.to_ne_bytes()),
            }
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

/// What a stage works on beside its inputs.
struct RowMemory<'r, 'o, 'm> {
    outputs: &'r mut [&'o mut [u8]],
    before: &'m [u8],
    own: &'r mut [u8],
    tiles: &'r mut [u8],
    made: &'r mut [u8],
    registers: &'r mut [u8],
}

/// How many rows are worked on at once: as many as stay in the first cache, with what is kept of them.
fn lanes(program: &RowProgram, length: usize, layouts: &[RowLayout]) -> usize {
    let along =
        layouts.iter().zip(&program.inputs).filter(|(l, _)| l.column == 1 && l.rows.iter().any(|&d| d != 0));
    let read: usize = along.map(|(_, dtype)| dtype.bits() / 8).sum();
    let written: usize = program.outputs.iter().filter(|o| !o.single).map(|o| o.dtype.bits() / 8).sum();
    let kept: usize = program.stages.iter().map(|stage| stage.kept * CELL / 2).sum();
    let row = length.saturating_mul(read + written + kept).max(1);
    (CACHED / row).clamp(1, LANES)
}

/// A tile as one number.
fn reduce(reduction: &Reduction, tile: &[u8]) -> f64 {
    let (empty, routine) = (identity(reduction.combine), reduction.routine);
    if reduction.width == 4 {
        let mut value = [empty as f32];
        routine.call(bytemuck::cast_slice_mut(&mut value), [tile, &[], &[]]);
        return value[0].into();
    }
    let mut value = [empty];
    routine.call(bytemuck::cast_slice_mut(&mut value), [tile, &[], &[]]);
    value[0]
}

fn is_aligned(bytes: &[u8], width: usize) -> bool {
    bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(width)
}
