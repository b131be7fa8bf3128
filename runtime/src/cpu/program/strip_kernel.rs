//! A row program where neighbours in memory belong to different rows: folds along axes that are not the last.
//!
//! A strip is some neighbours of the innermost axis. All stages run on one strip after the other: a stage goes along
//! the rows of all its elements at once, a tile for each step of the row, and what it folds is one number for each
//! element of the strip, held in f64. Scratch memory of a thread, in bytes:
//! `[registers of each stage | totals | tiles to be folded | kept rows | folded]`.

use super::compiled::{Compiled, Reach, Rows, Tile};
use super::functions::{Add, Max, Min, Mul, Pair};
use super::reductions::identity;
use crate::cpu::gemm::{Block, Blocks};
use crate::cpu::simd::{Isa, Level, Routine, TileLoop};
use crate::cpu::tiles::{Each, Lanes, Pieces, for_each_tile};
use crate::cpu::{Kernel, RunContext};
use crate::error::OpError;
use crate::exec::Looks;
use crate::loops::rows::{Combine, Extent, RowProgram, Source};
use bytemuck::{Pod, cast_slice, cast_slice_mut};
use smallvec::SmallVec;
use std::marker::PhantomData;

/// Axes of a space of strips, outermost first, as extents.
#[derive(Clone, Debug)]
pub(crate) struct StripSpace {
    /// Of the strips.
    pub(crate) outer: SmallVec<[usize; 4]>,
    /// Of the rows.
    pub(crate) row: SmallVec<[usize; 4]>,
    /// Elements of the innermost axis, along which strips lie.
    pub(crate) strip: usize,
}

/// How an input or output lies under a space of strips: elements by which a step along each axis moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StripLayout {
    /// First element.
    pub(crate) offset: usize,
    pub(crate) outer: SmallVec<[usize; 4]>,
    pub(crate) row: SmallVec<[usize; 4]>,
    /// 0 or 1.
    pub(crate) along: usize,
}

impl StripLayout {
    /// Elements that there must be.
    fn needed(&self, space: &StripSpace) -> Option<usize> {
        let axes = space.outer.iter().zip(&self.outer).chain(space.row.iter().zip(&self.row));
        axes.chain([(&space.strip, &self.along)])
            .try_fold(self.offset.checked_add(1)?, |at, (extent, stride)| {
                at.checked_add(extent.checked_sub(1)?.checked_mul(*stride)?)
            })
    }
}

/// The element that `index`, counted over axes of these extents, is at. Of no elements, that of an empty row's fold, it is
/// some place that is not read.
fn located(extents: &[usize], strides: &[usize], mut index: usize) -> usize {
    let mut at = 0;
    for (extent, stride) in extents.iter().zip(strides).rev() {
        at += index % extent.max(&1) * stride;
        index /= extent.max(&1);
    }
    at
}

/// A row program bound to strips.
#[derive(Debug)]
pub(crate) struct StripKernel {
    space: StripSpace,
    length: usize,
    tile: usize,
    stages: Vec<BoundStage>,
    /// Layout and bytes per element of each input.
    inputs: Vec<(StripLayout, usize)>,
    /// Layout, whether there is one element for a row, and bytes per element of each output.
    outputs: Vec<(StripLayout, bool, usize)>,
    /// Bytes of the parts of a thread's scratch memory.
    registers: usize,
    totals: usize,
    tiles: usize,
    kept: usize,
    folded: usize,
    work: usize,
    threads: usize,
}

#[derive(Debug)]
struct BoundStage {
    compiled: Compiled,
    once: bool,
    /// Start of its registers.
    registers: usize,
    /// What is folded: how, from where, and the loop that does it.
    reduced: Vec<(Combine, Source, Routine, usize)>,
    passing: usize,
    /// Rows kept before it, and those that it keeps itself.
    kept_before: usize,
    kept: usize,
    /// Folded values before it, and those that it makes itself.
    folded_before: usize,
    folded: usize,
    stored: Vec<usize>,
}

/// Bytes of a number's place.
const CELL: usize = 8;
/// Bytes of kept rows, and of what a thread works on, that stay in its second cache.
const CACHED: usize = 1 << 18;
/// Elements of a strip, at least.
const NARROW: usize = 32;

impl StripKernel {
    /// `program` on all strips of `space`.
    pub(crate) fn new(
        program: &RowProgram,
        space: StripSpace,
        layouts: &[StripLayout],
        stored: &[StripLayout],
        threads: usize,
    ) -> Result<Self, OpError> {
        let level = Level::detect();
        let beyond = || OpError::internal("strips beyond all memory");
        if layouts.len() != program.inputs.len() || stored.len() != program.outputs.len() {
            return Err(OpError::internal("a row program has inputs or outputs of other layouts"));
        }
        let length = space.row.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(beyond)?;
        let count = space.outer.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(beyond)?;
        count.checked_mul(length).and_then(|n| n.checked_mul(space.strip)).ok_or_else(beyond)?;
        let reach = |l: &StripLayout| if l.along == 0 { Reach::One } else { Reach::Run };
        let mut stages: Vec<BoundStage> = Vec::new();
        let (mut registers, mut kept, mut folded, mut most, mut passing, mut work) = (0, 0, 0, 0, 0, 0);
        for stage in &program.stages {
            let mut reaches: Vec<Reach> = layouts.iter().map(reach).collect();
            reaches.extend(std::iter::repeat_n(Reach::Run, kept + folded));
            let compiled = Compiled::new(level, &stage.program, &reaches)?;
            let once = stage.extent != Extent::Row;
            let mut reduced = Vec::new();
            for &(combine, source) in &stage.reduced {
                let width = match source {
                    Source::Output(k) => compiled.widths[k],
                    Source::Input(k) if layouts[k].along == 1 || space.strip <= 1 => {
                        program.inputs[k].bits() / 8
                    }
                    Source::Input(_) => return Err(OpError::internal("what is folded is one element")),
                };
                reduced.push((combine, source, folding(level, combine, width), width));
            }
            let made = match stage.extent {
                Extent::Row => reduced.len(),
                Extent::Once { scalars } => scalars,
            };
            most = most.max(reduced.len());
            passing = passing.max(stage.passing);
            if !once {
                work += stage.program.instructions().len() + reduced.len();
            }
            let (kept_before, folded_before) = (kept, folded);
            let bound = BoundStage {
                once,
                registers,
                reduced,
                passing: stage.passing,
                kept_before,
                kept: stage.kept,
                folded_before,
                folded: made,
                stored: stage.stored.clone(),
                compiled,
            };
            registers += bound.compiled.scratch.next_multiple_of(64);
            kept += stage.kept;
            folded += made;
            stages.push(bound);
        }
        let tile = stages.iter().map(|s| s.compiled.tile).min().unwrap_or(1);
        let cached = CACHED / CELL / length.max(1).saturating_mul(kept).max(1);
        let tile = tile.min(cached.max(NARROW)).next_multiple_of(16);
        // Strips of about one length.
        let parts = space.strip.div_ceil(tile).max(1);
        let tile = space.strip.div_ceil(parts).next_multiple_of(16).min(tile);
        let bytes = |count: usize| count.checked_mul(tile * CELL).ok_or_else(beyond);
        Ok(Self {
            length,
            tile,
            inputs: layouts.iter().cloned().zip(program.inputs.iter().map(|d| d.bits() / 8)).collect(),
            outputs: stored
                .iter()
                .zip(&program.outputs)
                .map(|(layout, o)| (layout.clone(), o.single, o.dtype.bits() / 8))
                .collect(),
            registers,
            totals: bytes(most)?,
            tiles: bytes(passing)?,
            kept: bytes(length.checked_mul(kept).ok_or_else(beyond)?)?,
            folded: bytes(folded)?,
            work,
            threads,
            stages,
            space,
        })
    }

    /// Bytes of scratch memory that a thread needs.
    fn lane(&self) -> usize {
        let parts = [self.totals, self.tiles, self.kept, self.folded];
        parts.into_iter().fold(self.registers, usize::saturating_add)
    }

    /// Bytes of scratch memory that [`StripKernel::run`] needs.
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
        let Self { space, length, tile, .. } = self;
        let strips: usize = space.outer.iter().product();
        if strips == 0 || space.strip == 0 {
            return Ok(());
        }
        let holds = |(bytes, (layout, width)): (&&[u8], &(StripLayout, usize))| {
            let needed = if *length == 0 { 0 } else { layout.needed(space).unwrap_or(usize::MAX) };
            bytes.len() / width >= needed && is_aligned(bytes, *width)
        };
        if inputs.len() != self.inputs.len()
            || outputs.len() != self.outputs.len()
            || !inputs.iter().zip(&self.inputs).all(holds)
            || !outputs.iter().zip(&self.outputs).all(|(bytes, (_, _, width))| is_aligned(bytes, *width))
            || scratch.len() < self.lane()
            || !is_aligned(scratch, 64)
        {
            return Err(OpError::internal("memory of strips has another size or is not aligned"));
        }
        let mut pieces: SmallVec<[Blocks<'_, u8>; 4]> = SmallVec::new();
        for (bytes, (layout, single, width)) in outputs.into_iter().zip(&self.outputs) {
            let axes = space.outer.iter().zip(&layout.outer).map(|(n, step)| (*n, step * width)).collect();
            let rows = if *single { 1 } else { *length };
            let step = layout.row.last().copied().unwrap_or(0) * width;
            let form = (rows, space.strip * width, step);
            pieces.push(Blocks::strided(bytes, axes, form, (rows.max(1), tile * width))?);
        }
        let count = pieces.first().map_or(0, Pieces::count);
        if pieces.iter().any(|blocks| blocks.count() != count) {
            return Err(OpError::internal("outputs of strips that are cut in different ways"));
        }
        let across = space.strip.div_ceil(*tile);
        let work = strips.saturating_mul(space.strip).saturating_mul(*length).saturating_mul(self.work);
        let lanes = Lanes::new(scratch, self.lane());
        for_each_tile(context, work, lanes, &Each(pieces), &|index, mut blocks, scratch| {
            for stage in &self.stages {
                stage.compiled.prepare(&mut scratch[stage.registers..]);
            }
            let (strip, first) = (index / across, index % across * tile);
            let starts: SmallVec<[usize; 8]> = self
                .inputs
                .iter()
                .map(|(l, _)| l.offset + located(&space.outer, &l.outer, strip) + first * l.along)
                .collect();
            let len = (*tile).min(space.strip - first);
            self.strip(len, (inputs, &starts), &mut blocks, scratch, &mut Looks::new(context.interrupt))
        })
    }

    /// Runs all stages on one strip of `len` elements.
    fn strip(
        &self,
        len: usize,
        (inputs, starts): (&[&[u8]], &[usize]),
        blocks: &mut [Block<'_, u8>],
        scratch: &mut [u8],
        looks: &mut Looks<'_>,
    ) -> Result<(), OpError> {
        let cells = self.tile * CELL;
        let (registers, rest) = scratch.split_at_mut(self.registers);
        let (totals, rest) = rest.split_at_mut(self.totals);
        let (tiles, rest) = rest.split_at_mut(self.tiles);
        let (kept, folded) = rest.split_at_mut(self.kept);
        for stage in &self.stages {
            let registers = &mut registers[stage.registers..];
            let (before, own) = kept.split_at_mut(stage.kept_before * self.length * cells);
            let (known, made) = folded.split_at_mut(stage.folded_before * cells);
            for ((combine, ..), total) in stage.reduced.iter().zip(totals.chunks_exact_mut(cells)) {
                cast_slice_mut::<u8, f64>(total).fill(identity(*combine));
            }
            for step in 0..if stage.once { 1 } else { self.length } {
                looks.past(len)?;
                let mut windows: SmallVec<[&[u8]; 8]> = SmallVec::new();
                for ((bytes, (layout, width)), start) in inputs.iter().zip(&self.inputs).zip(starts) {
                    let at = start + located(&self.space.row, &layout.row, step);
                    windows.push(bytes.get(at * width..).unwrap_or(&[]));
                }
                for row in 0..stage.kept_before {
                    windows.push(before.get((row * self.length + step) * cells..).unwrap_or(&[]));
                }
                windows.extend(known.chunks_exact(cells));
                let mut targets: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
                let mut widths = stage.compiled.widths.iter();
                for (tile, width) in tiles.chunks_exact_mut(cells).take(stage.passing).zip(&mut widths) {
                    targets.push(&mut tile[..len * width]);
                }
                let lines = own.chunks_exact_mut(cells).skip(step).step_by(self.length.max(1));
                for (line, width) in lines.take(stage.kept).zip(&mut widths) {
                    targets.push(&mut line[..len * width]);
                }
                if stage.once {
                    for (cell, width) in made.chunks_exact_mut(cells).take(stage.folded).zip(&mut widths) {
                        targets.push(&mut cell[..len * width]);
                    }
                }
                for (k, block) in blocks.iter_mut().enumerate() {
                    if stage.stored.contains(&k) {
                        targets.push(block.out.row(step));
                    }
                }
                let mut tile = Tile {
                    len,
                    rows: Rows::ONE,
                    inputs: &windows,
                    outputs: &mut targets,
                    at: 0,
                    scratch: registers,
                    gather: &|_, _, _| {},
                };
                stage.compiled.run(&mut tile);
                for ((_, source, routine, width), total) in
                    stage.reduced.iter().zip(totals.chunks_exact_mut(cells))
                {
                    let elements = match *source {
                        Source::Output(k) => &*targets[k],
                        Source::Input(k) => &windows[k][..len * width],
                    };
                    routine.call(&mut total[..len * CELL], [elements, &[], &[]]);
                }
            }
            for ((.., width), (total, cell)) in
                stage.reduced.iter().zip(totals.chunks_exact(cells).zip(made.chunks_exact_mut(cells)))
            {
                let total: &[f64] = cast_slice(&total[..len * CELL]);
                match width {
                    4 => {
                        let cell: &mut [f32] = cast_slice_mut(&mut cell[..len * 4]);
                        cell.iter_mut().zip(total).for_each(|(y, &x)| *y = x as f32);
                    }
                    _ => cast_slice_mut::<u8, f64>(&mut cell[..len * CELL]).copy_from_slice(total),
                }
            }
        }
        Ok(())
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

/// Folds elements of type `T` into totals in f64, each into its own.
struct Folding<T, F>(PhantomData<(T, F)>);

impl<T: Pod + Into<f64>, F: Pair<A = f64, Y = f64>> TileLoop for Folding<T, F> {
    #[inline(always)]
    fn run<I: Isa>(isa: I, to: &mut [u8], [from, ..]: [&[u8]; 3]) {
        let (to, from): (&mut [f64], &[T]) = (cast_slice_mut(to), cast_slice(from));
        for (total, &x) in to.iter_mut().zip(from) {
            *total = F::at(isa, *total, x.into());
        }
    }
}

/// The loop that folds a tile of floats of `bytes` bytes into totals.
fn folding(level: Level, combine: Combine, bytes: usize) -> Routine {
    match (combine, bytes) {
        (Combine::Sum, 4) => level.routine::<Folding<f32, Add<f64>>>(),
        (Combine::Max | Combine::Largest, 4) => level.routine::<Folding<f32, Max<f64>>>(),
        (Combine::Min, 4) => level.routine::<Folding<f32, Min<f64>>>(),
        (Combine::Prod, 4) => level.routine::<Folding<f32, Mul<f64>>>(),
        (Combine::Sum, _) => level.routine::<Folding<f64, Add<f64>>>(),
        (Combine::Max | Combine::Largest, _) => level.routine::<Folding<f64, Max<f64>>>(),
        (Combine::Min, _) => level.routine::<Folding<f64, Min<f64>>>(),
        (Combine::Prod, _) => level.routine::<Folding<f64, Mul<f64>>>(),
    }
}

fn is_aligned(bytes: &[u8], width: usize) -> bool {
    bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(width)
}
