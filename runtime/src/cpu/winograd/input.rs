//! The input's side of the products, `Bᵀ · x · B`, for the tiles of a chunk: a vector holds neighbouring tiles of a line.

use super::matrices::input;
use super::tiling::Tiling;
use crate::cpu::planes::Planes;
use crate::cpu::simd::{Simd, Work};

/// One chunk of tiles.
pub(super) struct Transform<'a> {
    pub(super) planes: &'a Planes,
    /// The planes of all channels, and the tail behind them.
    pub(super) x: &'a [f32],
    pub(super) channels: usize,
    pub(super) tiling: &'a Tiling,
    pub(super) chunk: usize,
    /// [`Tiling::chunk_elements`].
    pub(super) to: &'a mut [f32],
}

impl Work for Transform<'_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        if self.tiling.size == 2 { self.transform::<S, 4>(simd) } else { self.transform::<S, 6>(simd) }
    }
}

impl Transform<'_> {
    #[inline(always)]
    fn transform<S: Simd<f32>, const A: usize>(self, simd: S) {
        let Self { planes, x, channels, tiling, chunk, to } = self;
        let (slots, each) = (tiling.slots(), tiling.point_elements(channels));
        for channel in 0..channels {
            let x = &x[channel * planes.channel()..];
            for index in 0..tiling.runs() {
                let run = tiling.run(chunk, index);
                for at in (0..run.count).step_by(S::LANES) {
                    let x = &x[run.element + at..];
                    let mut half = [[simd.splat(0.0); A]; A];
                    for column in 0..A {
                        let mut d = [simd.splat(0.0); A];
                        for (line, d) in d.iter_mut().enumerate() {
                            *d = simd.load(&x[planes.taps[line * A + column]..]);
                        }
                        let d = input(simd, d);
                        for (half, d) in half.iter_mut().zip(d) {
                            half[column] = d;
                        }
                    }
                    // A vector ends in the slots behind the run's, which are written later.
                    let place = channel * slots + run.slot + at;
                    for (line, half) in half.into_iter().enumerate() {
                        for (column, value) in input(simd, half).into_iter().enumerate() {
                            simd.store(value, &mut to[(line * A + column) * each + place..]);
                        }
                    }
                }
            }
        }
    }
}
