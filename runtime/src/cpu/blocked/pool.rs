//! The largest element of each window over channels in blocks: those of a position at once, as the input lies.

use super::BLOCK;
use crate::cpu::RunContext;
use crate::cpu::row_epilogue::Finish;
use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::cpu::tiles::{Chunks, Lanes, for_each_tile};
use crate::error::OpError;
use crate::ops::window::Span;

/// Elements of the output that are computed and finished at once.
const TOGETHER: usize = 8 << 10;

/// `y = max x` over the windows of `spans` of every block of `x`; a NaN in a window is the largest. Windows outside the
/// input have −∞.
pub(crate) fn largest(
    context: RunContext<'_>,
    [down, across]: [Span; 2],
    x: &[f32],
    out: &mut [f32],
    finish: &Finish<'_>,
) -> Result<(), OpError> {
    let (line, plane) = (across.output * BLOCK, down.input * across.input * BLOCK);
    if out.is_empty() || !out.len().is_multiple_of(line * down.output) || plane == 0 {
        return if out.is_empty() { Ok(()) } else { Err(OpError::internal("a pool of another size")) };
    }
    let lines = (TOGETHER / line).max(1);
    let work = out.len().saturating_mul(down.kernel * across.kernel);
    let level = Level::detect();
    for_each_tile(context, work, Lanes::none(), &Chunks::new(out, lines * line), &|piece, out, _| {
        for (i, to) in out.chunks_exact_mut(line).enumerate() {
            let at = piece * lines + i;
            let (block, y) = (at / down.output, at % down.output);
            let plane = x[block * plane..][..plane].as_chunks().0;
            let to = to.as_chunks_mut().0;
            f32::run(level, Windows { plane, spans: [down, across], y, to });
        }
        finish.apply_from(piece * lines * line, out)
    })
}

/// The windows of line `y`, each held in a register over its taps.
struct Windows<'s> {
    plane: &'s [[f32; BLOCK]],
    spans: [Span; 2],
    y: usize,
    to: &'s mut [[f32; BLOCK]],
}

impl Work for Windows<'_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) {
        let Self { plane, spans: [down, across], y, to } = self;
        let rows = down.taps(y);
        let top = if rows.is_empty() { 0 } else { down.index(y, rows.start) };
        let (first, last) = (across.positions(0), across.positions(across.kernel - 1));
        for (x, to) in to.iter_mut().enumerate() {
            // Between the edges all taps are inside.
            let inside = first.contains(&x) && last.contains(&x);
            let taps = if inside { 0..across.kernel } else { across.taps(x) };
            let mut largest = [f32::NEG_INFINITY; BLOCK];
            for row in 0..rows.len() {
                let row = &plane[(top + row * down.dilation) * across.input..][..across.input];
                for tap in taps.clone() {
                    for (largest, from) in largest.iter_mut().zip(&row[across.index(x, tap)]) {
                        // No comparison with NaN holds: where there is one it stays, and one that comes is taken.
                        let taken = (*from > *largest) | from.is_nan();
                        *largest = if taken { *from } else { *largest };
                    }
                }
            }
            *to = largest;
        }
    }
}
