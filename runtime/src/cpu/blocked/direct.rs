//! Windows over all channels, each tap of each channel a term of a sum.

use super::planes::Planes;
use super::sweep::{Sweep, WIDEST, groups};
use super::{BLOCK, Image};
use crate::cpu::contraction::scratch_of;
use crate::cpu::gemm::Blocks;
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::ops::window::Span;

/// Elements of the input that the positions of a piece read: they stay in the second cache with a chunk of weights.
const INPUT: usize = 128 << 10;
/// Positions of a piece at most: its output is still in the second cache when it is finished.
const MOST: usize = 512;
/// Positions of a piece at least, and pieces that keep some threads busy.
const LEAST: usize = 48;
const PIECES: usize = 8;
/// Lines of planes that are written at once.
const LINES: usize = 8;

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    planes: Planes,
    filters: usize,
    positions: usize,
    /// Positions of a piece of the output.
    piece: usize,
}

impl Direct {
    /// Of `channels` input and `filters` output channels.
    pub(super) fn new((channels, filters): (usize, usize), spans: [Span; 2]) -> Option<Self> {
        let planes = Planes::new(channels, spans)?;
        let positions = spans[0].output * spans[1].output;
        let read = channels * spans[0].stride * spans[1].stride;
        let mut piece = (INPUT / read.max(1)).clamp(LEAST, MOST).min(positions.max(LEAST));
        let pieces = |piece: usize| positions.div_ceil(piece) * filters.div_ceil(WIDEST);
        while piece > LEAST && pieces(piece) < PIECES {
            piece = (piece / 2).max(LEAST);
        }
        // Pieces of nearly equal size, of whole lines where there are lines.
        let equal = positions.div_ceil(positions.div_ceil(piece).max(1));
        let unit = if planes.is_one_line() { 6 } else { spans[1].output };
        let piece = equal.next_multiple_of(unit.max(1));
        Some(Self { planes, filters, positions, piece })
    }

    /// Blocks of channels of the output.
    pub(super) fn blocks(&self) -> usize {
        self.filters / BLOCK
    }

    /// Scratch bytes.
    pub(super) fn scratch(&self) -> usize {
        self.planes.elements().saturating_mul(size_of::<f32>())
    }

    /// One image.
    pub(super) fn image(
        &self,
        image: Image<'_, '_>,
        out: &mut [f32],
        scratch: &mut [u8],
    ) -> Result<(), OpError> {
        let Image { context, level, operands, first, clamp, finish } = image;
        let planes = scratch_of::<f32>(scratch, self.planes.elements())?;
        let x = if self.planes.in_place {
            operands.x
        } else {
            let (line, lines_of_block) = (self.planes.line(), self.planes.lines());
            let work = planes.len();
            let chunks = Chunks::new(planes, LINES * line);
            for_each_tile(context, work, Lanes::none(), &chunks, &|chunk, to, _| {
                for (i, to) in to.chunks_exact_mut(line).enumerate() {
                    let at = chunk * LINES + i;
                    self.planes.fill(operands.x, (at / lines_of_block, at % lines_of_block), to);
                }
                Ok(())
            })?;
            &*planes
        };
        let form = (1, self.blocks(), self.positions * BLOCK);
        let pieces = Blocks::new(out, form, (WIDEST / BLOCK, self.piece * BLOCK))?;
        let work = self.filters.saturating_mul(self.positions).saturating_mul(self.planes.depth());
        for_each_tile(context, work, Lanes::none(), &pieces, &|_, mut piece, _| {
            let range = piece.cols.start / BLOCK..piece.cols.end / BLOCK;
            let filters = piece.rows.start * BLOCK..piece.rows.end * BLOCK;
            for (filter, width) in groups(filters.clone()) {
                let sweep = Sweep {
                    terms: self.planes.terms(),
                    positions: self.planes.positions(range.clone()),
                    x,
                    weights: operands.weights.of(filter..filter + width),
                    width,
                    bias: operands.bias.map(|bias| &bias[filter..filter + width]),
                    clamp,
                    row: (filter - filters.start) / BLOCK,
                };
                sweep.run(level, &mut piece.out);
            }
            finish.apply_block(first + piece.rows.start, piece.cols.start, &mut piece.out)
        })
    }
}
