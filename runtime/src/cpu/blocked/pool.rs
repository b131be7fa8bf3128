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
            let x = &x[block * plane..][..plane];
            to.fill(f32::NEG_INFINITY);
            for tap_y in down.taps(y) {
                let from = &x[down.index(y, tap_y) * across.input * BLOCK..][..across.input * BLOCK];
                for tap in 0..across.kernel {
                    let inside = across.positions(tap);
                    if inside.is_empty() {
                        continue;
                    }
                    let from = from[across.index(inside.start, tap) * BLOCK..].as_chunks::<BLOCK>().0;
                    let to = to[inside.start * BLOCK..inside.end * BLOCK].as_chunks_mut::<BLOCK>().0;
                    f32::run(level, Larger { to, from, stride: across.stride });
                }
            }
        }
        finish.apply_from(piece * lines * line, out)
    })
}

/// What one tap is to the positions of a line.
struct Larger<'s> {
    to: &'s mut [[f32; BLOCK]],
    from: &'s [[f32; BLOCK]],
    stride: usize,
}

impl Work for Larger<'_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) {
        for (to, from) in self.to.iter_mut().zip(self.from.iter().step_by(self.stride)) {
            for (to, from) in to.iter_mut().zip(from) {
                // No comparison with NaN holds: where there is one it stays, and one that comes is taken.
                let taken = (*from > *to) | from.is_nan();
                *to = if taken { *from } else { *to };
            }
        }
    }
}
