//! # The largest elements of regions
//! `y[r, c, i, j]`: the largest element of channel `c` in bin `(i, j)` of region `r = (image, left, top, right, bottom)`,
//! 0 where none is in it. Corners are scaled and rounded, half away from zero; bin `i` of `n` over `l` elements covers
//! those from `⌊i·l/n⌋` up to `⌈(i + 1)·l/n⌉` of it that the image has.
//!
//! A thread makes one element. Coordinates are f64, then 64-bit integers; a corner beyond ±10¹² counts as there. Exact.
//! Hazard, which only the data tells: an image that is not there. It reads nothing: its elements are 0, and the fault word
//! becomes 1.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::Global;
use crate::device::atomic::Scope;
use crate::device::math::{divide, trunc_f64};
use crate::dtype::DType;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::weighed::Weighed;

/// Most bins along an axis, so that no product of one with a region's extent is beyond 64 bits.
pub const MOST_BINS: u32 = 1 << 20;
/// The farthest corner.
const FARTHEST: f64 = 1e12;

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    /// Regions: image, left, top, right, bottom, of the type of X.
    regions: Global<u8>,
    y: Global<u8>,
    fault: Global<u32>,
    scale: f64,
    images: u32,
    channels: u32,
    height: u32,
    width: u32,
    bins_down: u32,
    bins_across: u32,
    dtype: u32,
    elements: Elements,
}

const _: () = assert!(size_of::<Params>() == 80);

/// The element that a coordinate is rounded to.
#[inline(always)]
fn corner(at: f64, scale: f64) -> i64 {
    let at = at * scale;
    let whole = trunc_f64(at);
    let rest = at - whole;
    let rounded = if rest >= 0.5 {
        whole + 1.0
    } else if rest <= -0.5 {
        whole - 1.0
    } else {
        whole
    };
    let rounded = if rounded > FARTHEST { FARTHEST } else { rounded };
    (if rounded < -FARTHEST { -FARTHEST } else { rounded }) as i64
}

/// The elements of a bin, first and behind the last, of an axis of `extent`.
#[inline(always)]
fn covered((low, high): (i64, i64), (bin, bins): (u32, u32), extent: u32) -> (u32, u32) {
    let length = if high < low { 1 } else { (high - low + 1) as u64 };
    let part = |number: u64| number.checked_div(bins.into()).unwrap_or(0) as i64;
    let inside = |at: i64| {
        let at = if at < 0 { 0 } else { at };
        if at > i64::from(extent) { extent } else { at as u32 }
    };
    let first = low + part(u64::from(bin) * length);
    let end = low + part((u64::from(bin) + 1) * length + (u64::from(bins) - 1));
    (inside(first), inside(end))
}

/// Every thread.
#[inline(always)]
fn run<S: Weighed>(p: Params) {
    p.elements.each(|number| {
        let (rest, column) = divide(number, p.bins_across);
        let (rest, row) = divide(rest, p.bins_down);
        let (region, channel) = divide(rest, p.channels);
        let told = |k: u32| S::load(p.regions, p.dtype, (5 * region + k) as usize).real();
        let image = told(0);
        // Written so that what is no number is not there.
        if !(image >= 0.0 && image < f64::from(p.images)) {
            p.fault.store_relaxed(0, 1, Scope::System);
            S::zero().store(p.y, p.dtype, number as usize);
            return;
        }
        let corners = |low: u32| (corner(told(low), p.scale), corner(told(low + 2), p.scale));
        let (mut at, bottom) = covered(corners(2), (row, p.bins_down), p.height);
        let (left, right) = covered(corners(1), (column, p.bins_across), p.width);
        let plane = (image as u32 * p.channels + channel) * p.height * p.width;
        let (mut most, mut any) = (S::zero(), false);
        while at < bottom {
            let mut beside = left;
            while beside < right {
                let here = S::load(p.x, p.dtype, (plane + at * p.width + beside) as usize);
                most = if !any || here > most { here } else { most };
                any = true;
                beside += 1;
            }
            at += 1;
        }
        most.store(p.y, p.dtype, number as usize);
    });
}

entry!(
    /// Floats of 32 bits and less.
    NARROW = roi_max_narrow(Params): run::<f32>, THREADS, with_spills(16)
);
entry!(
    /// Floats of 64 bits.
    WIDE = roi_max_wide(Params): run::<f64>, THREADS, with_spills(64)
);

/// Regions as the caller describes them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Largest {
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
    /// What coordinates are multiplied with.
    pub scale: f64,
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
    /// The result.
    pub y: Buffer,
    /// A word that becomes 1 where data asks for what is not there; the host sets it to 0.
    pub fault: Buffer,
}

impl Largest {
    /// Whether there is a kernel for it; the elements of X and Y.
    pub fn accepts(&self) -> Result<[u64; 2], Reject> {
        if !matches!(self.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Reject::ElementType { operand: "x" });
        }
        for bins in self.bins {
            if bins > MOST_BINS {
                return Err(Reject::Extent { name: "bins", got: bins.into(), limit: MOST_BINS.into() });
            }
        }
        let product = |factors: [u32; 4]| {
            let got = factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor.into()));
            elements::limit("elements", got).map(|()| got)
        };
        let from = product([self.images, self.channels, self.extents[0], self.extents[1]])?;
        let to = product([self.regions, self.channels, self.bins[0], self.bins[1]])?;
        product([self.regions, 5, 1, 1])?;
        Ok([from, to])
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        let [from, to] = self.accepts()?;
        if to == 0 {
            return Ok(None);
        }
        let size = self.dtype.bits() as u64 / 8;
        if from > 0 {
            buffers.x.holds("x", from * size, size)?;
        }
        buffers.regions.holds("regions", 5 * u64::from(self.regions) * size, size)?;
        buffers.y.holds("y", to * size, size)?;
        buffers.fault.holds("fault", 4, 4)?;
        let (elements, geometry) = Elements::on(device, to);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            regions: Global::from_address(buffers.regions.address),
            y: Global::from_address(buffers.y.address),
            fault: Global::from_address(buffers.fault.address),
            scale: self.scale,
            images: self.images,
            channels: self.channels,
            height: self.extents[0],
            width: self.extents[1],
            bins_down: self.bins[0],
            bins_across: self.bins[1],
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
        let shape = Largest {
            regions: 3,
            images: 1,
            channels: 2,
            extents: [4, 5],
            bins: [2, 1],
            scale: 1.0,
            dtype: DType::F32,
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(160), regions: buffer(60), y: buffer(48), fault: buffer(4) };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { regions: buffer(48), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "regions", needed: 60, got: 48 }));
        assert!(Largest { dtype: DType::I32, ..shape }.accepts().is_err());
        assert!(Largest { bins: [1 << 21, 1], ..shape }.accepts().is_err());
    }

    #[test]
    fn corners_are_rounded_half_away_from_zero() {
        for at in [0.5, -0.5, 1.4999, 2.5, -2.5, 1e300, f64::NEG_INFINITY, f64::NAN, 4_503_599_627_370_495.5]
        {
            let want = at.round().clamp(-FARTHEST, FARTHEST) as i64;
            assert_eq!(corner(at, 1.0), want, "{at}");
        }
    }
}
