//! # Transposed convolutions as convolutions
//! Along an axis of stride `s`, elements of Y whose numbers are equal modulo `s` read X as a convolution at stride 1 does: of the
//! taps `t` with `(q + begin − t·dilation) mod s = 0`, which follow one another `s / gcd(s, dilation)` apart, in reverse. So
//! Y is made by a convolution for each of its phases, `s` to the power of the axes, with weights of its own, which are packed
//! once: every product that counts is made, and no other.
//!
//! The kernels are [`conv`]'s, on tensor cores where they apply, and store at [`Spread`] places.

use super::Shape;
use crate::conv::{self, Axis, Buffers, MOST_AXES, Spread, Variant};
use crate::gemm::Factors;
use crate::launch::{Buffer, Device, Prepared, Reject};

/// Fewest filters of a group: a tile of fewer is mostly empty, and a thread for each element is no slower.
const LEAST_FILTERS: u32 = 16;
/// Most phases: each is a launch.
const MOST_PHASES: u64 = 64;
/// Weights of a phase begin at multiples of so many bytes.
const ALIGNED: u64 = 256;

/// A transposed convolution as launches of the kernels of convolutions.
#[derive(Clone, Debug)]
pub struct Phases {
    shape: Shape,
    factors: Factors,
    /// The kernel.
    pub variant: &'static Variant,
    phases: Vec<Phase>,
}

/// The elements of Y of one phase.
#[derive(Clone, Debug)]
struct Phase {
    shape: conv::Shape,
    places: [Spread; MOST_AXES],
    /// By axis, the taps in the order in which they are multiplied.
    taps: [Vec<u32>; MOST_AXES],
    /// Where its weights begin, in bytes.
    first: u64,
}

/// The convolution along an axis that makes the elements behind `first`; none where no tap reaches them, or where it would
/// begin inside X.
fn along(axis: &Axis, first: u32) -> Option<(Axis, Vec<u32>)> {
    let (stride, dilation) = (i64::from(axis.stride), i64::from(axis.dilation));
    let from = |tap: u32| i64::from(first) + i64::from(axis.begin) - i64::from(tap) * dilation;
    let taps: Vec<u32> = (0..axis.kernel).rev().filter(|&tap| from(tap) % stride == 0).collect();
    // The last tap reads furthest in front, and is the first one of the convolution.
    let furthest = from(*taps.first()?) / stride;
    let apart = taps.windows(2).map(|pair| (from(pair[1]) - from(pair[0])) / stride).next().unwrap_or(1);
    let output = (axis.input - first).div_ceil(axis.stride);
    let kernel = u32::try_from(taps.len()).ok()?;
    let (dilation, begin) = (u32::try_from(apart).ok()?, u32::try_from(-furthest).ok()?);
    Some((Axis { input: axis.output, output, kernel, stride: 1, dilation, begin }, taps))
}

impl Phases {
    /// `shape` as phases, where it has some and they are worth it; factors may be rounded so.
    pub fn choose(shape: &Shape, factors: Factors, device: &Device) -> Option<Self> {
        shape.accepts().ok()?;
        let count = |axis: &Axis| axis.stride.min(axis.input);
        let all = shape.product(count);
        if shape.filters < LEAST_FILTERS || shape.channels == 0 || !(1..=MOST_PHASES).contains(&all) {
            return None;
        }
        let mut made = Self { shape: *shape, factors, variant: conv::VARIANTS.first()?, phases: Vec::new() };
        let [a, b, _] = shape.axes.each_ref().map(count);
        for number in 0..all as u32 {
            let firsts = [number % a, number / a % b, number / a / b];
            let mut phase = Phase {
                shape: conv::Shape {
                    element: shape.element,
                    images: shape.images,
                    groups: shape.groups,
                    channels: shape.channels,
                    filters: shape.filters,
                    axes: [Axis::NONE; MOST_AXES],
                },
                places: [Spread::default(); MOST_AXES],
                taps: Default::default(),
                first: made.packed_bytes(),
            };
            for (at, (axis, first)) in shape.axes.iter().zip(firsts).enumerate() {
                (phase.shape.axes[at], phase.taps[at]) = along(axis, first)?;
                phase.places[at] = Spread { extent: axis.input, first, step: axis.stride };
            }
            made.variant = conv::choose(&phase.shape, factors, true, device).ok()?.0;
            made.phases.push(phase);
        }
        Some(made)
    }

    /// Bytes of the weights as they are read.
    pub fn packed_bytes(&self) -> u64 {
        self.phases.last().map_or(0, |phase| {
            phase.first + self.variant.weight_bytes(&phase.shape).next_multiple_of(ALIGNED)
        })
    }

    /// Packs W, `[groups · channels, filters, taps]`; `packed` has [`Phases::packed_bytes`].
    pub fn pack(&self, weights: &[u8], packed: &mut [u8]) {
        let Shape { element, groups, channels, filters, axes, .. } = self.shape;
        let size = element.bytes() as usize;
        let [groups, channels, filters] = [groups, channels, filters].map(|n| n as usize);
        let all: usize = axes.iter().map(|axis| axis.kernel as usize).product();
        packed.fill(0);
        for phase in &self.phases {
            let mut own = Vec::new();
            for row in 0..groups * filters {
                let (group, filter) = (row / filters, row % filters);
                for channel in 0..channels {
                    let plane = ((group * channels + channel) * filters + filter) * all;
                    let [a, b, c] = &phase.taps;
                    for (i, j, l) in
                        a.iter().flat_map(|i| b.iter().flat_map(move |j| c.iter().map(move |l| (i, j, l))))
                    {
                        let tap = (i * axes[1].kernel + j) * axes[2].kernel + l;
                        let at = (plane + tap as usize) * size;
                        own.extend_from_slice(&weights[at..at + size]);
                    }
                }
            }
            let bytes = self.variant.weight_bytes(&phase.shape) as usize;
            self.variant.pack(&phase.shape, &own, &mut packed[phase.first as usize..][..bytes]);
        }
    }

    /// The launches, which write Y together.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Vec<Prepared<conv::Params>>, Reject> {
        buffers.w.holds("w", self.packed_bytes(), ALIGNED.min(16))?;
        let launches = self.phases.iter().map(|phase| {
            let bytes = self.variant.weight_bytes(&phase.shape);
            let w = Buffer { address: buffers.w.address + phase.first, bytes };
            let buffers = Buffers { w, ..*buffers };
            self.variant.prepare_at(&phase.shape, self.factors, phase.places, &buffers, device)
        });
        launches.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;
    use crate::element::Element;

    #[test]
    fn phases_are_taken_where_tiles_are_filled_and_every_element_is_reached() {
        let axis = Axis { input: 8, output: 4, kernel: 4, stride: 2, dilation: 1, begin: 1 };
        let axes = [Axis::NONE, axis, axis];
        let shape = Shape { element: Element::F16, images: 1, groups: 1, channels: 8, filters: 16, axes };
        let chosen = |shape: &Shape| Phases::choose(shape, Factors::Own, &EMULATED);
        let phases = chosen(&shape).expect("phases");
        assert_eq!((phases.variant.id, phases.phases.len()), ("tensor_f16", 4));
        // A quarter of the taps each.
        assert_eq!(phases.packed_bytes(), 4 * 16 * 8 * 4 * 2);
        let [_, _, c] = &phases.phases[0].taps;
        assert_eq!(c, &[3, 1]);
        assert!(chosen(&Shape { filters: 15, ..shape }).is_none(), "mostly empty tiles");
        let short = Axis { kernel: 1, ..axis };
        assert!(chosen(&Shape { axes: [Axis::NONE, axis, short], ..shape }).is_none(), "out of reach");
        let inside = Axis { input: 2, begin: 5, ..axis };
        assert!(chosen(&Shape { axes: [Axis::NONE, axis, inside], ..shape }).is_none(), "begins inside X");
    }
}
