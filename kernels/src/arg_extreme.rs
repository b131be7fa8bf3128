//! # The place of the largest or smallest element
//! `y[a, b] = argmax_k x[a, k, b]` (or argmin) over the middle of `[outer, depth, inner]`, as 64-bit integers; of equal ones
//! the first or the last. A NaN counts as the extreme.
//!
//! A warp for each line: lanes take its elements in turn, keep the best one's value and place, and exchange them at the end.
//! Being better is a total order of (value, place), so that the result does not depend on who compares with whom.
//!
//! Grid `⌈outer·inner / 8⌉`, block 256, no shared memory.

use crate::device::math::divide;
use crate::device::{BF16, F16, Global, thread, warp};
use crate::element::{Element, Real};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Geometry, Prepared, Reject};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u64>,
    outer: u32,
    depth: u32,
    inner: u32,
    /// 1 for the smallest element.
    smallest: u32,
    /// 1 for the last of equal ones.
    last: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Params>() == 40);

/// Threads of a block.
pub const THREADS: u32 = 256;
const WARPS: u32 = THREADS / warp::LANES;
/// The place of a lane that has seen nothing.
const NONE: u32 = u32::MAX;

/// The launch for so many lines.
pub const fn geometry(lines: u32) -> Geometry {
    Geometry::linear(lines.div_ceil(WARPS), THREADS)
}

/// An element and its place on the line.
#[derive(Clone, Copy)]
struct Candidate {
    value: f32,
    at: u32,
}

impl Candidate {
    /// Whether it comes before `other`, another place.
    #[inline(always)]
    fn beats(self, other: Self, p: &Params) -> bool {
        let place = if p.last != 0 { self.at > other.at } else { self.at < other.at };
        let (a, b) = if p.smallest != 0 { (-self.value, -other.value) } else { (self.value, other.value) };
        if self.at == NONE || other.at == NONE {
            other.at == NONE
        } else if a.is_nan() || b.is_nan() {
            a.is_nan() && (place || !b.is_nan())
        } else {
            a > b || (a == b && place)
        }
    }
}

/// A warp for each line.
#[inline(always)]
fn run<T: Real>(p: Params) {
    let line = thread::block_idx_x() * WARPS + warp::warp_id();
    if line >= p.outer * p.inner {
        return;
    }
    let (a, b) = divide(line, p.inner);
    let x = p.x.cast::<T>().offset(a as usize * p.depth as usize * p.inner as usize + b as usize);
    let mut best = Candidate { value: 0.0, at: NONE };
    let mut at = warp::lane_id();
    while at < p.depth {
        let found = Candidate { value: x.load(at as usize * p.inner as usize).widen(), at };
        if found.beats(best, &p) {
            best = found;
        }
        at += warp::LANES;
    }
    let mut distance = warp::LANES / 2;
    while distance > 0 {
        let value = warp::shuffle_xor(warp::ALL, best.value, distance);
        let found = Candidate { value, at: warp::shuffle_xor(warp::ALL, best.at, distance) };
        if found.beats(best, &p) {
            best = found;
        }
        distance /= 2;
    }
    if warp::lane_id() == 0 {
        p.y.store(line as usize, u64::from(best.at));
    }
}

entry!(
    /// bf16.
    ARG_EXTREME_BF16 = arg_extreme_bf16(Params): run::<BF16>, THREADS
);
entry!(
    /// f16.
    ARG_EXTREME_F16 = arg_extreme_f16(Params): run::<F16>, THREADS
);
entry!(
    /// f32.
    ARG_EXTREME_F32 = arg_extreme_f32(Params): run::<f32>, THREADS
);

/// What is to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Extents in front of the axis.
    pub outer: u32,
    /// The axis.
    pub depth: u32,
    /// Extents behind it.
    pub inner: u32,
    /// Type of X.
    pub element: Element,
    /// Whether the smallest element is looked for.
    pub smallest: bool,
    /// Whether the last of equal ones counts.
    pub last: bool,
}

impl Shape {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        if self.depth == 0 || self.outer == 0 || self.inner == 0 {
            return Err(Reject::Unsupported { what: "the extreme of nothing" });
        }
        let limit = u64::from(u32::MAX / 2);
        let lines = u64::from(self.outer) * u64::from(self.inner);
        for (name, got) in [("lines", lines.saturating_add(WARPS.into())), ("depth", self.depth.into())] {
            if got > limit {
                return Err(Reject::Extent { name, got, limit });
            }
        }
        Ok(())
    }

    /// A launch that has been checked: X dense, Y dense 64-bit integers.
    pub fn prepare(&self, x: Buffer, y: Buffer, device: &Device) -> Result<Prepared<Params>, Reject> {
        self.accepts()?;
        let lines = u64::from(self.outer) * u64::from(self.inner);
        let size = self.element.bytes();
        x.holds("x", (lines * u64::from(self.depth)).saturating_mul(size), size)?;
        y.holds("y", 8 * lines, 8)?;
        let entry: &'static Entry<Params> = match self.element {
            Element::F32 => &ARG_EXTREME_F32,
            Element::F16 => &ARG_EXTREME_F16,
            Element::BF16 => &ARG_EXTREME_BF16,
        };
        let params = Params {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            outer: self.outer,
            depth: self.depth,
            inner: self.inner,
            smallest: self.smallest.into(),
            last: self.last.into(),
            reserved: 0,
        };
        Prepared::new(entry, geometry(lines as u32), params, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape =
            Shape { outer: 2, depth: 3, inner: 1, element: Element::F32, smallest: false, last: false };
        assert!(Shape { depth: 0, ..shape }.accepts().is_err());
        assert!(Shape { outer: u32::MAX, ..shape }.accepts().is_err());
        let (x, y) = (Buffer { address: 4096, bytes: 24 }, Buffer { address: 8196, bytes: 16 });
        let refused = shape.prepare(x, y, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Alignment { operand: "y", needed: 8, address: 8196 }));
    }
}
