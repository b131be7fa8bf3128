//! # Columns of moved windows
//! `y[m, c, t, p] = mask · x[m, c]` at `p·stride + t·dilation − pad + offset` on each of up to three axes, interpolated
//! linearly, 0 outside: the right matrices of the products that a deformable convolution is. Offsets and masks have a group
//! of channels each.
//!
//! A thread makes one element, neighbours those of neighbouring positions. Coordinates and weights are f64, sums of at most
//! 8 terms f32, or f64 for f64.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::Global;
use crate::device::math::{divide, floor_f64};
use crate::dtype::DType;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::weighed::Weighed;

/// Most axes.
pub const MOST_AXES: usize = 3;

/// One axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Axis {
    /// Elements of the image.
    pub input: u32,
    /// Positions of the window.
    pub output: u32,
    /// Taps of the window.
    pub kernel: u32,
    /// Elements between neighbouring positions.
    pub stride: u32,
    /// Elements between neighbouring taps.
    pub dilation: u32,
    /// Elements ahead of the image.
    pub pad: u32,
}

impl Axis {
    /// An axis that is not there.
    pub const NONE: Self = Self { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, pad: 0 };
}

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    offsets: Global<u8>,
    /// Null where nothing is weighed.
    masks: Global<u8>,
    y: Global<u8>,
    axes: [Axis; MOST_AXES],
    channels: u32,
    /// Channels that one group of offsets is for, and how many groups there are.
    per_group: u32,
    groups: u32,
    taps: u32,
    positions: u32,
    /// How many of the last axes have offsets.
    rank: u32,
    dtype: u32,
    elements: Elements,
    /// Unused.
    padding: u32,
}

const _: () = assert!(size_of::<Params>() == 144);

/// The element below a coordinate and how far it is above it; none where all around is outside.
#[inline(always)]
fn cell(at: f64, extent: u32) -> Option<(i32, f64)> {
    // Written so that what is no number is outside.
    if !(at > -1.0 && at < f64::from(extent)) {
        return None;
    }
    let low = floor_f64(at);
    Some((low as i32, at - low))
}

/// Every thread.
#[inline(always)]
fn run<S: Weighed>(p: Params) {
    let [a, b, c] = p.axes;
    p.elements.each(|number| {
        let (rest, position) = divide(number, p.positions);
        let (rest, tap) = divide(rest, p.taps);
        let (image, channel) = divide(rest, p.channels);
        let (group, _) = divide(channel, p.per_group);
        let field = (image * p.groups + group) * p.taps + tap;
        let moved = |axis: u32| {
            let of_last = axis + p.rank;
            if of_last < MOST_AXES as u32 {
                return 0.0;
            }
            let row = field * p.rank + (of_last - MOST_AXES as u32);
            S::load(p.offsets, p.dtype, (row * p.positions + position) as usize).real()
        };
        let (place, k) = divide(position, c.output);
        let (i, j) = divide(place, b.output);
        let (place, z) = divide(tap, c.kernel);
        let (x, y) = divide(place, b.kernel);
        let at = |axis: Axis, place: u32, tap: u32, shift: f64| {
            let base = f64::from(place * axis.stride + tap * axis.dilation) - f64::from(axis.pad);
            cell(base + shift, axis.input)
        };
        let cells = (at(a, i, x, moved(0)), at(b, j, y, moved(1)), at(c, k, z, moved(2)));
        let mut sum = S::zero();
        if let (Some((i, u)), Some((j, v)), Some((k, w))) = cells {
            let mut corner = 0;
            while corner < 8 {
                let one = |low: i32, part: f64, bit: i32, extent: u32| {
                    let up = corner >> bit & 1;
                    let weight = if up == 1 { part } else { 1.0 - part };
                    let inside = low + up >= 0 && low + up < extent as i32;
                    (if inside { weight } else { 0.0 }, (low + up) as u32)
                };
                let ((u, i), (v, j), (w, k)) =
                    (one(i, u, 2, a.input), one(j, v, 1, b.input), one(k, w, 0, c.input));
                let weight = u * v * w;
                if weight != 0.0 {
                    let plane = image * p.channels + channel;
                    let place = ((plane * a.input + i) * b.input + j) * c.input + k;
                    sum = sum.plus(S::load(p.x, p.dtype, place as usize).times(weight));
                }
                corner += 1;
            }
        }
        if !p.masks.is_null() {
            let mask = S::load(p.masks, p.dtype, (field * p.positions + position) as usize);
            sum = sum.times(mask.real());
        }
        sum.store(p.y, p.dtype, number as usize);
    });
}

entry!(
    /// Sums in f32.
    NARROW = deform_narrow(Params): run::<f32>, THREADS
);
entry!(
    /// Sums in f64.
    WIDE = deform_wide(Params): run::<f64>, THREADS, with_spills(64)
);

/// Windows as the caller describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// How many images.
    pub images: u32,
    /// Channels of an image.
    pub channels: u32,
    /// Groups of channels with offsets of their own.
    pub groups: u32,
    /// The axes; those that are not there are the first ones and [`Axis::NONE`].
    pub axes: [Axis; MOST_AXES],
    /// How many axes there are.
    pub rank: u32,
    /// Type of everything.
    pub dtype: DType,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// The images.
    pub x: Buffer,
    /// The offsets.
    pub offsets: Buffer,
    /// The masks; absent where nothing is weighed.
    pub masks: Option<Buffer>,
    /// The columns.
    pub y: Buffer,
}

impl Windows {
    /// Whether there is a kernel for it; the elements of X, of masks, and of Y.
    pub fn accepts(&self) -> Result<[u64; 3], Reject> {
        if !matches!(self.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Reject::ElementType { operand: "x" });
        }
        if self.groups == 0 || !self.channels.is_multiple_of(self.groups) {
            return Err(Reject::Unsupported { what: "groups that do not fill the channels" });
        }
        if !(1..=MOST_AXES as u32).contains(&self.rank) {
            return Err(Reject::Unsupported { what: "windows over so many axes" });
        }
        let product = |first: u32, of: fn(&Axis) -> u64| {
            let start = u64::from(self.images).saturating_mul(first.into());
            let got = self.axes.iter().fold(start, |n, axis| n.saturating_mul(of(axis)));
            elements::limit("elements", got).map(|()| got)
        };
        for axis in &self.axes {
            let steps = u64::from(axis.output).saturating_mul(axis.stride.into());
            let taps = u64::from(axis.kernel).saturating_mul(axis.dilation.into());
            elements::limit("elements that a window reaches", steps.saturating_add(taps))?;
        }
        let from = product(self.channels, |axis| axis.input.into())?;
        let fields = product(self.groups, |axis| u64::from(axis.kernel) * u64::from(axis.output))?;
        elements::limit("offsets", fields.saturating_mul(self.rank.into()))?;
        let to = product(self.channels, |axis| u64::from(axis.kernel) * u64::from(axis.output))?;
        Ok([from, fields, to])
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        let [from, fields, to] = self.accepts()?;
        if to == 0 {
            return Ok(None);
        }
        let size = self.dtype.bits() as u64 / 8;
        buffers.x.holds("x", from * size, size)?;
        buffers.offsets.holds("offsets", fields * u64::from(self.rank) * size, size)?;
        if let Some(masks) = &buffers.masks {
            masks.holds("masks", fields * size, size)?;
        }
        buffers.y.holds("y", to * size, size)?;
        let (elements, geometry) = Elements::on(device, to);
        let product = |of: fn(&Axis) -> u32| self.axes.iter().map(of).product::<u32>();
        let params = Params {
            x: Global::from_address(buffers.x.address),
            offsets: Global::from_address(buffers.offsets.address),
            masks: Global::from_address(buffers.masks.map_or(0, |masks| masks.address)),
            y: Global::from_address(buffers.y.address),
            axes: self.axes,
            channels: self.channels,
            per_group: self.channels / self.groups,
            groups: self.groups,
            taps: product(|axis| axis.kernel),
            positions: product(|axis| axis.output),
            rank: self.rank,
            dtype: self.dtype as u32,
            elements,
            padding: 0,
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
        let axis = Axis { input: 5, output: 4, kernel: 2, ..Axis::NONE };
        let shape = Windows {
            images: 1,
            channels: 2,
            groups: 1,
            axes: [Axis::NONE, Axis::NONE, axis],
            rank: 1,
            dtype: DType::F32,
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(40), offsets: buffer(32), masks: Some(buffer(32)), y: buffer(64) };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { masks: Some(buffer(16)), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "masks", needed: 32, got: 16 }));
        assert!(Windows { groups: 3, ..shape }.accepts().is_err());
        assert!(Windows { rank: 4, ..shape }.accepts().is_err());
        assert!(Windows { dtype: DType::I64, ..shape }.accepts().is_err());
    }
}
