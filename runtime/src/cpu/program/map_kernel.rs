//! A program over an output space.

use super::compile::{Compiled, Reach, Tile};
use super::space::{Layout, Space};
use crate::cpu::simd::Level;
use crate::cpu::tiles::{Chunks, Each, Lanes, for_each_tile};
use crate::cpu::{Kernel, RunContext};
use crate::error::OpError;
use crate::loops::program::Program;
use smallvec::SmallVec;

/// A program bound to shapes.
#[derive(Debug)]
pub(crate) struct MapKernel {
    space: Space,
    compiled: Compiled,
    /// Bytes per element of the inputs.
    widths: SmallVec<[usize; 8]>,
    /// Elements of a tile.
    tile: usize,
    /// Operations on one element.
    work: usize,
    threads: usize,
}

/// Positions of the output that one thread computes at a time.
const PIECE: usize = 1 << 14;

impl MapKernel {
    /// `program` on inputs that lie as `layouts` say under outputs that are contiguous and have one shape.
    pub(crate) fn new(
        program: &Program,
        output: &[usize],
        layouts: &[Layout],
        threads: usize,
    ) -> Result<Self, OpError> {
        Self::on(Level::detect(), program, output, layouts, threads)
    }

    /// The same on a certain instruction set.
    pub(super) fn on(
        level: Level,
        program: &Program,
        output: &[usize],
        layouts: &[Layout],
        threads: usize,
    ) -> Result<Self, OpError> {
        if layouts.len() != program.inputs().len() {
            return Err(OpError::internal("a program has another number of inputs than there are layouts"));
        }
        let space = Space::new(output, layouts)?;
        let reaches: SmallVec<[Reach; 8]> = (0..layouts.len()).map(|k| space.reach(k)).collect();
        let compiled = Compiled::new(level, program, &reaches)?;
        let mut tile = compiled.tile;
        if space.by_row {
            // Rows in tiles of about one length.
            let parts = space.inner.div_ceil(tile).max(1);
            tile = space.inner.div_ceil(parts).next_multiple_of(16).min(tile);
        }
        let widths = program.inputs().iter().map(|d| d.bits() / 8).collect();
        Ok(Self { space, compiled, widths, tile, work: program.instructions().len(), threads })
    }

    /// Bytes of scratch memory that [`MapKernel::run`] needs.
    pub(crate) fn scratch(&self) -> usize {
        Lanes::bytes(self.compiled.scratch, self.threads)
    }

    /// Computes the outputs from the bytes of the inputs.
    pub(crate) fn run(
        &self,
        inputs: &[&[u8]],
        outputs: SmallVec<[&mut [u8]; 4]>,
        scratch: &mut [u8],
        context: RunContext<'_>,
    ) -> Result<(), OpError> {
        let fits = |(k, bytes): (usize, &&[u8])| {
            bytes.len() / self.widths[k] >= self.space.needed[k] && is_aligned(bytes, self.widths[k])
        };
        let stored = |(bytes, width): (&&mut [u8], &usize)| {
            bytes.len() == self.space.len * width && is_aligned(bytes, *width)
        };
        if inputs.len() != self.widths.len() || !inputs.iter().enumerate().all(fits) {
            return Err(OpError::internal("an input of a map is too short or not aligned"));
        }
        if outputs.len() != self.compiled.widths.len()
            || !outputs.iter().zip(&self.compiled.widths).all(stored)
        {
            return Err(OpError::internal("an output of a map has another size or is not aligned"));
        }
        if scratch.len() < self.compiled.scratch || !is_aligned(scratch, 64) {
            return Err(OpError::internal("the scratch memory of a map is too short or not aligned"));
        }
        if self.space.len == 0 {
            return Ok(());
        }
        let pieces = outputs
            .into_iter()
            .zip(&self.compiled.widths)
            .map(|(out, width)| Chunks::new(out, PIECE * width));
        let pieces = Each(pieces.collect());
        let lanes = Lanes::new(scratch, self.compiled.scratch);
        let work = self.space.len.saturating_mul(self.work);
        for_each_tile(context, work, lanes, &pieces, &|piece, mut outputs, scratch| {
            self.piece(piece * PIECE, inputs, &mut outputs, scratch);
            Ok(())
        })
    }

    /// Computes the positions from `start` on that `outputs` hold.
    fn piece(&self, start: usize, inputs: &[&[u8]], outputs: &mut [&mut [u8]], scratch: &mut [u8]) {
        self.compiled.prepare(scratch);
        let Some(len) = outputs.first().zip(self.compiled.widths.first()).map(|(o, w)| o.len() / w) else {
            return;
        };
        let mut elements: SmallVec<[usize; 8]> = SmallVec::from_elem(0, inputs.len());
        let mut windows: SmallVec<[&[u8]; 8]> = SmallVec::from_slice(inputs);
        let mut at = 0;
        while at < len {
            let position = start + at;
            let mut count = self.tile.min(len - at);
            if self.space.by_row {
                count = count.min(self.space.inner - position % self.space.inner);
            }
            self.space.locate(position, &mut elements);
            for ((window, bytes), (element, width)) in
                windows.iter_mut().zip(inputs).zip(elements.iter().zip(&self.widths))
            {
                *window = &bytes[element * width..];
            }
            self.compiled.run(&mut Tile {
                len: count,
                inputs: &windows,
                outputs,
                at,
                scratch,
                gather: &|k, to| self.space.gather(k, position, self.widths[k], inputs[k], to),
            });
            at += count;
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
            let (outputs, scratch) = io.all_bytes_and_scratch(self.compiled.widths.len())?;
            self.run(&inputs, outputs, scratch, context)
        })
        .with_scratch(scratch)
    }
}

fn is_aligned(bytes: &[u8], width: usize) -> bool {
    bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(width)
}
