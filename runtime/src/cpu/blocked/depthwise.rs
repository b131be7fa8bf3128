//! Channels by themselves: the taps of a window times vectors of channels, as the input lies.
//!
//! Taps outside the input are left out: whole lines of a window, and, where a position is near the left or right border,
//! columns, which windows of 3×3 multiply with zeros instead.

use super::{BLOCK, Operands};
use crate::cpu::RunContext;
use crate::cpu::clamp::Clamp;
use crate::cpu::row_epilogue::Finish;
use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::cpu::tiles::{Across, Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::ops::window::Span;
use std::ops::Range;

/// Positions of a tile.
const POSITIONS: usize = 8;
/// Most positions that a tile of windows of 3×3 reads of a line: eight of them at stride 2.
const REACH: usize = 7 * 2 + 3;
/// Elements of the output that are computed and finished at once: they stay in the first cache.
const TOGETHER: usize = 8 << 10;
/// Positions of the input from which on all blocks of some lines go to one thread, as what comes ahead of channels by
/// themselves and behind them gives lines to threads, so that it finds them in its caches; below, filters go to threads.
const WIDE: usize = 2048;

/// A convolution with its shapes known.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    /// Blocks of channels.
    blocks: usize,
    spans: [Span; 2],
    /// Columns of the output whose windows are inside the input.
    inside: Range<usize>,
    /// Lines that are computed at once; lines of a block follow each other, and those of the next one them.
    lines: usize,
    /// Whether neighbouring pieces are of the same lines rather than of the same block.
    wide: bool,
}

impl Depthwise {
    /// Of `channels` channels.
    pub(super) fn new(channels: usize, spans: [Span; 2]) -> Self {
        let across = spans[1];
        let reach = (across.kernel - 1) * across.dilation + 1;
        let from = across.begin.div_ceil(across.stride).min(across.output);
        // The last column whose window ends inside.
        let until =
            (across.input + across.begin).checked_sub(reach).map_or(0, |last| last / across.stride + 1);
        let inside = from..until.clamp(from, across.output);
        let most = (TOGETHER / (across.output * BLOCK).max(1)).max(1);
        // Pieces end where blocks do, where that does not make them much smaller.
        let down = spans[0].output;
        let divisor = (1..=most.min(down)).rev().find(|lines| down.is_multiple_of(*lines)).unwrap_or(1);
        let lines = if 2 * divisor >= most { divisor } else { most };
        let wide = spans[0].input.saturating_mul(across.input) >= WIDE;
        Self { blocks: channels / BLOCK, spans, inside, lines, wide }
    }

    /// All images.
    pub(super) fn run(
        &self,
        (context, level): (RunContext<'_>, Level),
        operands: Operands<'_>,
        out: &mut [f32],
        (clamp, finish): (Option<Clamp>, &Finish<'_>),
    ) -> Result<(), OpError> {
        let [down, across] = &self.spans;
        let line = across.output * BLOCK;
        let taps = down.kernel * across.kernel;
        let work = out.len().saturating_mul(taps);
        let parts = if self.wide { out.len() / (down.output * line).max(1) } else { 1 };
        let pieces = Across::new(Chunks::new(out, self.lines * line), parts);
        for_each_tile(context, work, Lanes::none(), &pieces, &|piece, out, _| {
            let first = pieces.place(piece) * self.lines;
            let clamp = clamp.unwrap_or(Clamp::NONE);
            let lines = Lines { depthwise: self, operands, clamp, first, to: &mut *out };
            f32::run(level, lines);
            finish.apply_from(first * line, out)
        })
    }

    /// Whether windows are of three taps by three that are neighbours.
    fn is_of_three(&self) -> bool {
        self.spans.iter().all(|span| span.kernel == 3 && span.dilation == 1)
    }
}

/// Lines of the output that follow each other.
struct Lines<'s, 'o> {
    depthwise: &'s Depthwise,
    operands: Operands<'s>,
    clamp: Clamp,
    /// The first of them, counted over all blocks of all images.
    first: usize,
    to: &'o mut [f32],
}

impl Work for Lines<'_, '_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        let Self { depthwise, operands, clamp, first, to } = self;
        let spans = &depthwise.spans;
        let [down, across] = spans;
        let plane = down.input * across.input * BLOCK;
        let way = (depthwise.is_of_three(), across.stride);
        for (i, to) in to.chunks_exact_mut(across.output * BLOCK).enumerate() {
            let (block, y) = ((first + i) / down.output, (first + i) % down.output);
            let channels = block % depthwise.blocks * BLOCK;
            let line = Line {
                spans,
                inside: &depthwise.inside,
                rows: down.taps(y),
                y,
                x: &operands.x[block * plane..][..plane],
                weights: operands.weights.of(channels..channels + BLOCK),
                bias: operands.bias.map(|bias| &bias[channels..channels + BLOCK]),
                clamp,
                to,
            };
            match way {
                (true, 1) => line.of_three::<S, 1>(simd),
                (true, 2) => line.of_three::<S, 2>(simd),
                (_, 1) => line.of_any::<S, 1>(simd),
                (_, 2) => line.of_any::<S, 2>(simd),
                _ => line.of_any::<S, 0>(simd),
            }
        }
    }
}

/// One line of the output.
struct Line<'s> {
    spans: &'s [Span; 2],
    inside: &'s Range<usize>,
    /// Lines of the window that are inside the input.
    rows: Range<usize>,
    y: usize,
    x: &'s [f32],
    weights: &'s [f32],
    bias: Option<&'s [f32]>,
    clamp: Clamp,
    to: &'s mut [f32],
}

impl Line<'_> {
    /// By windows of 3×3 with a stride of `T`: what a tile reads of a line is loaded once.
    #[inline(always)]
    fn of_three<S: Simd<f32>, const T: usize>(mut self, simd: S) {
        let width = self.spans[1].output;
        // Lines of 7, 14 and 28 are whole tiles of seven.
        let by_seven = width.is_multiple_of(7) && !width.is_multiple_of(8);
        for v in (0..BLOCK).step_by(S::LANES) {
            let mut weights = [[simd.splat(0.0); 3]; 3];
            for (weight, from) in weights.as_flattened_mut().iter_mut().zip(self.weights.chunks(BLOCK)) {
                *weight = simd.load(&from[v..]);
            }
            let mut at = 0;
            while at < width {
                at += match width - at {
                    7.. if by_seven => self.tile_of_three::<S, T, 7>(simd, v, at, &weights),
                    8.. => self.tile_of_three::<S, T, 8>(simd, v, at, &weights),
                    4.. => self.tile_of_three::<S, T, 4>(simd, v, at, &weights),
                    _ => self.tile_of_three::<S, T, 1>(simd, v, at, &weights),
                }
            }
        }
    }

    /// `P` positions from `at` on; how many they are.
    #[inline(always)]
    fn tile_of_three<S: Simd<f32>, const T: usize, const P: usize>(
        &mut self,
        simd: S,
        v: usize,
        at: usize,
        weights: &[[S::Vector; 3]; 3],
    ) -> usize {
        let across = self.spans[1];
        let first = (at * T).checked_sub(across.begin);
        if first.is_some_and(|first| first + (P - 1) * T + 3 <= across.input) {
            self.sums_of_three::<S, T, P, true>(simd, v, at, weights);
        } else {
            self.sums_of_three::<S, T, P, false>(simd, v, at, weights);
        }
        P
    }

    /// The same, where all that is read is inside the input or not.
    #[inline(always)]
    fn sums_of_three<S: Simd<f32>, const T: usize, const P: usize, const INSIDE: bool>(
        &mut self,
        simd: S,
        v: usize,
        at: usize,
        weights: &[[S::Vector; 3]; 3],
    ) {
        let [down, across] = self.spans;
        let bias = self.bias.map_or(simd.splat(0.0), |bias| simd.load(&bias[v..]));
        let mut sums = [bias; P];
        let reach = const { (P - 1) * T + 3 };
        for (tap_y, weights) in weights.iter().enumerate() {
            if !self.rows.contains(&tap_y) {
                continue;
            }
            let line = &self.x[down.index(self.y, tap_y) * across.input * BLOCK..][..across.input * BLOCK];
            let mut x = [simd.splat(0.0); REACH];
            if INSIDE {
                let line = &line[(at * T - across.begin) * BLOCK..][..reach * BLOCK];
                for (x, from) in x.iter_mut().zip(line.chunks_exact(BLOCK)).take(reach) {
                    *x = simd.load(&from[v..]);
                }
            } else {
                for (i, x) in x.iter_mut().enumerate().take(reach) {
                    let column = (at * T + i).checked_sub(across.begin).filter(|&at| at < across.input);
                    if let Some(column) = column {
                        *x = simd.load(&line[column * BLOCK..][..BLOCK][v..]);
                    }
                }
            }
            for (tap, weight) in weights.iter().enumerate() {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.mul_add(x[p * T + tap], *weight, *sum);
                }
            }
        }
        let bounds = self.clamp.on(simd);
        let to = &mut self.to[at * BLOCK..][..P * BLOCK];
        for (to, sum) in to.chunks_exact_mut(BLOCK).zip(sums) {
            simd.store(bounds.hold(sum), &mut to[v..]);
        }
    }

    /// With a stride of `T` or, where `T` is 0, of any.
    #[inline(always)]
    fn of_any<S: Simd<f32>, const T: usize>(mut self, simd: S) {
        let (from, until) = (self.inside.start, self.inside.end);
        for v in (0..BLOCK).step_by(S::LANES) {
            for at in (0..from).chain(until..self.spans[1].output) {
                self.tile::<S, T, 1>(simd, v, at);
            }
            let mut at = from;
            while at + POSITIONS <= until {
                self.tile::<S, T, POSITIONS>(simd, v, at);
                at += POSITIONS;
            }
            if at + 4 <= until {
                self.tile::<S, T, 4>(simd, v, at);
                at += 4;
            }
            for at in at..until {
                self.tile::<S, T, 1>(simd, v, at);
            }
        }
    }

    /// `P` positions from `at` on, of the channels from `v` on. Only the window of a single one may reach outside.
    #[inline(always)]
    fn tile<S: Simd<f32>, const T: usize, const P: usize>(&mut self, simd: S, v: usize, at: usize) {
        let [down, across] = self.spans;
        let bias = self.bias.map_or(simd.splat(0.0), |bias| simd.load(&bias[v..]));
        let mut acc = [bias; P];
        let step = if T > 0 { T } else { across.stride } * BLOCK;
        let taps = if P > 1 { 0..across.kernel } else { across.taps(at) };
        // All that a tap reads.
        let reach = (P - 1) * step + BLOCK;
        for tap_y in self.rows.clone() {
            let line = &self.x[down.index(self.y, tap_y) * across.input * BLOCK..][..across.input * BLOCK];
            let weights = &self.weights[tap_y * across.kernel * BLOCK..][..across.kernel * BLOCK];
            for tap in taps.clone() {
                let weight = simd.load(&weights[tap * BLOCK..][..BLOCK][v..]);
                let x = &line[across.index(at, tap) * BLOCK..][..reach];
                for (p, acc) in acc.iter_mut().enumerate() {
                    *acc = simd.mul_add(simd.load(&x[p * step..][..BLOCK][v..]), weight, *acc);
                }
            }
        }
        let bounds = self.clamp.on(simd);
        let to = &mut self.to[at * BLOCK..][..P * BLOCK];
        for (p, acc) in acc.into_iter().enumerate() {
            simd.store(bounds.hold(acc), &mut to[p * BLOCK..][..BLOCK][v..]);
        }
    }
}
