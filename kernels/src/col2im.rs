//! # Columns back to images
//! `y[m, i…] = Σ x[m, k…, p…]` over the offsets `k` of a block and its places `p` with `p·stride + k·dilation − pad = i` on each
//! of up to three axes; `m` counts images and their channels.
//!
//! A thread makes one element and gathers its terms in the order of the offsets, so that nothing is added twice into the
//! same place. Sums are f32 of floats of 32 bits and less, f64 of f64; those of integers wrap. At most as many roundings as
//! a block has offsets.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::Global;
use crate::device::math::divide;
use crate::dtype::DType;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::map::interpreter::{load_one, store_one};
use crate::weighed::Weighed;

/// Most axes of an image.
pub const MOST_AXES: usize = 3;

/// One axis of images and blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Axis {
    /// Elements of the image.
    pub image: u32,
    /// Offsets of the block.
    pub block: u32,
    /// Elements between neighbouring places.
    pub stride: u32,
    /// Elements between neighbouring offsets.
    pub dilation: u32,
    /// Elements ahead of the image.
    pub pad: u32,
    /// Places of the block.
    pub places: u32,
}

impl Axis {
    /// An axis that is not there.
    pub const NONE: Self = Self { image: 1, block: 1, stride: 1, dilation: 1, pad: 0, places: 1 };

    /// The place at which offset `k` meets element `i`, if there is one.
    #[inline(always)]
    fn place(&self, i: u32, k: u32) -> Option<u32> {
        let (at, moved) = (i + self.pad, k * self.dilation);
        if at < moved {
            return None;
        }
        let (place, rest) = divide(at - moved, self.stride);
        if rest == 0 && place < self.places { Some(place) } else { None }
    }
}

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    axes: [Axis; MOST_AXES],
    dtype: u32,
    /// Bytes of an element.
    size: u32,
    elements: Elements,
}

const _: () = assert!(size_of::<Params>() == 104);

/// What terms are added in.
trait Sum: Copy {
    fn zero() -> Self;
    fn load(p: &Params, index: usize) -> Self;
    fn plus(self, other: Self) -> Self;
    fn store(self, p: &Params, index: usize);
}

/// A sum of floats.
#[derive(Clone, Copy)]
struct Float<S>(S);

impl<S: Weighed> Sum for Float<S> {
    #[inline(always)]
    fn zero() -> Self {
        Self(S::zero())
    }

    #[inline(always)]
    #[track_caller]
    fn load(p: &Params, index: usize) -> Self {
        Self(S::load(p.x, p.dtype, index))
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(self.0.plus(other.0))
    }

    #[inline(always)]
    #[track_caller]
    fn store(self, p: &Params, index: usize) {
        self.0.store(p.y, p.dtype, index);
    }
}

/// A sum of integers, of which the lowest bits count.
#[derive(Clone, Copy)]
struct Whole(u64);

impl Sum for Whole {
    #[inline(always)]
    fn zero() -> Self {
        Self(0)
    }

    #[inline(always)]
    #[track_caller]
    fn load(p: &Params, index: usize) -> Self {
        Self(load_one(p.x, p.size, index))
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    #[inline(always)]
    #[track_caller]
    fn store(self, p: &Params, index: usize) {
        store_one(p.y, p.size, index, self.0);
    }
}

/// Every thread.
#[inline(always)]
fn run<S: Sum>(p: Params) {
    let [a, b, c] = p.axes;
    p.elements.each(|number| {
        let (rest, k) = divide(number, c.image);
        let (rest, j) = divide(rest, b.image);
        let (matrix, i) = divide(rest, a.image);
        let mut sum = S::zero();
        let mut first = 0;
        while first < a.block {
            let along = a.place(i, first);
            let mut second = 0;
            while second < b.block {
                let across = b.place(j, second);
                let mut third = 0;
                while third < c.block {
                    if let (Some(along), Some(across), Some(last)) = (along, across, c.place(k, third)) {
                        let offset = ((matrix * a.block + first) * b.block + second) * c.block + third;
                        let place = (along * b.places + across) * c.places + last;
                        let columns = a.places * b.places * c.places;
                        sum = sum.plus(S::load(&p, (offset * columns + place) as usize));
                    }
                    third += 1;
                }
                second += 1;
            }
            first += 1;
        }
        sum.store(&p, number as usize);
    });
}

entry!(
    /// Sums in f32.
    NARROW = col2im_narrow(Params): run::<Float<f32>>, THREADS
);
entry!(
    /// Sums in f64.
    WIDE = col2im_wide(Params): run::<Float<f64>>, THREADS, with_spills(16)
);
entry!(
    /// Integers.
    WHOLE = col2im_whole(Params): run::<Whole>, THREADS
);

/// Columns and images as the caller describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Columns {
    /// Images times their channels.
    pub matrices: u32,
    /// The axes, [`Axis::NONE`] where there are fewer.
    pub axes: [Axis; MOST_AXES],
    /// Type of both.
    pub dtype: DType,
}

impl Columns {
    /// Whether there is a kernel for it; the elements of X and Y.
    pub fn accepts(&self) -> Result<[u64; 2], Reject> {
        if !self.dtype.is_float() && !self.dtype.is_int() || self.dtype.bits() < 8 {
            return Err(Reject::ElementType { operand: "x" });
        }
        let product = |of: fn(&Axis) -> u64| {
            let got = self.axes.iter().fold(u64::from(self.matrices), |n, axis| n.saturating_mul(of(axis)));
            elements::limit("elements", got).map(|()| got)
        };
        let from = product(|axis| u64::from(axis.block) * u64::from(axis.places))?;
        let to = product(|axis| axis.image.into())?;
        for axis in &self.axes {
            let reach = u64::from(axis.image) + u64::from(axis.pad);
            elements::limit("elements of an axis", reach)?;
            elements::limit("elements of a block", u64::from(axis.block) * u64::from(axis.dilation))?;
            if axis.stride == 0 {
                return Err(Reject::Unsupported { what: "places that do not move" });
            }
        }
        Ok([from, to])
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, [x, y]: [Buffer; 2], device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        let [from, to] = self.accepts()?;
        if to == 0 {
            return Ok(None);
        }
        let size = self.dtype.bits() as u64 / 8;
        x.holds("x", from * size, size)?;
        y.holds("y", to * size, size)?;
        let (elements, geometry) = Elements::on(device, to);
        let params = Params {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            axes: self.axes,
            dtype: self.dtype as u32,
            size: size as u32,
            elements,
        };
        let entry: &'static Entry<Params> = match self.dtype {
            DType::F64 => &WIDE,
            dtype if dtype.is_float() => &NARROW,
            _ => &WHOLE,
        };
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let axis = Axis { image: 5, block: 2, places: 4, ..Axis::NONE };
        let shape = Columns { matrices: 2, axes: [Axis::NONE, Axis::NONE, axis], dtype: DType::F32 };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        assert!(shape.prepare([buffer(64), buffer(40)], &EMULATED).is_ok());
        let short = shape.prepare([buffer(60), buffer(40)], &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "x", needed: 64, got: 60 }));
        assert!(Columns { dtype: DType::Bool, ..shape }.accepts().is_err());
        let fixed = Axis { stride: 0, ..axis };
        assert!(Columns { axes: [Axis::NONE, Axis::NONE, fixed], ..shape }.accepts().is_err());
        assert!(Columns { matrices: u32::MAX, ..shape }.accepts().is_err());
    }
}
