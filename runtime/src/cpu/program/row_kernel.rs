//! A row program over the rows of a tensor.
//!
//! A thread takes a number of rows that depends on their length alone and runs all stages on one row after the other,
//! in tiles; a row of usual length stays in L1 between stages. Scratch memory of a thread, in bytes:
//! `[registers of each stage | tiles to be reduced | kept rows | scalars]`.

use super::compile::{Compiled, Reach, Tile};
use super::reductions::{combined, identity, reduction};
use crate::cpu::simd::{Level, Routine};
use crate::cpu::tiles::{Chunks, Each, Lanes, for_each_tile};
use crate::cpu::{Kernel, RunContext};
use crate::error::OpError;
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
        let mut stages: Vec<BoundStage> = Vec::new();
        let (mut registers, mut kept, mut scalars, mut most, mut work) = (0, 0, 0, 0, 0);
        let mut kept_widths: Vec<usize> = Vec::new();
        for stage in &program.stages {
            let once = stage.extent != Extent::Row;
            let of_input = |l: &RowLayout| if l.column == 0 || once { Reach::One } else { Reach::Run };
            let mut reaches: Vec<Reach> = layouts.iter().map(of_input).collect();
            reaches.extend(kept_widths.iter().map(|_| if once { Reach::One } else { Reach::Run }));
            reaches.extend(std::iter::repeat_n(Reach::One, scalars));
            let compiled = Compiled::new(level, &stage.program, &reaches)?;
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
            let bound = BoundStage {
                once,
                registers,
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
                    .and_then(|b| b.checked_add(kept))
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
            scalars: (scalars * CELL).next_multiple_of(64),
            work,
            threads,
        })
    }

    /// Bytes of scratch memory that a thread needs.
    fn lane(&self) -> usize {
        [self.tiles, self.kept, self.scalars].into_iter().fold(self.registers, usize::saturating_add)
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
                for row in 0..many.min(self.rows - piece * many) {
                    self.row(piece * many + row, row, inputs, &mut outputs, scratch);
                }
                Ok(())
            },
        )
    }

    /// Runs all stages on row `row`, the `at`-th of the outputs' pieces.
    fn row(&self, row: usize, at: usize, inputs: &[&[u8]], outputs: &mut [&mut [u8]], scratch: &mut [u8]) {
        let (registers, rest) = scratch.split_at_mut(self.registers);
        let (tiles, rest) = rest.split_at_mut(self.tiles);
        let (kept, scalars) = rest.split_at_mut(self.kept);
        let starts: SmallVec<[usize; 8]> =
            self.inputs.iter().map(|(layout, _)| layout.start(&self.axes, row)).collect();
        for stage in &self.stages {
            let registers = &mut registers[stage.registers..];
            let (before, own) = kept.split_at_mut(stage.kept_at);
            let (known, made) = scalars.split_at_mut(stage.scalars_before * CELL);
            let mut totals: SmallVec<[f64; 4]> = stage.reduced.iter().map(|r| identity(r.combine)).collect();
            let length = if stage.once { 1 } else { self.length };
            for from in (0..length).step_by(self.tile) {
                let len = self.tile.min(length - from);
                let mut windows: SmallVec<[&[u8]; 8]> = SmallVec::new();
                for ((bytes, (layout, width)), start) in inputs.iter().zip(&self.inputs).zip(&starts) {
                    windows.push(bytes.get((start + from * layout.column) * width..).unwrap_or(&[]));
                }
                let mut start = 0;
                for width in &stage.kept_before {
                    windows.push(&before[start + from * width..]);
                    start += (self.length * width).next_multiple_of(64);
                }
                windows.extend(known.chunks_exact(CELL));
                let mut targets: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
                let mut free = &mut *tiles;
                for k in 0..stage.passing {
                    let (tile, rest) = free.split_at_mut(self.tile * CELL);
                    targets.push(&mut tile[..len * stage.compiled.widths[k]]);
                    free = rest;
                }
                let mut free = &mut *own;
                for width in &stage.kept {
                    let (line, rest) = free.split_at_mut((self.length * width).next_multiple_of(64));
                    targets.push(&mut line[from * width..(from + len) * width]);
                    free = rest;
                }
                if stage.once {
                    let cells = made.chunks_exact_mut(CELL).take(stage.scalars).zip(&stage.compiled.widths);
                    targets.extend(cells.map(|(cell, width)| &mut cell[..*width]));
                }
                for (k, output) in outputs.iter_mut().enumerate() {
                    if stage.stored.contains(&k) {
                        let (per_row, width) = self.outputs[k];
                        targets.push(&mut output[(at * per_row + from) * width..][..len * width]);
                    }
                }
                let mut tile = Tile {
                    len,
                    inputs: &windows,
                    outputs: &mut targets,
                    at: 0,
                    scratch: registers,
                    gather: &|_, _| {},
                };
                stage.compiled.run(&mut tile);
                for (total, reduction) in totals.iter_mut().zip(&stage.reduced) {
                    let elements = match reduction.source {
                        Source::Output(k) => &*targets[k],
                        Source::Input(k) => &windows[k][..len * reduction.width],
                    };
                    *total = combined(reduction.combine, *total, reduce(reduction, elements));
                }
            }
            for ((cell, total), reduction) in made.chunks_exact_mut(CELL).zip(&totals).zip(&stage.reduced) {
                match reduction.width {
                    4 => cell[..4].copy_from_slice(&(*total as f32).to_ne_bytes()),
                    _ => cell.copy_from_slice(&total.to_ne_bytes()),
                }
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
