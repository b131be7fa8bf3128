//! # Losses of classes
//! `y[s] = −w[t] · z[s, t]` of each sample `s` with target `t = targets[s]`, 0 where the target is the one that is ignored;
//! `z` are the logarithms of probabilities, or those of the softmax of scores along the classes.
//!
//! A thread takes a sample: of scores it reads the line of classes twice, for the largest and for the sum of exponentials.
//! Losses and weights are f32, or f64 for f64; a sum of `c` exponentials is off by at most `c` roundings. Hazard, which only
//! the data tells: a class that is not there. Its loss is 0, and the fault word becomes 1.
//!
//! Grid `min(⌈samples / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::Global;
use crate::device::atomic::Scope;
use crate::device::math::divide;
use crate::dtype::DType;
use crate::elementary::{self, double};
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::places::index_at;
use crate::weighed::Weighed;
use core::ops::{Mul, Sub};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    targets: Global<u8>,
    /// Null where every class weighs 1.
    weights: Global<u8>,
    /// Losses, of type `stored`.
    y: Global<u8>,
    /// Weights of the samples, of type `stored`; null where nobody asks.
    total: Global<u8>,
    fault: Global<u32>,
    ignored: i64,
    classes: u32,
    /// Samples of an image.
    inner: u32,
    /// Whether targets have 64 bits.
    wide: u32,
    ignores: u32,
    scores: u32,
    dtype: u32,
    stored: u32,
    elements: Elements,
    /// Unused.
    padding: u32,
}

const _: () = assert!(size_of::<Params>() == 96);

/// What losses are computed in.
trait Real: Weighed + Sub<Output = Self> + Mul<Output = Self> {
    const ONE: Self;
    fn exp(self) -> Self;
    fn log(self) -> Self;
}

macro_rules! real {
    ($($t:ty: $exp:path, $log:path;)*) => { $(
        impl Real for $t {
            const ONE: Self = 1.0;

            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }

            #[inline(always)]
            fn log(self) -> Self {
                $log(self)
            }
        }
    )* };
}

real! {
    f32: elementary::exp, elementary::log;
    f64: double::exp, double::log;
}

/// Every thread.
#[inline(always)]
fn run<S: Real>(p: Params) {
    p.elements.each(|sample| {
        let target = index_at(p.targets, p.wide, sample as usize);
        let (mut loss, mut weight) = (S::zero(), S::zero());
        if p.ignores != 0 && target == p.ignored {
            // It counts nothing.
        } else if target < 0 || target >= i64::from(p.classes) {
            p.fault.store_relaxed(0, 1, Scope::System);
        } else {
            let (image, at) = divide(sample, p.inner);
            let first = image * p.classes * p.inner + at;
            let of = |class: u32| S::load(p.x, p.dtype, (first + class * p.inner) as usize);
            let class = target as u32;
            let mut value = of(class);
            if p.scores != 0 {
                let mut most = S::least();
                let mut k = 0;
                while k < p.classes {
                    let here = of(k);
                    most = if here > most { here } else { most };
                    k += 1;
                }
                let mut sum = S::zero();
                let mut k = 0;
                while k < p.classes {
                    sum = sum.plus((of(k) - most).exp());
                    k += 1;
                }
                value = value - most - sum.log();
            }
            weight = if p.weights.is_null() { S::ONE } else { S::load(p.weights, p.dtype, class as usize) };
            loss = S::zero() - value * weight;
        }
        loss.store(p.y, p.stored, sample as usize);
        if !p.total.is_null() {
            weight.store(p.total, p.stored, sample as usize);
        }
    });
}

entry!(
    /// In f32.
    NARROW = class_loss_narrow(Params): run::<f32>, THREADS
);
entry!(
    /// In f64.
    WIDE = class_loss_wide(Params): run::<f64>, THREADS, with_spills(64)
);

/// Losses as the caller describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Losses {
    /// Images, classes of a sample, samples of an image.
    pub lines: [u32; 3],
    /// The target whose samples count nothing.
    pub ignored: Option<i64>,
    /// Whether X are scores.
    pub scores: bool,
    /// Type of X and of the weights.
    pub dtype: DType,
    /// Whether targets have 64 bits.
    pub wide: bool,
    /// Type of the losses: that of X, or f32 instead of 16 bits.
    pub stored: DType,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// Logarithms of probabilities, or scores.
    pub x: Buffer,
    /// The class of each sample.
    pub targets: Buffer,
    /// The weight of each class.
    pub weights: Option<Buffer>,
    /// The loss of each sample.
    pub y: Buffer,
    /// The weight of each sample.
    pub total: Option<Buffer>,
    /// A word that becomes 1 where data asks for what is not there; the host sets it to 0.
    pub fault: Buffer,
}

impl Losses {
    /// Whether there is a kernel for it; the elements of X, and samples.
    pub fn accepts(&self) -> Result<[u64; 2], Reject> {
        if !matches!(self.dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Reject::ElementType { operand: "x" });
        }
        if self.stored != self.dtype && (self.dtype == DType::F64 || self.stored != DType::F32) {
            return Err(Reject::ElementType { operand: "y" });
        }
        let [images, classes, inner] = self.lines.map(u64::from);
        let samples = images.saturating_mul(inner);
        let all = samples.saturating_mul(classes);
        elements::limit("samples", samples)?;
        elements::limit("elements", all)?;
        Ok([all, samples])
    }

    /// A launch that has been checked; nothing is to be done without samples.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        let [all, samples] = self.accepts()?;
        if samples == 0 {
            return Ok(None);
        }
        let bytes = |dtype: DType| dtype.bits() as u64 / 8;
        let (size, stored, index) = (bytes(self.dtype), bytes(self.stored), if self.wide { 8 } else { 4 });
        let [_, classes, inner] = self.lines;
        if all > 0 {
            buffers.x.holds("x", all * size, size)?;
        }
        buffers.targets.holds("targets", samples * index, index)?;
        if let Some(weights) = buffers.weights.filter(|_| classes > 0) {
            weights.holds("weights", u64::from(classes) * size, size)?;
        }
        buffers.y.holds("y", samples * stored, stored)?;
        if let Some(total) = &buffers.total {
            total.holds("weights of samples", samples * stored, stored)?;
        }
        buffers.fault.holds("fault", 4, 4)?;
        let (elements, geometry) = Elements::on(device, samples);
        let address = |buffer: Option<Buffer>| Global::from_address(buffer.map_or(0, |b| b.address));
        let params = Params {
            x: Global::from_address(buffers.x.address),
            targets: Global::from_address(buffers.targets.address),
            weights: address(buffers.weights),
            y: Global::from_address(buffers.y.address),
            total: address(buffers.total),
            fault: Global::from_address(buffers.fault.address),
            ignored: self.ignored.unwrap_or(0),
            classes,
            inner,
            wide: self.wide.into(),
            ignores: self.ignored.is_some().into(),
            scores: self.scores.into(),
            dtype: self.dtype as u32,
            stored: self.stored as u32,
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
        let shape = Losses {
            lines: [2, 3, 4],
            ignored: None,
            scores: true,
            dtype: DType::F16,
            wide: true,
            stored: DType::F32,
        };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers {
            x: buffer(48),
            targets: buffer(64),
            weights: None,
            y: buffer(32),
            total: None,
            fault: buffer(4),
        };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { targets: buffer(32), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "targets", needed: 64, got: 32 }));
        assert!(Losses { stored: DType::F64, ..shape }.accepts().is_err());
        assert!(Losses { dtype: DType::F64, ..shape }.accepts().is_err());
    }
}
