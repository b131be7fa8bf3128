//! # Response normalisation across channels
//! `y[n, c, p] = x[n, c, p] / (b + a · Σ_{i = c − below}^{c + above} x[n, i, p]²)^β` over `[images, channels, positions]`,
//! channels outside left out.
//!
//! A thread makes one element; neighbours read neighbouring positions of the same channels.
//!
//! The sum is f32; the power is `exp(β · ln(…))`, off by at most `4 + 2·|β · ln(…)|` units in the last place.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::math::divide;
use crate::device::{BF16, F16, Global};
use crate::element::{Element, Real};
use crate::elementary::{exp, log};
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    channels: u32,
    positions: u32,
    below: u32,
    above: u32,
    alpha: f32,
    beta: f32,
    bias: f32,
    elements: Elements,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 56);

/// Every thread.
#[inline(always)]
fn run<T: Real>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let (plane, position) = divide(number, p.positions);
        let (image, channel) = divide(plane, p.channels);
        let first = channel.saturating_sub(p.below);
        let last = channel.saturating_add(p.above);
        let last = if last < p.channels { last } else { p.channels - 1 };
        let (mut squares, mut i) = (0.0, first);
        while i <= last {
            let row = u64::from(image * p.channels + i) * u64::from(p.positions);
            let value = x.load((row + u64::from(position)) as usize).widen();
            squares += value * value;
            i += 1;
        }
        let scale = exp(p.beta * log(p.bias + p.alpha * squares));
        y.store(number as usize, T::narrow(x.load(number as usize).widen() / scale));
    });
}

entry!(
    /// bf16.
    CHANNELS_BF16 = channels_bf16(Params): run::<BF16>, THREADS
);
entry!(
    /// f16.
    CHANNELS_F16 = channels_f16(Params): run::<F16>, THREADS
);
entry!(
    /// f32.
    CHANNELS_F32 = channels_f32(Params): run::<f32>, THREADS
);

/// A response normalisation as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Type of X and Y.
    pub element: Element,
    /// Images.
    pub images: u32,
    /// Channels.
    pub channels: u32,
    /// Positions.
    pub positions: u32,
    /// Channels in front of an element's own that count.
    pub below: u32,
    /// Channels behind it.
    pub above: u32,
    /// The factor of the sum.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
    /// What is added to the sum.
    pub bias: f32,
}

impl Shape {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<u32, Reject> {
        let planes = u64::from(self.images) * u64::from(self.channels);
        let got = planes.saturating_mul(self.positions.into());
        elements::limit("elements", got).map(|()| got as u32)
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, x: Buffer, y: Buffer, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        let count = self.accepts()?;
        if count == 0 {
            return Ok(None);
        }
        let size = self.element.bytes();
        x.holds("x", u64::from(count) * size, size)?;
        y.holds("y", u64::from(count) * size, size)?;
        let (elements, geometry) = Elements::on(device, count.into());
        let params = Params {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            channels: self.channels,
            positions: self.positions,
            below: self.below,
            above: self.above,
            alpha: self.alpha,
            beta: self.beta,
            bias: self.bias,
            elements,
            reserved: 0,
        };
        let entry: &'static Entry<Params> = match self.element {
            Element::F32 => &CHANNELS_F32,
            Element::F16 => &CHANNELS_F16,
            Element::BF16 => &CHANNELS_BF16,
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
        let shape = Shape {
            element: Element::F32,
            images: 1,
            channels: 3,
            positions: 2,
            below: 1,
            above: 1,
            alpha: 1.0,
            beta: 0.5,
            bias: 1.0,
        };
        assert!(Shape { images: u32::MAX, channels: u32::MAX, ..shape }.accepts().is_err());
        let (x, y) = (Buffer { address: 4096, bytes: 24 }, Buffer { address: 8192, bytes: 20 });
        let refused = shape.prepare(x, y, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "y", needed: 24, got: 20 }));
    }
}
