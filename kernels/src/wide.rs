//! Reals in memory, 16 bytes at a time or one by one, as f32 in registers.

use crate::device::{BF16, F16, Global, Vector};
use crate::element::{Element, Real};

/// Types of which 16 bytes are loaded at a time.
pub(crate) trait Wide: Real {
    /// Elements in 16 bytes.
    const WIDTH: usize;
    /// 16 bytes that nothing writes during the launch, widened; the first `WIDTH` count. `index` counts 16 bytes.
    fn load_wide(x: Global<u8>, index: usize) -> [f32; 8];
}

impl Wide for f32 {
    const WIDTH: usize = 4;

    #[inline(always)]
    #[track_caller]
    fn load_wide(x: Global<u8>, index: usize) -> [f32; 8] {
        let Vector([a, b, c, d]) = x.cast::<Vector<f32, 4>>().load_read_only(index);
        [a, b, c, d, 0.0, 0.0, 0.0, 0.0]
    }
}

impl Wide for F16 {
    const WIDTH: usize = 8;

    #[inline(always)]
    #[track_caller]
    fn load_wide(x: Global<u8>, index: usize) -> [f32; 8] {
        x.cast::<Vector<F16, 8>>().load_read_only(index).0.map(Real::widen)
    }
}

impl Wide for BF16 {
    const WIDTH: usize = 8;

    #[inline(always)]
    #[track_caller]
    fn load_wide(x: Global<u8>, index: usize) -> [f32; 8] {
        x.cast::<Vector<BF16, 8>>().load_read_only(index).0.map(Real::widen)
    }
}

/// One element whose type the launch's parameters say.
#[inline(always)]
#[track_caller]
pub(crate) fn load_real(x: Global<u8>, element: u32, index: usize) -> f32 {
    if element == Element::F16 as u32 {
        return x.cast::<F16>().load(index).widen();
    }
    if element == Element::BF16 as u32 {
        return x.cast::<BF16>().load(index).widen();
    }
    x.cast::<f32>().load(index)
}

/// Stores one element of such a type.
#[inline(always)]
#[track_caller]
pub(crate) fn store_real(y: Global<u8>, element: u32, index: usize, value: f32) {
    if element == Element::F16 as u32 {
        y.cast().store(index, F16::narrow(value));
    } else if element == Element::BF16 as u32 {
        y.cast().store(index, BF16::narrow(value));
    } else {
        y.cast().store(index, value);
    }
}
