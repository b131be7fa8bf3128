//! Sampling an image at positions between its elements.
//!
//! A position has, on each axis, 1, 2 or 4 neighbours with a weight each; their combinations are the taps. The
//! taps of a position are found once and used for all channels of a chunk.

use super::RunContext;
use super::number::{Compute, Number, Real};
use super::split::{for_each_chunk, rows_per_chunk};
use super::strided_copy::span;
use crate::dtype::Element;
use crate::error::OpError;
use crate::tensor::Shape;

/// Spatial axes that a sampler takes: the taps of a position live on the stack.
pub(crate) const MOST_AXES: usize = 3;
/// Neighbours on one axis, and their combinations.
const MOST_NEIGHBOURS: usize = 4;
const MOST_TAPS: usize = MOST_NEIGHBOURS.pow(MOST_AXES as u32);

/// How neighbours are weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What lies outside the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// Sampling of `[N, channels, extents…]` at `places` positions per `N`.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    pub(crate) mode: Mode,
    pub(crate) outside: Outside,
    /// −1 and 1 are the centres of the outermost elements, not their outer edges.
    pub(crate) align: bool,
    pub(crate) extents: Shape,
    pub(crate) channels: usize,
    pub(crate) places: usize,
}

/// The neighbours of one coordinate: offsets in the image, none where zeros lie, and weights.
#[derive(Clone, Copy)]
struct Neighbours {
    count: usize,
    offset: [Option<usize>; MOST_NEIGHBOURS],
    weight: [f64; MOST_NEIGHBOURS],
}

impl Sampler {
    /// The range within which nothing is clamped or reflected.
    fn border(&self, extent: usize) -> (f64, f64) {
        let n = extent as f64;
        if self.align { (0.0, n - 1.0) } else { (-0.5, n - 0.5) }
    }

    /// `v` reflected at the ends of the border until it lies inside.
    fn reflect(&self, v: f64, extent: usize) -> f64 {
        let (low, high) = self.border(extent);
        if high <= low || !v.is_finite() {
            return low.max(0.0);
        }
        let into = (v - low).rem_euclid(2.0 * (high - low));
        if into > high - low { high - (into - (high - low)) } else { low + into }
    }

    /// The element at integer coordinate `v`, if it is one of the image.
    fn element(&self, v: f64, extent: usize) -> Option<usize> {
        let last = extent as f64 - 1.0;
        let v = match self.outside {
            Outside::Zeros if v < 0.0 || v > last => return None,
            Outside::Zeros => v,
            Outside::Border => v.clamp(0.0, last),
            Outside::Reflection if v < 0.0 || v > last => self.reflect(v, extent),
            Outside::Reflection => v,
        };
        // A NaN becomes element 0.
        Some((v as usize).min(extent - 1))
    }

    fn neighbours(&self, position: f64, extent: usize, stride: usize) -> Neighbours {
        let n = extent as f64;
        let mut v =
            if self.align { (position + 1.0) * 0.5 * (n - 1.0) } else { ((position + 1.0) * n - 1.0) / 2.0 };
        if self.mode == Mode::Nearest {
            v = v.round_ties_even();
        }
        let (low, high) = self.border(extent);
        if v < low || v > high {
            match self.outside {
                Outside::Zeros => {}
                Outside::Border => v = v.clamp(0.0, n - 1.0),
                Outside::Reflection => v = self.reflect(v, extent),
            }
        }
        let mut found =
            Neighbours { count: 1, offset: [None; MOST_NEIGHBOURS], weight: [1.0; MOST_NEIGHBOURS] };
        let floor = v.floor();
        let ratio = v - floor;
        let first = match self.mode {
            Mode::Nearest => v,
            Mode::Linear => {
                found.count = 2;
                found.weight[..2].copy_from_slice(&[1.0 - ratio, ratio]);
                floor
            }
            Mode::Cubic => {
                found.count = 4;
                found.weight = cubic_weights(ratio, -0.75);
                floor - 1.0
            }
        };
        for (k, offset) in found.offset.iter_mut().take(found.count).enumerate() {
            *offset = self.element(first + k as f64, extent).map(|at| at * stride);
        }
        found
    }

    /// Calls `body` with every tap, offset and weight, of the position that `grid` holds, innermost
    /// coordinate first.
    fn taps<G: Real>(&self, grid: &[G], mut body: impl FnMut(usize, f64)) {
        let mut axes = [None; MOST_AXES];
        let mut stride = 1;
        for ((axis, &extent), position) in axes.iter_mut().zip(self.extents.iter().rev()).zip(grid) {
            *axis = Some(self.neighbours(position.to_f64(), extent, stride));
            stride *= extent;
        }
        let [Some(inner), middle, outer] = axes else { return };
        let one = Neighbours { count: 1, offset: [Some(0); MOST_NEIGHBOURS], weight: [1.0; MOST_NEIGHBOURS] };
        let (middle, outer) = (middle.unwrap_or(one), outer.unwrap_or(one));
        for i in 0..outer.count {
            for j in 0..middle.count {
                for k in 0..inner.count {
                    if let (Some(a), Some(b), Some(c)) = (outer.offset[i], middle.offset[j], inner.offset[k])
                    {
                        body(a + b + c, outer.weight[i] * middle.weight[j] * inner.weight[k]);
                    }
                }
            }
        }
    }

    /// Calls `body` for chunks of channels: the first element of their image in the input, the positions, and
    /// the output.
    fn chunks<G: Real, T: Send>(
        &self,
        context: RunContext<'_>,
        grid: &[G],
        out: &mut [T],
        body: impl Fn(usize, &[G], &mut [T]) + Sync,
    ) -> Result<(), OpError> {
        if out.is_empty() {
            return Ok(());
        }
        // A chunk stays within one batch entry, so that its positions are the same for all its channels.
        let entry = self.channels * self.places;
        let per = rows_per_chunk(self.channels, self.places.saturating_mul(8), context.team.threads());
        let coordinates = self.places * self.extents.len();
        let plane = span(&self.extents);
        for (n, out) in out.chunks_exact_mut(entry).enumerate() {
            let grid = &grid[n * coordinates..][..coordinates];
            for_each_chunk(context, out, per * self.places, |chunk, piece| {
                body((n * self.channels + chunk * per) * plane, grid, piece);
            })?;
        }
        Ok(())
    }

    /// The nearest elements.
    pub(crate) fn nearest<T: Element, G: Real>(
        &self,
        context: RunContext<'_>,
        x: &[T],
        grid: &[G],
        out: &mut [T],
    ) -> Result<(), OpError> {
        let (plane, axes) = (span(&self.extents), self.extents.len());
        self.chunks(context, grid, out, |first, grid, out| {
            for (i, position) in grid.chunks_exact(axes).enumerate() {
                let mut at = None;
                self.taps(position, |offset, _| at = Some(offset));
                for (c, channel) in out.chunks_exact_mut(self.places).enumerate() {
                    channel[i] = at.map_or_else(T::default, |at| x[first + c * plane + at]);
                }
            }
        })
    }

    /// Weighted sums of neighbours.
    pub(crate) fn weighted<T: Real, G: Real>(
        &self,
        context: RunContext<'_>,
        x: &[T],
        grid: &[G],
        out: &mut [T],
    ) -> Result<(), OpError> {
        let (plane, axes) = (span(&self.extents), self.extents.len());
        self.chunks(context, grid, out, |first, grid, out| {
            let mut taps = [(0usize, <T as Number>::Compute::zero()); MOST_TAPS];
            for (i, position) in grid.chunks_exact(axes).enumerate() {
                let mut count = 0;
                self.taps(position, |offset, weight| {
                    taps[count] = (offset, Number::from_f64(weight));
                    count += 1;
                });
                for (c, channel) in out.chunks_exact_mut(self.places).enumerate() {
                    let image = &x[first + c * plane..][..plane];
                    let mut sum = <T as Number>::Compute::zero();
                    for &(at, weight) in &taps[..count] {
                        sum = sum.add(image[at].load().mul(weight));
                    }
                    channel[i] = T::store(sum);
                }
            }
        })
    }
}

/// Weights of the four neighbours of a place `ratio` behind the second one: Keys' cubic convolution.
pub(crate) fn cubic_weights(ratio: f64, a: f64) -> [f64; 4] {
    let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    [far(ratio + 1.0), near(ratio), near(1.0 - ratio), far(2.0 - ratio)]
}
