//! A program over an output space.

use super::chained::Chained;
use super::compiled::{Compiled, Reach, Rows, Tile};
use super::space::{Layout, Space};
use crate::cpu::simd::{Level, fetch};
use crate::cpu::streams::{LINE, STREAMED, Streams};
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
    /// The program as a chain, which computes instead where there is one.
    chained: Option<Chained>,
    /// Bytes per element of the inputs.
    widths: SmallVec<[usize; 8]>,
    /// Elements of a tile.
    tile: usize,
    /// Positions of a piece.
    piece: usize,
    /// Whether tiles are computed into scratch memory and written past the caches from there.
    streamed: bool,
    level: Level,
    /// Operations on one element.
    work: usize,
    threads: usize,
}

/// Positions of the output that one thread computes at a time, at least and at most.
const PIECE: [usize; 2] = [1 << 12, 1 << 14];
/// The same at most where it is written past the caches, which ends with waiting for the stores.
const STREAMED_PIECE: usize = 1 << 16;
/// Rows that are shorter end in blocks that are not whole too often for a chain.
const CHAINED_ROW: usize = 512;
/// Pieces of a small output: a thread that begins late still finds its share.
const PIECES: usize = 16;

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
        let compiled = Compiled::with_lanes(level, program, &reaches, (1, space.len))?;
        let mut tile = compiled.tile;
        if space.by_row {
            // Rows in tiles of about one length.
            let parts = space.inner.div_ceil(tile).max(1);
            tile = space.inner.div_ceil(parts).next_multiple_of(16).min(tile);
        }
        let widths = program.inputs().iter().map(|d| d.bits() / 8).collect();
        let written = compiled.widths.iter().map(|width| space.len.saturating_mul(*width));
        let streamed = written.fold(0usize, usize::saturating_add) >= STREAMED;
        let work = program.instructions().len();
        let long = space.by_row && space.inner >= CHAINED_ROW;
        let chained = if long { Chained::new(level, program, &reaches, streamed) } else { None };
        let most = if streamed && chained.is_some() { STREAMED_PIECE } else { PIECE[1] };
        let piece = space.len.div_ceil(PIECES).next_multiple_of(1 << 10).clamp(PIECE[0], most);
        Ok(Self { space, compiled, chained, widths, tile, piece, streamed, level, work, threads })
    }

    /// On tiles, though it might be a chain.
    #[cfg(test)]
    pub(super) fn on_tiles(mut self) -> Self {
        self.chained = None;
        self
    }

    /// Whether it is a chain.
    #[cfg(test)]
    pub(super) fn is_chained(&self) -> bool {
        self.chained.is_some()
    }

    /// Whatever its size, written past the caches or not.
    #[cfg(test)]
    pub(super) fn streamed(mut self, streamed: bool) -> Self {
        self.streamed = streamed;
        if let Some(chained) = &mut self.chained {
            chained.streamed = streamed;
        }
        self
    }

    /// Bytes of a tile of each output in scratch memory, behind what the program needs.
    fn staged(&self) -> impl Iterator<Item = usize> {
        let tile = if self.streamed { self.tile } else { 0 };
        self.compiled.widths.iter().map(move |width| (tile * width).next_multiple_of(LINE))
    }

    /// Bytes of one thread's scratch memory.
    fn lane(&self) -> usize {
        if let Some(chained) = &self.chained {
            return chained.scratch();
        }
        self.compiled.scratch.next_multiple_of(LINE) + self.staged().sum::<usize>()
    }

    /// Bytes of scratch memory that [`MapKernel::run`] needs.
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
        if scratch.len() < self.lane() || !is_aligned(scratch, 64) {
            return Err(OpError::internal("the scratch memory of a map is too short or not aligned"));
        }
        if self.space.len == 0 {
            return Ok(());
        }
        let pieces = outputs
            .into_iter()
            .zip(&self.compiled.widths)
            .map(|(out, width)| Chunks::new(out, self.piece * width));
        let pieces = Each(pieces.collect());
        let lanes = Lanes::new(scratch, self.lane());
        let work = self.space.len.saturating_mul(self.work);
        for_each_tile(context, work, lanes, &pieces, &|piece, mut outputs, scratch| {
            self.piece(piece * self.piece, inputs, &mut outputs, scratch);
            Ok(())
        })
    }

    /// Computes the positions from `start` on that `outputs` hold.
    fn piece(&self, start: usize, inputs: &[&[u8]], outputs: &mut [&mut [u8]], scratch: &mut [u8]) {
        if let Some(chained) = &self.chained {
            return self.chain(chained, start, inputs, outputs, scratch);
        }
        let (scratch, mut rest) = scratch.split_at_mut(self.compiled.scratch.next_multiple_of(LINE));
        self.compiled.prepare(scratch);
        let mut staged: SmallVec<[&mut [u8]; 4]> = SmallVec::new();
        for bytes in self.staged() {
            let (stage, behind) = rest.split_at_mut(bytes);
            staged.push(stage);
            rest = behind;
        }
        let streams = self.streamed.then(|| Streams::new(self.level));
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
            let gather = |k: usize, _: usize, to: &mut [u8]| {
                self.space.gather(k, position, self.widths[k], inputs[k], to);
            };
            let (len, inputs, gather) = (count, &windows[..], &gather);
            if let Some(streams) = &streams {
                self.fetch_next(&windows, count);
                self.compiled.run(&mut Tile {
                    len,
                    rows: Rows::ONE,
                    inputs,
                    outputs: &mut staged,
                    at: 0,
                    scratch,
                    gather,
                });
                for ((stage, to), width) in staged.iter().zip(&mut *outputs).zip(&self.compiled.widths) {
                    streams.copy(&mut to[at * width..(at + count) * width], &stage[..count * width]);
                }
            } else {
                self.compiled.run(&mut Tile { len, rows: Rows::ONE, inputs, outputs, at, scratch, gather });
            }
            at += count;
        }
    }

    /// The same by a chain, row by row.
    fn chain(
        &self,
        chained: &Chained,
        start: usize,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]],
        scratch: &mut [u8],
    ) {
        chained.prepare(scratch);
        let len = outputs.first().zip(self.compiled.widths.first()).map_or(0, |(o, width)| o.len() / width);
        let mut elements: SmallVec<[usize; 8]> = SmallVec::from_elem(0, inputs.len());
        let mut at = 0;
        while at < len {
            let position = start + at;
            let count = (self.space.inner - position % self.space.inner).min(len - at);
            self.space.locate(position, &mut elements);
            let windows: SmallVec<[&[u8]; 8]> = inputs
                .iter()
                .zip(elements.iter().zip(&self.widths))
                .map(|(bytes, (element, width))| &bytes[element * width..])
                .collect();
            chained.run(count, &windows, outputs, at, scratch);
            at += count;
        }
    }

    /// Asks for what the next tile reads, where it lies behind what this one of `count` elements does.
    fn fetch_next(&self, windows: &[&[u8]], count: usize) {
        for (k, (window, width)) in windows.iter().zip(&self.widths).enumerate() {
            if self.space.reach(k) == Reach::Run {
                let next = (count * width).min(window.len())..(2 * count * width).min(window.len());
                fetch(&window[next]);
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
            let (outputs, scratch) = io.all_bytes_and_scratch(self.compiled.widths.len())?;
            self.run(&inputs, outputs, scratch, context)
        })
        .with_scratch(scratch)
    }
}

fn is_aligned(bytes: &[u8], width: usize) -> bool {
    bytes.is_empty() || bytes.as_ptr().addr().is_multiple_of(width)
}
