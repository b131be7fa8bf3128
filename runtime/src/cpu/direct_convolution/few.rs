//! The sweep over a block of few output positions: vectors of filters, as the packed weights have them side by side, and an
//! element of the planes broadcast to each. Vectors of positions would be mostly empty, and weights, which are read for
//! little then, are read once and in the order in which they lie.

use super::tile::Sweep;
use crate::cpu::simd::{Simd, Work};

/// Most positions of a block: with more, as with more than three quarters of a vector of filters, vectors of positions do as
/// much.
pub(super) const FEW: usize = 6;
/// Most filters that a vector of weights has.
const LONGEST: usize = 16;

/// A block of at most [`FEW`] positions; run on vectors of as many lanes as the weights have filters side by side.
pub(super) struct Few<'a, 'o>(pub(super) Sweep<'a, 'o>);

impl Work for Few<'_, '_> {
    type Element = f32;
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) {
        // Eight sums at least hide the latency of an addition, twelve leave registers for what is multiplied.
        match self.0.cols.len() {
            1 => self.positions::<S, 1, 8>(simd),
            2 => self.positions::<S, 2, 4>(simd),
            3 => self.positions::<S, 3, 4>(simd),
            4 => self.positions::<S, 4, 2>(simd),
            5 => self.positions::<S, 5, 2>(simd),
            _ => self.positions::<S, FEW, 2>(simd),
        }
    }
}

impl Few<'_, '_> {
    /// `P` positions, `V` vectors of filters at a time.
    #[inline(always)]
    fn positions<S: Simd<f32>, const P: usize, const V: usize>(mut self, simd: S) {
        let vectors = self.0.out.rows().div_ceil(S::LANES);
        let mut at = 0;
        while at + V <= vectors {
            self.tile::<S, P, V>(simd, at);
            at += V;
        }
        for at in at..vectors {
            self.tile::<S, P, 1>(simd, at);
        }
    }

    /// `V` vectors of filters from vector `first` on.
    #[inline(always)]
    fn tile<S: Simd<f32>, const P: usize, const V: usize>(&mut self, simd: S, first: usize) {
        let Sweep { weights: all, x, bias, channels, planes, cols, out, .. } = &mut self.0;
        let (stride, taps) = (planes.channel(), &planes.taps[..]);
        let depth = *channels * taps.len();
        let elements: [usize; P] = std::array::from_fn(|p| planes.element(cols.start + p));
        let mut weights: [&[f32]; V] = [&[]; V];
        for (v, weights) in weights.iter_mut().enumerate() {
            *weights = &all[(first + v) * depth * S::LANES..][..depth * S::LANES];
        }
        let mut sums = [[simd.splat(0.0); V]; P];
        let mut k = 0;
        for channel in 0..*channels {
            let x = &x[channel * stride..];
            for &tap in taps {
                let mut lines = [simd.splat(0.0); V];
                for (line, weights) in lines.iter_mut().zip(&weights) {
                    *line = simd.load(&weights[k..]);
                }
                k += S::LANES;
                for (sums, element) in sums.iter_mut().zip(&elements) {
                    let x = simd.splat(x[tap + element]);
                    for (sum, line) in sums.iter_mut().zip(&lines) {
                        *sum = simd.mul_add(x, *line, *sum);
                    }
                }
            }
        }
        for v in 0..V {
            let from = (first + v) * S::LANES;
            let count = S::LANES.min(out.rows() - from);
            for (p, sums) in sums.iter().enumerate() {
                let mut lane = [0.0; LONGEST];
                simd.store(sums[v], &mut lane);
                for (at, sum) in (from..from + count).zip(lane) {
                    out.row(at)[p] = sum + bias.map_or(0.0, |bias| bias[at]);
                }
            }
        }
    }
}
