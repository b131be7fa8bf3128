//! Values that are weighed and added where the weights are f64: in f32, or f64 for elements of f64.

use crate::device::{BF16, F16, Float16, Global};
use crate::dtype::DType;

/// A float whose type the parameters say.
#[inline(always)]
#[track_caller]
pub(crate) fn load_float(x: Global<u8>, dtype: u32, index: usize) -> f64 {
    if dtype == DType::F64 as u32 {
        x.cast::<f64>().load(index)
    } else if dtype == DType::F16 as u32 {
        x.cast::<F16>().load(index).to_f32().into()
    } else if dtype == DType::BF16 as u32 {
        x.cast::<BF16>().load(index).to_f32().into()
    } else {
        x.cast::<f32>().load(index).into()
    }
}

/// What values are weighed and added in.
pub(crate) trait Weighed: Copy + PartialOrd {
    fn zero() -> Self;
    /// Below every number.
    fn least() -> Self;
    fn load(x: Global<u8>, dtype: u32, index: usize) -> Self;
    fn store(self, y: Global<u8>, dtype: u32, index: usize);
    fn times(self, weight: f64) -> Self;
    fn over(self, divisor: f64) -> Self;
    fn plus(self, other: Self) -> Self;
    fn real(self) -> f64;
    /// The nearest one.
    fn of(real: f64) -> Self;
}

impl Weighed for f32 {
    #[inline(always)]
    fn zero() -> Self {
        0.0
    }

    #[inline(always)]
    fn least() -> Self {
        Self::NEG_INFINITY
    }

    #[inline(always)]
    #[track_caller]
    fn load(x: Global<u8>, dtype: u32, index: usize) -> Self {
        if dtype == DType::F16 as u32 {
            return x.cast::<F16>().load(index).to_f32();
        }
        if dtype == DType::BF16 as u32 {
            return x.cast::<BF16>().load(index).to_f32();
        }
        x.cast::<f32>().load(index)
    }

    #[inline(always)]
    #[track_caller]
    fn store(self, y: Global<u8>, dtype: u32, index: usize) {
        if dtype == DType::F16 as u32 {
            y.cast().store(index, F16::from_f32(self));
        } else if dtype == DType::BF16 as u32 {
            y.cast().store(index, BF16::from_f32(self));
        } else {
            y.cast().store(index, self);
        }
    }

    #[inline(always)]
    fn times(self, weight: f64) -> Self {
        self * weight as f32
    }

    #[inline(always)]
    fn over(self, divisor: f64) -> Self {
        self / divisor as f32
    }

    #[inline(always)]
    fn real(self) -> f64 {
        self.into()
    }

    #[inline(always)]
    fn of(real: f64) -> Self {
        real as Self
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }
}

impl Weighed for f64 {
    #[inline(always)]
    fn zero() -> Self {
        0.0
    }

    #[inline(always)]
    fn least() -> Self {
        Self::NEG_INFINITY
    }

    #[inline(always)]
    #[track_caller]
    fn load(x: Global<u8>, _: u32, index: usize) -> Self {
        x.cast::<Self>().load(index)
    }

    #[inline(always)]
    #[track_caller]
    fn store(self, y: Global<u8>, _: u32, index: usize) {
        y.cast().store(index, self);
    }

    #[inline(always)]
    fn times(self, weight: f64) -> Self {
        self * weight
    }

    #[inline(always)]
    fn over(self, divisor: f64) -> Self {
        self / divisor
    }

    #[inline(always)]
    fn real(self) -> f64 {
        self
    }

    #[inline(always)]
    fn of(real: f64) -> Self {
        real
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }
}
