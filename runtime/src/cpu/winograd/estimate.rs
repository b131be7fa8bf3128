//! Whether tiles take less time than the sum over the taps.

use super::fits;
use crate::cpu::simd::{Lane, Level, Simd, Work};
use crate::ops::window::Span;

/// Bytes of weights that a second cache holds.
const CACHE: f64 = 1.5e6;

/// What the parts of a convolution take where it is computed, as measured on a processor with two vector multiplications
/// a cycle.
#[derive(Clone, Copy, Debug)]
pub(in crate::cpu) struct Costs {
    /// Channels and filters from which tiles are considered: with fewer, transforms are all the work.
    pub(in crate::cpu) least_channels: usize,
    /// The part of the multiplications of a cycle that sums make.
    pub(in crate::cpu) reached: f64,
    /// Bytes a cycle at which weights come that no second cache holds.
    pub(in crate::cpu) read: f64,
    /// Positions behind each line that the sum over the taps computes with it.
    pub(in crate::cpu) behind: usize,
    /// Cycles of a vector of the transform of the input, and of the sums, for tiles of four and of two.
    pub(in crate::cpu) inwards: [f64; 2],
    pub(in crate::cpu) back: [f64; 2],
    /// Whether the transform of the input takes vectors of the tiles of a line, and not of channels.
    pub(in crate::cpu) of_tiles: bool,
}

/// The size of the tiles by which `filters` filters of `channels` channels over `spatial` are computed; `None` where the sum
/// over the taps takes less time, as estimated for one thread.
pub(in crate::cpu) fn choose(
    level: Level,
    costs: &Costs,
    (channels, filters): (usize, usize),
    spatial: &[Span],
) -> Option<usize> {
    if !fits(spatial) || channels.min(filters) < costs.least_channels {
        return None;
    }
    let estimate = |size| f32::run(level, Estimate { costs, size, channels, filters, spatial });
    let best = [4, 2].into_iter().min_by(|&a, &b| estimate(a).total_cmp(&estimate(b)))?;
    (estimate(best) < estimate(1)).then_some(best)
}

/// Cycles of one image by tiles of a size, or by the sum over the taps for size 1.
struct Estimate<'a> {
    costs: &'a Costs,
    size: usize,
    channels: usize,
    filters: usize,
    spatial: &'a [Span],
}

impl Work for Estimate<'_> {
    type Element = f32;
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<f32>>(self, _: S) -> f64 {
        let Self { costs, size, channels, filters, spatial } = self;
        let (lanes, products) = (S::LANES as f64, (channels as f64) * (filters as f64));
        let sums = |points: f64, places: f64| {
            let bytes = points * products * 4.0;
            let read = if bytes > CACHE { bytes / costs.read } else { 0.0 };
            (points * places * products / (2.0 * lanes * costs.reached)).max(read)
        };
        let (height, width) = (spatial[0].output, spatial[1].output);
        if size == 1 {
            return sums(9.0, (height * (width + costs.behind)) as f64);
        }
        let (rows, line) = (height.div_ceil(size), width.div_ceil(size));
        let (points, tiles) = (((size + 2) * (size + 2)) as f64, (rows * line) as f64);
        let [inwards, back] = [costs.inwards, costs.back].map(|cycles| cycles[usize::from(size == 2)]);
        let vectors = if costs.of_tiles { (rows * line.div_ceil(S::LANES)) as f64 } else { tiles / lanes };
        sums(points, tiles) + channels as f64 * vectors * inwards + filters as f64 / lanes * tiles * back
    }
}
