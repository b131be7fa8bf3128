//! # Transposed convolutions
//! `y[n, f, q] = b[f] + Σ_{c, t : q + begin − t·dilation = p·stride} w[c, f, t] · x[n, c, p]` over up to three spatial axes, per
//! group: the adjoint of the convolution that reads Y. Output positions that no tap reaches are the bias.
//!
//! Where a group has filters enough and weights are packed, its phases are convolutions ([`phases`]). Else a thread makes one
//! element of Y: it tries every tap, of which one in `stride` reaches it along an axis, and goes over the
//! channels of those that do.
//!
//! What spills is a few words of the position, once per element. Sums are f32, over the taps first and the channels of each;
//! at most `(k + 2) · 2⁻²⁴ · Σ|w·x|` off.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

#[cfg(not(target_arch = "nvptx64"))]
pub mod phases;

use crate::conv::{Axis, MOST_AXES};
use crate::device::math::divide;
use crate::device::{BF16, F16, Global};
use crate::element::{Element, Real};
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    w: Global<u8>,
    /// Null: zero.
    bias: Global<u8>,
    y: Global<u8>,
    /// Of the convolution that reads Y: its input is Y, its output X.
    axes: [Axis; MOST_AXES],
    /// Filters and channels of a group.
    filters: u32,
    channels: u32,
    groups: u32,
    /// Taps, and elements of a plane of X.
    taps: u32,
    plane: u32,
    /// Of Y.
    elements: Elements,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 136);

/// The position of X that tap `tap` brings to `place` of Y, if there is one.
#[inline(always)]
fn source(axis: &Axis, place: u32, tap: u32) -> Option<u32> {
    let (reach, moved) = (place + axis.begin, tap * axis.dilation);
    if moved > reach {
        return None;
    }
    let (position, rest) = divide(reach - moved, axis.stride);
    if rest == 0 && position < axis.output { Some(position) } else { None }
}

/// Every thread.
#[inline(always)]
fn run<T: Real>(p: Params) {
    let (x, w, y) = (p.x.cast::<T>(), p.w.cast::<T>(), p.y.cast::<T>());
    let [a, b, c] = &p.axes;
    p.elements.each(|number| {
        let (rest, at_c) = divide(number, c.input);
        let (rest, at_b) = divide(rest, b.input);
        let (rest, at_a) = divide(rest, a.input);
        let (rest, filter) = divide(rest, p.filters);
        let (image, group) = divide(rest, p.groups);
        let of_x = u64::from(image * p.groups + group) * u64::from(p.channels) * u64::from(p.plane);
        let of_w = u64::from(group * p.channels * p.filters + filter) * u64::from(p.taps);
        let mut sum = 0.0;
        let mut i = 0;
        while i < a.kernel {
            if let Some(from_a) = source(a, at_a, i) {
                let mut j = 0;
                while j < b.kernel {
                    if let Some(from_b) = source(b, at_b, j) {
                        let mut k = 0;
                        while k < c.kernel {
                            if let Some(from_c) = source(c, at_c, k) {
                                let place = (from_a * b.output + from_b) * c.output + from_c;
                                let tap = (i * b.kernel + j) * c.kernel + k;
                                let mut x_at = (of_x + u64::from(place)) as usize;
                                let mut w_at = (of_w + u64::from(tap)) as usize;
                                let mut channel = 0;
                                while channel < p.channels {
                                    sum += w.load(w_at).widen() * x.load(x_at).widen();
                                    x_at += p.plane as usize;
                                    w_at += p.filters as usize * p.taps as usize;
                                    channel += 1;
                                }
                            }
                            k += 1;
                        }
                    }
                    j += 1;
                }
            }
            i += 1;
        }
        if !p.bias.is_null() {
            sum += p.bias.cast::<T>().load((group * p.filters + filter) as usize).widen();
        }
        y.store(number as usize, T::narrow(sum));
    });
}

entry!(
    /// bf16.
    CONV_TRANSPOSE_BF16 = conv_transpose_bf16(Params): run::<BF16>, THREADS, with_spills(64)
);
entry!(
    /// f16.
    CONV_TRANSPOSE_F16 = conv_transpose_f16(Params): run::<F16>, THREADS, with_spills(64)
);
entry!(
    /// f32.
    CONV_TRANSPOSE_F32 = conv_transpose_f32(Params): run::<f32>, THREADS, with_spills(64)
);

/// A transposed convolution as the caller describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Type of X, W, the bias and Y.
    pub element: Element,
    /// Images.
    pub images: u32,
    /// Groups.
    pub groups: u32,
    /// Channels of X of a group.
    pub channels: u32,
    /// Channels of Y of a group.
    pub filters: u32,
    /// Spatial axes of the convolution that reads Y: `input` is the extent of Y, `output` that of X; those that are not
    /// there come first and are [`Axis::NONE`].
    pub axes: [Axis; MOST_AXES],
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// W, `[groups · channels, filters, taps]`.
    pub w: Buffer,
    /// One element per filter, or none.
    pub bias: Buffer,
    /// Y, dense.
    pub y: Buffer,
}

impl Shape {
    fn product(&self, of: impl Fn(&Axis) -> u32) -> u64 {
        self.axes.iter().fold(1, |n: u64, axis| n.saturating_mul(of(axis).into()))
    }

    /// Elements of X, W and Y.
    fn elements(&self) -> [u64; 3] {
        let of = |factors: [u64; 3]| factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor));
        let groups = u64::from(self.groups);
        let (channels, filters) = (groups * u64::from(self.channels), groups * u64::from(self.filters));
        [
            of([self.images.into(), channels, self.product(|axis| axis.output)]),
            of([channels, self.filters.into(), self.product(|axis| axis.kernel)]),
            of([self.images.into(), filters, self.product(|axis| axis.input)]),
        ]
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        let reach = |axis: &Axis| {
            let window = u64::from(axis.kernel).saturating_mul(axis.dilation.into());
            window.saturating_add(u64::from(axis.begin) + u64::from(axis.input))
        };
        let [x, w, y] = self.elements();
        for (name, got) in [
            ("elements of X", x),
            ("elements of W", w),
            ("elements", y),
            ("reach", self.axes.iter().map(reach).max().unwrap_or(0)),
        ] {
            elements::limit(name, got)?;
        }
        Ok(())
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        let ([x, w, y], size) = (self.elements(), self.element.bytes());
        if y == 0 {
            return Ok(None);
        }
        buffers.x.holds("x", x * size, size)?;
        buffers.w.holds("w", w * size, size)?;
        if buffers.bias.is_some() {
            buffers.bias.holds("bias", u64::from(self.groups) * u64::from(self.filters) * size, size)?;
        }
        buffers.y.holds("y", y * size, size)?;
        let (elements, geometry) = Elements::on(device, y);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            w: Global::from_address(buffers.w.address),
            bias: Global::from_address(buffers.bias.address),
            y: Global::from_address(buffers.y.address),
            axes: self.axes,
            filters: self.filters,
            channels: self.channels,
            groups: self.groups,
            taps: self.product(|axis| axis.kernel) as u32,
            plane: self.product(|axis| axis.output) as u32,
            elements,
            reserved: 0,
        };
        let entry: &'static Entry<Params> = match self.element {
            Element::F32 => &CONV_TRANSPOSE_F32,
            Element::F16 => &CONV_TRANSPOSE_F16,
            Element::BF16 => &CONV_TRANSPOSE_BF16,
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
        let axis = Axis { input: 6, output: 3, kernel: 2, stride: 2, dilation: 1, begin: 0 };
        let axes = [Axis::NONE, Axis::NONE, axis];
        let shape = Shape { element: Element::F32, images: 1, groups: 1, channels: 2, filters: 3, axes };
        assert!(Shape { images: u32::MAX, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(24), w: buffer(48), bias: Buffer::default(), y: buffer(72) };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { w: buffer(44), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "w", needed: 48, got: 44 }));
    }
}
