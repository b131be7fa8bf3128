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
use crate::device::atomic::Scope;
use crate::device::math::{ceil_f64, divide};
use crate::dtype::DType;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::weighed::Weighed;

/// Samples along one side of a bin at most.
pub const MOST_SAMPLES: f64 = 65_536.0;

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    /// Regions: left, top, right, bottom, of the type of X.
    regions: Global<u8>,
    /// The image of each region.
    images: Global<u64>,
    y: Global<u8>,
    fault: Global<u32>,
    scale: f64,
    /// What is taken off a coordinate.
    shift: f64,
    count: u32,
    channels: u32,
    height: u32,
    width: u32,
    bins_down: u32,
    bins_across: u32,
    /// 0: as many as a bin has elements.
    samples: u32,
    /// Whether a region has an extent of at least 1.
    least_one: u32,
    /// Whether the largest weighed element is taken.
    largest: u32,
    dtype: u32,
    elements: Elements,
}

const _: () = assert!(size_of::<Params>() == 104);

/// A bin along one axis: where it starts, how long it is, and how many samples it has; none where those are too many.
#[inline(always)]
fn side(p: &Params, low: f64, high: f64, bins: u32) -> Option<(f64, f64, u32)> {
    let start = low * p.scale - p.shift;
    let length = high * p.scale - p.shift - start;
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
    p.elements.each(|number| {
        let (rest, column) = divide(number, p.bins_across);
        let (rest, row) = divide(rest, p.bins_down);
        let (region, channel) = divide(rest, p.channels);
        let corner = |k: u32| S::load(p.regions, p.dtype, (4 * region + k) as usize).real();
        let image = p.images.load(region as usize);
        let down = side(&p, corner(1), corner(3), p.bins_down);
        let across = side(&p, corner(0), corner(2), p.bins_across);
        let (Some((top, high, rows)), Some((left, wide, columns)), true) =
            (down, across, image < u64::from(p.count))
        else {
            p.fault.store_relaxed(0, 1, Scope::System);
            S::zero().store(p.y, p.dtype, number as usize);
            return;
        };
        let plane = (image as u32 * p.channels + channel) * p.height * p.width;
        let (mut sum, mut most) = (S::zero(), S::least());
        let within = |bin: u32, k: u32, of: u32| f64::from(bin) + (f64::from(k) + 0.5) / f64::from(of);
        let mut sample = 0;
        while sample < rows {
            let down = between(top + within(row, sample, rows) * high, p.height);
            let mut beside = 0;
            while beside < columns {
                let across = between(left + within(column, beside, columns) * wide, p.width);
                beside += 1;
                let (Some((upper, lower, v)), Some((before, behind, u))) = (down, across) else {
                    most = if S::zero() > most { S::zero() } else { most };
                    continue;
                };
                let mut corner = 0;
                while corner < 4 {
                    let (row, v) = if corner < 2 { (upper, 1.0 - v) } else { (lower, v) };
                    let (column, u) = if corner & 1 == 0 { (before, 1.0 - u) } else { (behind, u) };
                    let at = plane + row * p.width + column;
                    let term = S::load(p.x, p.dtype, at as usize).times(v * u);
                    sum = sum.plus(term);
                    most = if term > most { term } else { most };
                    corner += 1;
                }
            }
            sample += 1;
        }
        let samples = f64::from(rows) * f64::from(columns);
        let made = if samples == 0.0 {
            S::zero()
        } else if p.largest != 0 {
            most
        } else {
            sum.over(samples)
        };
        made.store(p.y, p.dtype, number as usize);
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

/// Regions as the caller describes them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Align {
    /// How many regions.
    pub regions: u32,
    /// How many images.
    pub images: u32,
    /// Channels of an image.
    pub channels: u32,
    /// Its rows and columns.
    pub extents: [u32; 2],
    /// Bins of a region, down and across.
    pub bins: [u32; 2],
    /// Samples along each side of a bin; 0 for as many as it has elements.
    pub samples: u32,
    /// What coordinates are multiplied with.
    pub scale: f64,
    /// Whether coordinates are of corners, not of centres, and regions may be smaller than an element.
    pub half_pixel: bool,
    /// Whether the largest weighed element is taken instead of the mean.
    pub largest: bool,
    /// Type of images, regions and the result.
    pub dtype: DType,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// The images.
    pub x: Buffer,
    /// The regions.
    pub regions: Buffer,
    /// Their images, of 64 bits.
    pub images: Buffer,
    /// The result.
    pub y: Buffer,
    /// A word that becomes 1 where data asks for what is not there; the host sets it to 0.
    pub fault: Buffer,
}

impl Align {
    /// Whether there is a kernel for it; the elements of X and Y.
    pub fn accepts(&self) -> Result<[u64; 2], Reject> {
        if !matches!(self.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Reject::ElementType { operand: "x" });
        }
        let product = |factors: [u32; 4]| {
            let got = factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor.into()));
            elements::limit("elements", got).map(|()| got)
        };
        let from = product([self.images, self.channels, self.extents[0], self.extents[1]])?;
        let to = product([self.regions, self.channels, self.bins[0], self.bins[1]])?;
        product([self.regions, 4, 1, 1])?;
        if from == 0 && to > 0 {
            return Err(Reject::Unsupported { what: "regions of an image without elements" });
        }
        Ok([from, to])
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        let [from, to] = self.accepts()?;
        if to == 0 {
            return Ok(None);
        }
        let size = self.dtype.bits() as u64 / 8;
        buffers.x.holds("x", from * size, size)?;
        buffers.regions.holds("regions", 4 * u64::from(self.regions) * size, size)?;
        buffers.images.holds("images", 8 * u64::from(self.regions), 8)?;
        buffers.y.holds("y", to * size, size)?;
        buffers.fault.holds("fault", 4, 4)?;
        let (elements, geometry) = Elements::on(device, to);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            regions: Global::from_address(buffers.regions.address),
            images: Global::from_address(buffers.images.address),
            y: Global::from_address(buffers.y.address),
            fault: Global::from_address(buffers.fault.address),
            scale: self.scale,
            shift: if self.half_pixel { 0.5 } else { 0.0 },
            count: self.images,
            channels: self.channels,
            height: self.extents[0],
            width: self.extents[1],
            bins_down: self.bins[0],
            bins_across: self.bins[1],
            samples: self.samples,
            least_one: u32::from(!self.half_pixel),
            largest: self.largest.into(),
            dtype: self.dtype as u32,
            elements,
        };
        let entry: &'static Entry<Params> = if self.dtype == DType::F64 { &WIDE } else { &NARROW };
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Align {
            regions: 3,
            images: 1,
            channels: 2,
            extents: [4, 5],
            bins: [2, 1],
            samples: 0,
            scale: 1.0,
            half_pixel: true,
            largest: false,
            dtype: DType::F32,
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers {
            x: buffer(160),
            regions: buffer(48),
            images: buffer(24),
            y: buffer(48),
            fault: buffer(4),
        };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { images: buffer(16), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "images", needed: 24, got: 16 }));
        assert!(Align { dtype: DType::I32, ..shape }.accepts().is_err());
        assert!(Align { images: u32::MAX, ..shape }.accepts().is_err());
        assert!(Align { extents: [0, 5], ..shape }.accepts().is_err());
    }
}
