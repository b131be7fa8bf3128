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

use crate::device::math::trunc_f64;
use crate::dtype::DType;
use crate::elements::THREADS;
use crate::entry;
use crate::launch::{Device, Entry, Prepared, Reject};
use crate::regions::{Buffers, Frame, Regions};
use crate::weighed::Weighed;

/// Most bins along an axis, so that no product of one with a region's extent is beyond 64 bits.
pub const MOST_BINS: u32 = 1 << 20;
/// The farthest corner.
const FARTHEST: f64 = 1e12;
/// What is told of a region: image, left, top, right, bottom.
const TOLD: u32 = 5;

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    frame: Frame,
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
    let f = &p.frame;
    f.each::<S>(|bin| {
        let told = |k: u32| f.told::<S>(bin, k);
        let image = told(0);
        // Written so that what is no number is not there.
        if !(image >= 0.0 && image < f64::from(f.images)) {
            return None;
        }
        let corners = |low: u32| (corner(told(low), f.scale), corner(told(low + 2), f.scale));
        let (mut at, bottom) = covered(corners(2), (bin.row, f.bins_down), f.height);
        let (left, right) = covered(corners(1), (bin.column, f.bins_across), f.width);
        let plane = f.plane(bin, image as u32);
        let (mut most, mut any) = (S::zero(), false);
        while at < bottom {
            let mut beside = left;
            while beside < right {
                let here = f.element::<S>(plane + at * f.width + beside);
                most = if !any || here > most { here } else { most };
                any = true;
                beside += 1;
            }
            at += 1;
        }
        Some(most)
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

/// Whether there is a kernel for the largest elements of such regions.
pub fn accepts(regions: &Regions) -> Result<(), Reject> {
    for bins in regions.bins {
        if bins > MOST_BINS {
            return Err(Reject::Extent { name: "bins", got: bins.into(), limit: MOST_BINS.into() });
        }
    }
    regions.accepts(TOLD).map(|_| ())
}

/// A launch that has been checked; nothing is to be done where Y is empty.
pub fn prepare(
    regions: &Regions,
    buffers: &Buffers,
    device: &Device,
) -> Result<Option<Prepared<Params>>, Reject> {
    accepts(regions)?;
    let Some((frame, geometry)) = regions.prepare(TOLD, buffers, device)? else { return Ok(None) };
    let entry: &'static Entry<Params> = if regions.dtype == DType::F64 { &WIDE } else { &NARROW };
    Prepared::new(entry, geometry, Params { frame }, device).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;
    use crate::launch::Buffer;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Regions {
            count: 3,
            images: 1,
            channels: 2,
            extents: [4, 5],
            bins: [2, 1],
            scale: 1.0,
            dtype: DType::F32,
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(160), regions: buffer(60), y: buffer(48), fault: buffer(4) };
        assert!(prepare(&shape, &good, &EMULATED).is_ok());
        let short = prepare(&shape, &Buffers { regions: buffer(48), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "regions", needed: 60, got: 48 }));
        assert!(accepts(&Regions { dtype: DType::I32, ..shape }).is_err());
        assert!(accepts(&Regions { bins: [1 << 21, 1], ..shape }).is_err());
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
