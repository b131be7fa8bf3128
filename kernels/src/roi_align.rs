//! # Regions of images, aligned
//! `y[r, c, i, j]`: the mean, or the largest weighed element, of samples on a regular grid in bin `(i, j)` of region `r` of
//! image `images[r]`, each interpolated linearly between the four nearest elements of channel `c`. A sample further than one
//! element outside the image is 0.
//!
//! A thread makes one element. Coordinates and weights are f64, since the number of samples of a bin jumps where its length
//! is whole; sums are f32, or f64 for f64, of `4 · samples` terms in order. Hazards, which only the data tells: an image
//! that is not there, and a region with more than 65,536 samples along one side of a bin. Either reads nothing: its
//! elements are 0, and the fault word, which the host looks at, becomes 1.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::Global;
use crate::device::math::ceil_f64;
use crate::dtype::DType;
use crate::elements::THREADS;
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::regions::{self, Frame, Regions};
use crate::weighed::Weighed;

/// Samples along one side of a bin at most.
pub const MOST_SAMPLES: f64 = 65_536.0;
/// What is told of a region: left, top, right, bottom.
const TOLD: u32 = 4;

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    frame: Frame,
    /// The image of each region.
    images: Global<u64>,
    /// What is taken off a coordinate.
    shift: f64,
    /// 0: as many as a bin has elements.
    samples: u32,
    /// Whether a region has an extent of at least 1.
    least_one: u32,
    /// Whether the largest weighed element is taken.
    largest: u32,
    /// Unused.
    padding: u32,
}

const _: () = assert!(size_of::<Params>() == 112);

/// A bin along one axis: where it starts, how long it is, and how many samples it has; none where those are too many.
#[inline(always)]
fn side(p: &Params, low: f64, high: f64, bins: u32) -> Option<(f64, f64, u32)> {
    let scale = p.frame.scale;
    let start = low * scale - p.shift;
    let length = high * scale - p.shift - start;
    let length = if p.least_one == 0 || length > 1.0 { length } else { 1.0 };
    let bin = length / f64::from(bins);
    let samples = if p.samples > 0 { f64::from(p.samples) } else { ceil_f64(bin) };
    if samples > MOST_SAMPLES {
        return None;
    }
    Some((start, bin, if samples > 0.0 { samples as u32 } else { 0 }))
}

/// The element below a coordinate, the one above, and how much of the latter; none further than one outside.
#[inline(always)]
fn between(at: f64, extent: u32) -> Option<(u32, u32, f64)> {
    // Written so that what is no number is outside.
    if !(at >= -1.0 && at <= f64::from(extent)) {
        return None;
    }
    let at = if at > 0.0 { at } else { 0.0 };
    let last = extent - 1;
    let low = if (at as u32) < last { at as u32 } else { last };
    if low == last { Some((last, last, 0.0)) } else { Some((low, low + 1, at - f64::from(low))) }
}

/// Every thread.
#[inline(always)]
fn run<S: Weighed>(p: Params) {
    let f = &p.frame;
    f.each::<S>(|bin| {
        let corner = |k: u32| f.told::<S>(bin, k);
        let image = p.images.load(bin.region as usize);
        let (top, high, rows) = side(&p, corner(1), corner(3), f.bins_down)?;
        let (left, wide, columns) = side(&p, corner(0), corner(2), f.bins_across)?;
        if image >= u64::from(f.images) {
            return None;
        }
        let plane = f.plane(bin, image as u32);
        let (mut sum, mut most) = (S::zero(), S::least());
        let within = |bin: u32, k: u32, of: u32| f64::from(bin) + (f64::from(k) + 0.5) / f64::from(of);
        let mut sample = 0;
        while sample < rows {
            let down = between(top + within(bin.row, sample, rows) * high, f.height);
            let mut beside = 0;
            while beside < columns {
                let across = between(left + within(bin.column, beside, columns) * wide, f.width);
                beside += 1;
                let (Some((upper, lower, v)), Some((before, behind, u))) = (down, across) else {
                    most = if S::zero() > most { S::zero() } else { most };
                    continue;
                };
                let mut corner = 0;
                while corner < 4 {
                    let (row, v) = if corner < 2 { (upper, 1.0 - v) } else { (lower, v) };
                    let (column, u) = if corner & 1 == 0 { (before, 1.0 - u) } else { (behind, u) };
                    let at = plane + row * f.width + column;
                    let term = f.element::<S>(at).times(v * u);
                    sum = sum.plus(term);
                    most = if term > most { term } else { most };
                    corner += 1;
                }
            }
            sample += 1;
        }
        let samples = f64::from(rows) * f64::from(columns);
        Some(if samples == 0.0 {
            S::zero()
        } else if p.largest != 0 {
            most
        } else {
            sum.over(samples)
        })
    });
}

entry!(
    /// Sums in f32.
    NARROW = roi_align_narrow(Params): run::<f32>, THREADS, with_spills(64)
);
entry!(
    /// Sums in f64.
    WIDE = roi_align_wide(Params): run::<f64>, THREADS, with_spills(64)
);

/// An alignment as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Align {
    /// The regions.
    pub regions: Regions,
    /// Samples along each side of a bin; 0 for as many as it has elements.
    pub samples: u32,
    /// Whether coordinates are of corners, not of centres, and regions may be smaller than an element.
    pub half_pixel: bool,
    /// Whether the largest weighed element is taken instead of the mean.
    pub largest: bool,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// Images, regions and the result.
    pub frame: regions::Buffers,
    /// The image of each region, of 64 bits.
    pub images: Buffer,
}

impl Align {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        let [from, to] = self.regions.accepts(TOLD)?;
        if from == 0 && to > 0 {
            return Err(Reject::Unsupported { what: "regions of an image without elements" });
        }
        Ok(())
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        let Some((frame, geometry)) = self.regions.prepare(TOLD, &buffers.frame, device)? else {
            return Ok(None);
        };
        buffers.images.holds("images", 8 * u64::from(self.regions.count), 8)?;
        let params = Params {
            frame,
            images: Global::from_address(buffers.images.address),
            shift: if self.half_pixel { 0.5 } else { 0.0 },
            samples: self.samples,
            least_one: u32::from(!self.half_pixel),
            largest: self.largest.into(),
            padding: 0,
        };
        let entry: &'static Entry<Params> = if self.regions.dtype == DType::F64 { &WIDE } else { &NARROW };
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let regions = Regions {
            count: 3,
            images: 1,
            channels: 2,
            extents: [4, 5],
            bins: [2, 1],
            scale: 1.0,
            dtype: DType::F32,
        };
        let shape = Align { regions, samples: 0, half_pixel: true, largest: false };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let frame = regions::Buffers { x: buffer(160), regions: buffer(48), y: buffer(48), fault: buffer(4) };
        let good = Buffers { frame, images: buffer(24) };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { images: buffer(16), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "images", needed: 24, got: 16 }));
        let of = |regions: Regions| Align { regions, ..shape }.accepts();
        assert!(of(Regions { dtype: DType::I32, ..regions }).is_err());
        assert!(of(Regions { images: u32::MAX, ..regions }).is_err());
        assert!(of(Regions { extents: [0, 5], ..regions }).is_err());
    }
}
