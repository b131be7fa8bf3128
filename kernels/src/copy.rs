//! # Strided copies
//! `y[t + Σ iₐ·tₐ] = x[s + Σ iₐ·sₐ]` over a box of up to six axes: transposes, slices (strides may be negative), splits,
//! parts that are joined, repetitions (strides of 0), and, box by box, paddings. Elements are bits of 1 to 16 bytes: where
//! both sides are dense along the last axis, pairs of elements move as one as long as everything is even.
//!
//! A thread moves one element at a time; what exchanges lines for columns goes by tiles ([`crate::transpose`]). Axes of
//! extent 1 are dropped, and neighbours that both sides step through alike are one. Nothing is computed, so that results
//! are exact.
//!
//! Grid `min(⌈n / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::math::divide;
use crate::device::{Global, Plain, Vector};
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::transpose;

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    pub(crate) x: Global<u8>,
    pub(crate) y: Global<u8>,
    /// The first element of each side.
    pub(crate) x_first: u64,
    pub(crate) y_first: u64,
    /// Elements between neighbours, last axis first.
    pub(crate) x_steps: [i64; MOST_AXES],
    pub(crate) y_steps: [i64; MOST_AXES],
    /// Last axis first; that of the first axis is not needed.
    pub(crate) extents: [u32; MOST_AXES],
    /// Or tiles.
    pub(crate) elements: Elements,
}

const _: () = assert!(size_of::<Params>() == 160);

/// Most axes, once those that can be one are.
pub const MOST_AXES: usize = 6;

/// The places of element `number` of the box on both sides.
#[inline(always)]
fn places(p: &Params, number: u32) -> (u64, u64) {
    let (mut x, mut y, mut rest) = (p.x_first as i64, p.y_first as i64, number);
    for axis in 0..MOST_AXES - 1 {
        let (quotient, at) = divide(rest, p.extents[axis]);
        x += i64::from(at) * p.x_steps[axis];
        y += i64::from(at) * p.y_steps[axis];
        rest = quotient;
    }
    x += i64::from(rest) * p.x_steps[MOST_AXES - 1];
    y += i64::from(rest) * p.y_steps[MOST_AXES - 1];
    (x as u64, y as u64)
}

/// Every thread.
#[inline(always)]
fn run<T: Plain>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let (from, to) = places(&p, number);
        y.store(to as usize, x.load(from as usize));
    });
}

entry!(
    /// Elements of 1 byte.
    COPY_1 = copy_1(Params): run::<u8>, THREADS
);
entry!(
    /// Elements of 16 bytes.
    COPY_16 = copy_16(Params): run::<Vector<u32, 4>>, THREADS
);
entry!(
    /// Elements of 2 bytes.
    COPY_2 = copy_2(Params): run::<u16>, THREADS
);
entry!(
    /// Elements of 4 bytes.
    COPY_4 = copy_4(Params): run::<u32>, THREADS
);
entry!(
    /// Elements of 8 bytes.
    COPY_8 = copy_8(Params): run::<u64>, THREADS
);

/// Extent, step in X, step in Y.
pub(crate) type Axis = (u64, i64, i64);

/// What is to be copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Bytes of an element: 1, 2, 4, 8 or 16.
    size: u32,
    /// Last axis first.
    axes: [Axis; MOST_AXES],
    x_first: u64,
    y_first: u64,
    /// Elements up to the last one of each side.
    x_reach: u64,
    y_reach: u64,
    count: u64,
}

/// One side of a copy: its first element, and elements between neighbours along each axis.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The first element.
    pub first: u64,
    /// One per axis.
    pub steps: &'a [i64],
}

impl Region {
    /// A box of these extents from side `x` to side `y`, elements of `size` bytes.
    pub fn new(size: u32, extents: &[u64], x: Side<'_>, y: Side<'_>) -> Result<Self, Reject> {
        if ![1, 2, 4, 8, 16].contains(&size) {
            return Err(Reject::ElementType { operand: "x" });
        }
        if x.steps.len() != extents.len() || y.steps.len() != extents.len() {
            return Err(Reject::Unsupported { what: "a side of another rank" });
        }
        let count = extents.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent)).unwrap_or(u64::MAX);
        elements::limit("elements", count)?;
        let x_reach = reach(extents, x)?;
        let y_reach = reach(extents, y)?;
        let (mut axes, mut rank) = ([(1, 0, 0); MOST_AXES], 0usize);
        for ((&extent, &from), &to) in extents.iter().zip(x.steps).zip(y.steps).rev() {
            let inner = rank.checked_sub(1).and_then(|at| axes.get_mut(at));
            match inner {
                _ if extent == 1 => {}
                Some((inner, x, y)) if along(*x, *inner) == Some(from) && along(*y, *inner) == Some(to) => {
                    *inner *= extent;
                }
                _ => {
                    rank += 1;
                    let limit = Reject::Extent { name: "axes", got: rank as u64, limit: MOST_AXES as u64 };
                    *axes.get_mut(rank - 1).ok_or(limit)? = (extent, from, to);
                }
            }
        }
        Ok(Self { size, axes, x_first: x.first, y_first: y.first, x_reach, y_reach, count })
    }

    /// Bytes that X and Y must have.
    pub fn bytes(&self) -> [u64; 2] {
        [self.x_reach, self.y_reach].map(|elements| elements.saturating_mul(self.size.into()))
    }

    /// The same copy by elements as large as both addresses allow.
    fn widened(&self, addresses: [u64; 2]) -> Self {
        let mut wide = *self;
        while wide.size < 16 {
            let size = 2 * u64::from(wide.size);
            let [(extent, 1, 1), outer @ ..] = &mut wide.axes else { return wide };
            let even = *extent % 2 == 0
                && (wide.x_first | wide.y_first).is_multiple_of(2)
                && outer.iter().all(|(_, x, y)| (x | y) % 2 == 0)
                && addresses.iter().all(|address| address.is_multiple_of(size));
            if !even {
                return wide;
            }
            *extent /= 2;
            outer.iter_mut().for_each(|(_, x, y)| (*x, *y) = (*x / 2, *y / 2));
            wide.size = size as u32;
            (wide.x_first, wide.y_first, wide.count) = (wide.x_first / 2, wide.y_first / 2, wide.count / 2);
        }
        wide
    }

    /// A launch that has been checked; nothing is to be done where the box is empty.
    pub fn prepare(&self, x: Buffer, y: Buffer, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        if self.count == 0 {
            return Ok(None);
        }
        let [x_bytes, y_bytes] = self.bytes();
        x.holds("x", x_bytes, self.size.into())?;
        y.holds("y", y_bytes, self.size.into())?;
        if x.overlaps(&y) {
            return Err(Reject::Unsupported { what: "a copy onto itself" });
        }
        let wide = self.widened([x.address, y.address]);
        let tiles = transpose::tiles(wide.size, &wide.axes);
        let axes = tiles.map_or(wide.axes, |tiles| tiles.axes);
        let (mut x_steps, mut y_steps, mut extents) = ([0; MOST_AXES], [0; MOST_AXES], [1; MOST_AXES]);
        for (at, (extent, from, to)) in axes.into_iter().enumerate() {
            (extents[at], x_steps[at], y_steps[at]) = (extent as u32, from, to);
        }
        let (elements, geometry) = match tiles {
            Some(tiles) => {
                let (elements, geometry) = Elements::of_blocks(device, tiles.count);
                (elements, geometry.with_shared(transpose::shared_bytes(wide.size)))
            }
            None => Elements::on(device, wide.count),
        };
        let params = Params {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            x_first: wide.x_first,
            y_first: wide.y_first,
            x_steps,
            y_steps,
            extents,
            elements,
        };
        let entry: &'static Entry<Params> = match (tiles, wide.size) {
            (Some(tiles), _) => tiles.entry,
            (None, 1) => &COPY_1,
            (None, 2) => &COPY_2,
            (None, 4) => &COPY_4,
            (None, 8) => &COPY_8,
            _ => &COPY_16,
        };
        Prepared::new(entry, geometry, params, device).map(Some)
    }
}

/// The step of an axis that continues one of this step and extent.
fn along(step: i64, extent: u64) -> Option<i64> {
    step.checked_mul(i64::try_from(extent).ok()?)
}

/// Elements up to the last one of a side, whose least place must not lie before the first element.
fn reach(extents: &[u64], side: Side<'_>) -> Result<u64, Reject> {
    let outside = Reject::Unsupported { what: "a side that leaves its memory" };
    if extents.contains(&0) {
        return Ok(0);
    }
    let (mut low, mut high) = (i128::from(side.first), i128::from(side.first));
    for (&extent, &step) in extents.iter().zip(side.steps) {
        let span = i128::from(extent - 1) * i128::from(step);
        if span < 0 { low += span } else { high += span }
    }
    if low < 0 {
        return Err(outside);
    }
    u64::try_from(high + 1).ok().filter(|&reach| i64::try_from(reach).is_ok()).ok_or(outside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let steps = [1i64];
        let side = Side { first: 0, steps: &steps };
        assert!(Region::new(3, &[4], side, side).is_err());
        assert!(Region::new(4, &[4, 4], side, side).is_err());
        let back = Side { first: 2, steps: &[-1] };
        assert_eq!(
            Region::new(4, &[4], back, side).err(),
            Some(Reject::Unsupported { what: "a side that leaves its memory" })
        );
        let seven = [2i64, 4, 12, 24, 100, 300, 700];
        let extents = [2u64; 7];
        let refused =
            Region::new(4, &extents, Side { first: 0, steps: &seven }, Side { first: 0, steps: &seven });
        assert_eq!(refused.err(), Some(Reject::Extent { name: "axes", got: 7, limit: 6 }));
        let copy = Region::new(4, &[4], side, side).expect("a copy");
        assert_eq!(copy.widened([4096, 8192]).size, 16, "four elements move as one");
        assert_eq!(copy.widened([4096, 8200]).size, 8);
        let (x, y) = (Buffer { address: 4096, bytes: 16 }, Buffer { address: 8192, bytes: 12 });
        let short = copy.prepare(x, y, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "y", needed: 16, got: 12 }));
        assert!(copy.prepare(x, x, &EMULATED).is_err());
        let none = Region::new(4, &[0], side, side).expect("a copy of nothing");
        assert!(none.prepare(Buffer::default(), Buffer::default(), &EMULATED).expect("nothing").is_none());
    }
}
