//! Which tiles lie where: the order in which transforms are kept and multiplied.
//!
//! Tiles are numbered in *chunks* of at most [`MOST`], the tiles whose sums stay in registers: several lines of tiles where
//! they are short, parts of a line where it is long. A *run* is what a chunk has of one line; a chunk has a slot for each
//! tile, those of a run being neighbours. Chunks are as large as the first: what the last ones have too much is computed
//! and not written.

use std::ops::Range;

/// Most tiles of a chunk.
pub(super) const MOST: usize = 14;
/// Tiles of a block of output at which it ends: their sums stay in the second cache.
const BLOCK: usize = 48;
/// Bytes of the transforms of a block of output that is computed for all filters: they stay in the second cache with the
/// weights.
const GROUP: usize = 512 << 10;
/// Bytes of the weights up to which that is done, and chunks from which on.
const WEIGHTS: usize = 1 << 20;
const CHUNKS: usize = 4;
/// Blocks that keep some threads busy.
const BUSY: usize = 8;
/// Elements behind each point of a chunk, for the vector that begins at its last slot.
const BEHIND: usize = 16;

/// How the positions of an output channel are cut.
#[derive(Clone, Debug)]
pub(super) struct Tiling {
    /// Outputs of a tile along an axis.
    pub(super) size: usize,
    /// Output lines, and positions of a line.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Lines of tiles, and tiles of a line.
    rows: usize,
    line: usize,
    /// Tiles of a run, and runs of a line.
    run: usize,
    pieces: usize,
    /// Lines of a chunk: more than one only where a line is one run.
    deep: usize,
    /// Lines of tiles of a block of output.
    block: usize,
    /// Whether a block of output is of all filters: its transforms are made by the thread that reads them.
    pub(super) together: bool,
}

/// Neighbouring tiles of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// The slot of the first.
    pub(super) slot: usize,
    /// The line, and the first tile's place in it.
    pub(super) row: usize,
    pub(super) first: usize,
    /// How many there are.
    pub(super) count: usize,
}

impl Tiling {
    /// Tiles of `size` over `height` lines of `width` positions, neither of them none, of `channels` channels and `filters`
    /// filters.
    pub(super) fn new(
        (height, width): (usize, usize),
        size: usize,
        (channels, filters): (usize, usize),
    ) -> Self {
        let (rows, line) = (height.div_ceil(size), width.div_ceil(size).max(1));
        let pieces = line.div_ceil(MOST);
        let run = line.div_ceil(pieces);
        // Chunks of equally many lines.
        let deep = if pieces > 1 { 1 } else { (MOST / line).max(1) };
        let deep = rows.div_ceil(rows.div_ceil(deep).max(1)).max(1);
        let mut tiling =
            Self { size, height, width, rows, line, run, pieces, deep, block: deep, together: false };
        let products = channels.saturating_mul(filters);
        let weights = tiling.points().saturating_mul(products).saturating_mul(size_of::<f32>());
        let chunks = tiling.chunks();
        tiling.together = weights <= WEIGHTS && chunks >= CHUNKS;
        let many = if tiling.together {
            let bytes = tiling.chunk_elements(channels).saturating_mul(size_of::<f32>() * pieces);
            (GROUP / bytes.max(1)).min(rows.div_ceil(deep) / BUSY).max(1)
        } else {
            BLOCK.div_ceil(line * deep)
        };
        tiling.block = (many * deep).min(rows.max(1));
        tiling
    }

    /// Points of a tile.
    pub(super) fn points(&self) -> usize {
        (self.size + 2) * (self.size + 2)
    }

    /// Output positions of a channel.
    pub(super) fn positions(&self) -> usize {
        self.height * self.width
    }

    /// Tiles of a chunk, made even.
    pub(super) fn slots(&self) -> usize {
        (self.run * self.deep).next_multiple_of(2)
    }

    /// Elements of a point of a chunk.
    pub(super) fn point_elements(&self, channels: usize) -> usize {
        channels.saturating_mul(self.slots()).saturating_add(BEHIND).next_multiple_of(16)
    }

    /// Elements of a chunk: for each point, for each channel, those of the slots.
    pub(super) fn chunk_elements(&self, channels: usize) -> usize {
        self.point_elements(channels).saturating_mul(self.points())
    }

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        self.rows.div_ceil(self.deep) * self.pieces
    }

    /// Positions of a block of output: some lines of tiles.
    pub(super) fn block_positions(&self) -> usize {
        self.block * self.size * self.width
    }

    /// Chunks of a block of output at most.
    pub(super) fn block_chunks(&self) -> usize {
        self.block.div_ceil(self.deep) * self.pieces
    }

    /// The chunks of the block of output at the positions `cols`.
    pub(super) fn chunks_of(&self, cols: &Range<usize>) -> Range<usize> {
        let line = |position: usize| position / self.width.max(1) / self.size;
        let first = line(cols.start) / self.deep * self.pieces;
        first..((line(cols.end.saturating_sub(1)) / self.deep + 1) * self.pieces).max(first)
    }

    /// The runs of chunk `chunk`; those of lines that there are no more have no tile to be written.
    #[inline(always)]
    pub(super) fn run(&self, chunk: usize, index: usize) -> Run {
        let row = chunk / self.pieces * self.deep + index;
        let first = chunk % self.pieces * self.run;
        let count = self.run.min(self.line - first);
        Run { slot: index * self.run, row, first, count }
    }

    /// Runs of a chunk.
    pub(super) fn runs(&self) -> usize {
        self.deep
    }
}
