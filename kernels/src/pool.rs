//! # Pools
//! `y[n, p] = max_t x[n, p·stride + t·dilation − begin]`, or the mean, or `(Σ_t |x|^q)^(1/q)`, over windows along up to three
//! spatial axes of `[planes, positions]`. Taps outside the input are left out; a mean divides by the taps inside it or, on
//! request, by those inside it and its padding. The largest element may come with its place in X, of equal ones the first.
//!
//! A thread makes one element of Y; taps that are left out are not visited, so that a window that hangs over the edge costs
//! no more than what it covers. Neighbouring threads have neighbouring windows, whose loads one line of the cache serves.
//! Windows of whole planes belong to `reduce`.
//!
//! Sums are f32, in the order of the taps: `n` of them are off by at most `n · 2⁻²⁴ · Σ|x|`, and a q that is not 1 or 2 by
//! `4q · 2⁻²⁴` more. The largest element is exact; NaN where the window has one.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::conv::{Axis, MOST_AXES};
use crate::device::math::{divide, sqrt_f32};
use crate::device::{BF16, F16, Global, Plain};
use crate::element::{Element, Real};
use crate::elementary;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    /// Null: places are not wanted.
    places: Global<u64>,
    axes: [Axis; MOST_AXES],
    /// Zeros behind each axis, for means that count them.
    ends: [u32; MOST_AXES],
    /// Of Y.
    elements: Elements,
    /// The exponent of a norm.
    power: f32,
    /// What is computed.
    what: u32,
    /// Steps of a place along each axis, and the elements of a plane: of the first axis running fastest or the last.
    steps: [u32; MOST_AXES],
    plane: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 144);

/// The mean of the taps inside, or of those inside and of the padding; a norm.
const MEAN: u32 = 0;
const PADDED_MEAN: u32 = 1;

/// The taps of the window at `position` from which and up to which they lie inside `extent`, and where it begins.
#[inline(always)]
fn taps(axis: &Axis, position: u32) -> (u32, u32, u32) {
    let start = position * axis.stride;
    let (before, room) = (axis.begin.saturating_sub(start), axis.input + axis.begin);
    let first = divide(before + axis.dilation - 1, axis.dilation).0;
    let last = divide(room.saturating_sub(start) + axis.dilation - 1, axis.dilation).0;
    (first, if last < axis.kernel { last } else { axis.kernel }, start.wrapping_sub(axis.begin))
}

/// Taps inside the input and its padding.
#[inline(always)]
fn padded(axis: &Axis, end: u32, position: u32) -> u32 {
    let room = (axis.input + axis.begin + end).saturating_sub(position * axis.stride);
    let count = divide(room + axis.dilation - 1, axis.dilation).0;
    if count < axis.kernel { count } else { axis.kernel }
}

impl Params {
    /// Plane and position along each axis of element `number`.
    #[inline(always)]
    fn position(&self, number: u32) -> (u32, [u32; MOST_AXES]) {
        let (rest, c) = divide(number, self.axes[2].output);
        let (rest, b) = divide(rest, self.axes[1].output);
        let (plane, a) = divide(rest, self.axes[0].output);
        (plane, [a, b, c])
    }

    /// Calls `visit` with the place of every tap inside the input, in their order: its index within the plane, and where
    /// it is along each axis.
    #[inline(always)]
    fn walk(&self, at: [u32; MOST_AXES], mut visit: impl FnMut(u32, [u32; MOST_AXES])) {
        let [a, b, c] = &self.axes;
        let ((first_a, last_a, from_a), (first_b, last_b, from_b), (first_c, last_c, from_c)) =
            (taps(a, at[0]), taps(b, at[1]), taps(c, at[2]));
        let mut i = first_a;
        while i < last_a {
            let z = from_a.wrapping_add(i * a.dilation);
            let mut j = first_b;
            while j < last_b {
                let y = from_b.wrapping_add(j * b.dilation);
                let row = (z * b.input + y) * c.input;
                let mut k = first_c;
                while k < last_c {
                    let x = from_c.wrapping_add(k * c.dilation);
                    visit(row + x, [z, y, x]);
                    k += 1;
                }
                j += 1;
            }
            i += 1;
        }
    }
}

/// Elements that are compared.
trait Ordered: Plain {
    /// What the largest of no elements is.
    const LOWEST: u32;
    /// As bits that `larger` compares.
    fn key(self) -> u32;
    /// Whether `a` takes the place of `b`.
    fn larger(a: u32, b: u32) -> bool;
    fn from_key(key: u32) -> Self;
}

macro_rules! ordered_real {
    ($t:ty) => {
        impl Ordered for $t {
            const LOWEST: u32 = f32::NEG_INFINITY.to_bits();

            #[inline(always)]
            fn key(self) -> u32 {
                self.widen().to_bits()
            }

            #[inline(always)]
            fn larger(a: u32, b: u32) -> bool {
                let (a, b) = (f32::from_bits(a), f32::from_bits(b));
                a > b || (a.is_nan() && !b.is_nan())
            }

            #[inline(always)]
            fn from_key(key: u32) -> Self {
                Self::narrow(f32::from_bits(key))
            }
        }
    };
}

ordered_real!(f32);
ordered_real!(F16);
ordered_real!(BF16);

macro_rules! ordered_integer {
    ($t:ty) => {
        impl Ordered for $t {
            const LOWEST: u32 = <$t>::MIN as i32 as u32;

            #[inline(always)]
            fn key(self) -> u32 {
                self as i32 as u32
            }

            #[inline(always)]
            fn larger(a: u32, b: u32) -> bool {
                a as i32 > b as i32
            }

            #[inline(always)]
            fn from_key(key: u32) -> Self {
                key as $t
            }
        }
    };
}

ordered_integer!(i8);
ordered_integer!(u8);

/// Every thread: the largest tap.
#[inline(always)]
fn largest<T: Ordered>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let (plane, at) = p.position(number);
        let first = plane as usize * p.plane as usize;
        let (mut most, mut place, mut seen) = (T::LOWEST, 0, false);
        p.walk(at, |index, [i, j, k]| {
            let key = x.load(first + index as usize).key();
            // The first tap is taken even where it is the lowest value.
            if !seen || T::larger(key, most) {
                (most, place) = (key, i * p.steps[0] + j * p.steps[1] + k * p.steps[2]);
            }
            seen = true;
        });
        if !p.y.is_null() {
            y.store(number as usize, T::from_key(most));
        }
        if !p.places.is_null() {
            p.places.store(number as usize, first as u64 + u64::from(place));
        }
    });
}

/// `|x|^q`.
#[inline(always)]
fn power(x: f32, q: f32) -> f32 {
    if q == 1.0 {
        x.abs()
    } else if q == 2.0 {
        x * x
    } else if x == 0.0 {
        0.0
    } else if q == 3.0 {
        x.abs() * x * x
    } else {
        elementary::exp(q * elementary::log(x.abs()))
    }
}

/// `x^(1/q)` of a sum.
#[inline(always)]
fn root(x: f32, q: f32) -> f32 {
    if q == 1.0 || x == 0.0 {
        x
    } else if q == 2.0 {
        sqrt_f32(x)
    } else {
        elementary::exp(elementary::log(x) / q)
    }
}

/// Every thread: means and norms.
#[inline(always)]
fn sum<T: Real>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let (plane, at) = p.position(number);
        let first = plane as usize * p.plane as usize;
        let (mut total, mut inside) = (0.0f32, 0u32);
        p.walk(at, |index, _| {
            let value = x.load(first + index as usize).widen();
            total += if p.what <= PADDED_MEAN { value } else { power(value, p.power) };
            inside += 1;
        });
        let value = if p.what == MEAN {
            total / inside as f32
        } else if p.what == PADDED_MEAN {
            let [a, b, c] = &p.axes;
            let count =
                padded(a, p.ends[0], at[0]) * padded(b, p.ends[1], at[1]) * padded(c, p.ends[2], at[2]);
            total / count as f32
        } else {
            root(total, p.power)
        };
        y.store(number as usize, T::narrow(value));
    });
}

entry!(
    /// The largest bf16.
    MAX_BF16 = pool_max_bf16(Params): largest::<BF16>, THREADS
);
entry!(
    /// The largest f16.
    MAX_F16 = pool_max_f16(Params): largest::<F16>, THREADS
);
entry!(
    /// The largest f32.
    MAX_F32 = pool_max_f32(Params): largest::<f32>, THREADS
);
entry!(
    /// The largest signed byte.
    MAX_I8 = pool_max_i8(Params): largest::<i8>, THREADS
);
entry!(
    /// The largest unsigned byte.
    MAX_U8 = pool_max_u8(Params): largest::<u8>, THREADS
);
entry!(
    /// Means and norms of bf16.
    SUM_BF16 = pool_sum_bf16(Params): sum::<BF16>, THREADS
);
entry!(
    /// Means and norms of f16.
    SUM_F16 = pool_sum_f16(Params): sum::<F16>, THREADS
);
entry!(
    /// Means and norms of f32.
    SUM_F32 = pool_sum_f32(Params): sum::<f32>, THREADS
);

/// What is made of a window.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pool {
    /// The largest element; places count the elements of X, the last axis running fastest or, where it says so, the first.
    Max {
        /// Whether places count with the first axis running fastest.
        column_major: bool,
    },
    /// The mean.
    Mean {
        /// Whether padding counts.
        padded: bool,
    },
    /// The norm of this exponent, at least 1.
    Norm {
        /// The exponent.
        power: f32,
    },
}

/// Type of the elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Floats.
    Real(Element),
    /// Signed bytes, of which there is only the largest.
    I8,
    /// Unsigned bytes, of which there is only the largest.
    U8,
}

impl Kind {
    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Real(element) => element.bytes(),
            Self::I8 | Self::U8 => 1,
        }
    }
}

/// A pool as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shape {
    /// Type of X and Y.
    pub kind: Kind,
    /// What is made of a window.
    pub pool: Pool,
    /// Images × channels.
    pub planes: u32,
    /// Spatial axes; those that are not there come first and are [`Axis::NONE`].
    pub axes: [Axis; MOST_AXES],
    /// Padding behind each of them.
    pub ends: [u32; MOST_AXES],
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// Y, dense; a largest element may be left out.
    pub y: Buffer,
    /// Places of largest elements, 64-bit integers, or none.
    pub places: Buffer,
}

impl Shape {
    fn product(&self, of: impl Fn(&Axis) -> u32) -> u64 {
        self.axes.iter().fold(1, |n: u64, axis| n.saturating_mul(of(axis).into()))
    }

    fn elements(&self) -> [u64; 2] {
        [self.product(|axis| axis.input), self.product(|axis| axis.output)]
            .map(|plane| plane.saturating_mul(self.planes.into()))
    }

    fn entry(&self) -> Result<&'static Entry<Params>, Reject> {
        Ok(match (self.pool, self.kind) {
            (Pool::Max { .. }, Kind::Real(Element::F32)) => &MAX_F32,
            (Pool::Max { .. }, Kind::Real(Element::F16)) => &MAX_F16,
            (Pool::Max { .. }, Kind::Real(Element::BF16)) => &MAX_BF16,
            (Pool::Max { .. }, Kind::I8) => &MAX_I8,
            (Pool::Max { .. }, Kind::U8) => &MAX_U8,
            (_, Kind::Real(Element::F32)) => &SUM_F32,
            (_, Kind::Real(Element::F16)) => &SUM_F16,
            (_, Kind::Real(Element::BF16)) => &SUM_BF16,
            _ => return Err(Reject::ElementType { operand: "x" }),
        })
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        self.entry()?;
        let reach = |axis: &Axis| {
            let window = u64::from(axis.kernel).saturating_mul(axis.dilation.into());
            let moved = u64::from(axis.output).saturating_mul(axis.stride.into());
            window.saturating_add(moved).saturating_add(u64::from(axis.begin) + u64::from(axis.input))
        };
        let [from, to] = self.elements();
        let ends = self.ends.iter().copied().max().unwrap_or(0).into();
        for (name, got) in [
            ("elements", to),
            ("elements of X", from),
            ("taps", self.product(|axis| axis.kernel)),
            ("reach", self.axes.iter().map(reach).max().unwrap_or(0).saturating_add(ends)),
        ] {
            elements::limit(name, got)?;
        }
        if self.axes.iter().any(|axis| axis.stride == 0 || axis.dilation == 0 || axis.kernel == 0) {
            return Err(Reject::Unsupported { what: "a window without taps" });
        }
        if matches!(self.pool, Pool::Norm { power } if power.is_nan() || power < 1.0) {
            return Err(Reject::Unsupported { what: "a norm of an exponent below 1" });
        }
        Ok(())
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        let [from, to] = self.elements();
        if to == 0 {
            return Ok(None);
        }
        let size = self.kind.bytes();
        buffers.x.holds("x", from * size, size)?;
        let is_max = matches!(self.pool, Pool::Max { .. });
        if buffers.y.is_some() || !is_max || !buffers.places.is_some() {
            buffers.y.holds("y", to * size, size)?;
        }
        if buffers.places.is_some() {
            if !is_max {
                return Err(Reject::Unsupported { what: "the place of a mean" });
            }
            buffers.places.holds("places", 8 * to, 8)?;
        }
        let [depth, height, width] = self.axes.map(|axis| axis.input);
        let (what, power, steps) = match self.pool {
            Pool::Max { column_major: true } => (0, 0.0, [1, depth, depth * height]),
            Pool::Max { column_major: false } => (0, 0.0, [height * width, width, 1]),
            Pool::Mean { padded: false } => (MEAN, 0.0, [0; 3]),
            Pool::Mean { padded: true } => (PADDED_MEAN, 0.0, [0; 3]),
            Pool::Norm { power } => (PADDED_MEAN + 1, power, [0; 3]),
        };
        let (elements, geometry) = Elements::on(device, to);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            y: Global::from_address(buffers.y.address),
            places: Global::from_address(buffers.places.address),
            axes: self.axes,
            ends: self.ends,
            elements,
            power,
            what,
            steps,
            plane: self.product(|axis| axis.input) as u32,
            reserved: 0,
        };
        Prepared::new(self.entry()?, geometry, params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let axis = Axis { input: 8, output: 6, kernel: 3, stride: 1, dilation: 1, begin: 0 };
        let shape = Shape {
            kind: Kind::Real(Element::F32),
            pool: Pool::Mean { padded: false },
            planes: 2,
            axes: [Axis::NONE, Axis::NONE, axis],
            ends: [0; 3],
        };
        assert!(Shape { planes: u32::MAX, ..shape }.accepts().is_err());
        assert!(Shape { kind: Kind::U8, ..shape }.accepts().is_err());
        assert!(Shape { pool: Pool::Norm { power: f32::NAN }, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(64), y: buffer(48), places: Buffer::default() };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = shape.prepare(&Buffers { y: buffer(47), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "y", needed: 48, got: 47 }));
        assert!(shape.prepare(&Buffers { places: buffer(96), ..good }, &EMULATED).is_err());
    }
}
