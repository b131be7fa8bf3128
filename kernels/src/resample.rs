//! # Resampling along axes
//! `smooth`: `y[a, j, b] = Σ_t w[j, t] · x[a, at[j, t], b]` along one axis, the places and weights being a table that shapes
//! decide: linear and cubic interpolation, anti-aliased or not, axis by axis. `nearest`: `y[…] = x[…]` with a table of places
//! for each axis, elements being bits of 1 to 8 bytes. An output outside a crop is a constant: its place is `u32::MAX`.
//!
//! A thread makes one element at a time. Sums are f32, or f64 for f64, in the order of the table; between axes values stay so.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::math::divide;
use crate::device::{Global, Plain};
use crate::dtype::DType;
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::weighed::Weighed;

/// What a launch along one axis takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SmoothParams {
    x: Global<u8>,
    y: Global<u8>,
    /// For each element of the axis, places and bits of weights in turn; of f64 the lower half first.
    table: Global<u32>,
    from: u32,
    to: u32,
    inner: u32,
    taps: u32,
    /// Of Y.
    elements: Elements,
    /// Types of X and Y.
    x_type: u32,
    y_type: u32,
    outside: f64,
}

const _: () = assert!(size_of::<SmoothParams>() == 64);

/// What a launch along several axes takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct NearestParams {
    x: Global<u8>,
    y: Global<u8>,
    /// The tables of all axes, one behind the other.
    table: Global<u32>,
    constant: u64,
    /// Last axis first: its extent in Y, the elements of X between neighbours, and where its table begins.
    extents: [u32; MOST_AXES],
    steps: [u32; MOST_AXES],
    tables: [u32; MOST_AXES],
    /// Elements that move together, behind the last axis.
    inner: u32,
    /// Of Y.
    elements: Elements,
    reserved: u32,
}

const _: () = assert!(size_of::<NearestParams>() == 96);

/// Most axes with tables.
pub const MOST_AXES: usize = 4;
/// The place of what lies outside.
pub const OUTSIDE: u32 = u32::MAX;

/// What sums are made in.
trait Sum: Weighed {
    /// Words of a term in the table.
    const WORDS: usize;
    /// The weight of the term at `at`.
    fn weight(table: Global<u32>, at: usize) -> f64;
}

impl Sum for f32 {
    const WORDS: usize = 2;

    #[inline(always)]
    fn weight(table: Global<u32>, at: usize) -> f64 {
        Self::from_bits(table.load(at + 1)).into()
    }
}

impl Sum for f64 {
    const WORDS: usize = 3;

    #[inline(always)]
    fn weight(table: Global<u32>, at: usize) -> f64 {
        Self::from_bits(u64::from(table.load(at + 2)) << 32 | u64::from(table.load(at + 1)))
    }
}

/// Every thread: weighted sums along an axis.
#[inline(always)]
fn smooth<S: Sum>(p: SmoothParams) {
    p.elements.each(|number| {
        let (row, b) = divide(number, p.inner);
        let (a, j) = divide(row, p.to);
        let terms = p.table.offset(S::WORDS * j as usize * p.taps as usize);
        let (mut sum, mut t) = (S::zero(), 0);
        while t < p.taps as usize {
            let at = terms.load(S::WORDS * t);
            if at == OUTSIDE {
                sum = S::of(p.outside);
                break;
            }
            let place = (u64::from(a) * u64::from(p.from) + u64::from(at)) * u64::from(p.inner);
            let x = S::load(p.x, p.x_type, (place + u64::from(b)) as usize);
            sum = sum.plus(x.times(S::weight(terms, S::WORDS * t)));
            t += 1;
        }
        sum.store(p.y, p.y_type, number as usize);
    });
}

/// Every thread: the nearest elements.
#[inline(always)]
fn nearest<T: Plain>(p: NearestParams) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let (mut rest, within) = divide(number, p.inner);
        let (mut place, mut inside) = (u64::from(within), true);
        for axis in 0..MOST_AXES {
            let (quotient, j) = divide(rest, p.extents[axis]);
            let at = p.table.load((p.tables[axis] + j) as usize);
            inside &= at != OUTSIDE;
            place += u64::from(at) * u64::from(p.steps[axis]);
            rest = quotient;
        }
        let value = if inside { x.load(place as usize) } else { T::from_bits(p.constant.into()) };
        y.store(number as usize, value);
    });
}

entry!(
    /// The nearest elements of 1 byte.
    NEAREST_1 = resample_nearest_1(NearestParams): nearest::<u8>, THREADS
);
entry!(
    /// The nearest elements of 2 bytes.
    NEAREST_2 = resample_nearest_2(NearestParams): nearest::<u16>, THREADS
);
entry!(
    /// The nearest elements of 4 bytes.
    NEAREST_4 = resample_nearest_4(NearestParams): nearest::<u32>, THREADS
);
entry!(
    /// The nearest elements of 8 bytes.
    NEAREST_8 = resample_nearest_8(NearestParams): nearest::<u64>, THREADS
);
entry!(
    /// Weighted sums along an axis, in f32.
    SMOOTH = resample_smooth(SmoothParams): smooth::<f32>, THREADS
);
entry!(
    /// Weighted sums along an axis, in f64.
    SMOOTH_WIDE = resample_smooth_wide(SmoothParams): smooth::<f64>, THREADS
);

fn product(factors: &[u64]) -> Result<u64, Reject> {
    let got = factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor));
    elements::limit("elements", got).map(|()| got)
}

/// A weighted sum along one axis, as the caller describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Smooth {
    /// Extents in front of the axis.
    pub outer: u32,
    /// The axis in X.
    pub from: u32,
    /// The axis in Y.
    pub to: u32,
    /// Extents behind it.
    pub inner: u32,
    /// Terms of an element.
    pub taps: u32,
    /// Type of X.
    pub x: DType,
    /// Type of Y, f64 where that of X is.
    pub y: DType,
    /// What an element outside is.
    pub outside: f64,
}

impl Smooth {
    fn is_wide(&self) -> bool {
        self.x == DType::F64
    }

    /// Words of a term in the table.
    fn words(&self) -> u64 {
        if self.is_wide() { 3 } else { 2 }
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<[u64; 2], Reject> {
        for (operand, dtype) in [("x", self.x), ("y", self.y)] {
            if !dtype.is_float() || (dtype == DType::F64) != self.is_wide() {
                return Err(Reject::ElementType { operand });
            }
        }
        let of = |along: u32| product(&[self.outer.into(), along.into(), self.inner.into()]);
        product(&[self.words(), self.to.into(), self.taps.into()])?;
        Ok([of(self.from)?, of(self.to)?])
    }

    /// A launch that has been checked; the table holds `to · taps` places below `from`, each with the bits of its weight.
    pub fn prepare(
        &self,
        [x, y, table]: [Buffer; 3],
        device: &Device,
    ) -> Result<Option<Prepared<SmoothParams>>, Reject> {
        let [from, to] = self.accepts()?;
        if to == 0 {
            return Ok(None);
        }
        let [x_size, y_size] = [self.x, self.y].map(|dtype| dtype.bits() as u64 / 8);
        x.holds("x", from * x_size, x_size)?;
        y.holds("y", to * y_size, y_size)?;
        table.holds("table", 4 * self.words() * u64::from(self.to) * u64::from(self.taps), 4)?;
        let (elements, geometry) = Elements::on(device, to);
        let params = SmoothParams {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            table: Global::from_address(table.address),
            from: self.from,
            to: self.to,
            inner: self.inner,
            taps: self.taps,
            elements,
            x_type: self.x as u32,
            y_type: self.y as u32,
            outside: self.outside,
        };
        Prepared::new(if self.is_wide() { &SMOOTH_WIDE } else { &SMOOTH }, geometry, params, device).map(Some)
    }
}

/// The nearest elements, as the caller describes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nearest {
    /// Bytes of an element: 1, 2, 4 or 8.
    pub size: u32,
    /// Extents of the axes in X and Y; those that are not there come first, of extent 1.
    pub axes: [[u32; 2]; MOST_AXES],
    /// Elements behind the last axis.
    pub inner: u32,
    /// The bits of an element outside.
    pub constant: u64,
}

impl Nearest {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<[u64; 2], Reject> {
        if ![1, 2, 4, 8].contains(&self.size) {
            return Err(Reject::ElementType { operand: "x" });
        }
        let of = |side: usize| {
            let [a, b, c, d] = self.axes.map(|axis| u64::from(axis[side]));
            product(&[a, b, c, d, self.inner.into()])
        };
        Ok([of(0)?, of(1)?])
    }

    /// A launch that has been checked; the table holds for each axis the place of each element of Y.
    pub fn prepare(
        &self,
        [x, y, table]: [Buffer; 3],
        device: &Device,
    ) -> Result<Option<Prepared<NearestParams>>, Reject> {
        let [from, to] = self.accepts()?;
        if to == 0 {
            return Ok(None);
        }
        let size = u64::from(self.size);
        x.holds("x", from * size, size)?;
        y.holds("y", to * size, size)?;
        let rows: u64 = self.axes.iter().map(|axis| u64::from(axis[1])).sum();
        table.holds("table", 4 * rows, 4)?;
        let (elements, geometry) = Elements::on(device, to);
        let mut params = NearestParams {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            table: Global::from_address(table.address),
            constant: self.constant,
            extents: [1; MOST_AXES],
            steps: [0; MOST_AXES],
            tables: [0; MOST_AXES],
            inner: self.inner,
            elements,
            reserved: 0,
        };
        let (mut step, mut table) = (self.inner, rows as u32);
        for (at, &[from, to]) in self.axes.iter().rev().enumerate() {
            table -= to;
            (params.extents[at], params.steps[at], params.tables[at]) = (to, step, table);
            step *= from;
        }
        let entry: &'static Entry<NearestParams> = match self.size {
            1 => &NEAREST_1,
            2 => &NEAREST_2,
            4 => &NEAREST_4,
            _ => &NEAREST_8,
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
        let (x, y) = (DType::F32, DType::F16);
        let shape = Smooth { outer: 1, from: 3, to: 6, inner: 2, taps: 2, x, y, outside: 0.0 };
        let buffer = |bytes| Buffer { address: 4096, bytes };
        assert!(shape.prepare([buffer(24), buffer(24), buffer(96)], &EMULATED).is_ok());
        let short = shape.prepare([buffer(24), buffer(24), buffer(92)], &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "table", needed: 96, got: 92 }));
        assert!(Smooth { outer: u32::MAX, ..shape }.accepts().is_err());
        assert!(Smooth { y: DType::F64, ..shape }.accepts().is_err());
        let axes = [[1, 1], [1, 1], [1, 1], [2, 4]];
        let shape = Nearest { size: 2, axes, inner: 3, constant: 0 };
        assert!(shape.prepare([buffer(12), buffer(24), buffer(28)], &EMULATED).is_ok());
        let short = shape.prepare([buffer(12), buffer(24), buffer(24)], &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "table", needed: 28, got: 24 }));
        assert!(Nearest { size: 3, ..shape }.accepts().is_err());
    }
}
