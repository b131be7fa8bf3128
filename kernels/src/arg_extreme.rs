//! # The place of the largest or smallest element
//! `y[a, b] = argmax_k x[a, k, b]` (or argmin) over the middle of `[outer, depth, inner]`, as 64-bit integers; of equal ones
//! the first or the last. A NaN counts as the extreme.
//!
//! A warp for each line: lanes take its elements in turn, keep the best one's key and place, and exchange them at the end.
//! A key is a 64-bit integer that is larger for what is more extreme. Being better is a total order of (key, place), so
//! that the result does not depend on who compares with whom.
//!
//! Grid `⌈outer·inner / 8⌉`, block 256, no shared memory.

use crate::device::math::divide;
use crate::device::{BF16, F16, Global, Plain, warp};
use crate::dtype::DType;
use crate::element::Real;
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::lines::{self, THREADS, WARPS};

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

/// The place of a lane that has seen nothing.
const NONE: u32 = u32::MAX;

/// Elements that are compared.
trait Keyed: Plain {
    /// A number whose order is that of the values; for the smallest one, the other way round.
    fn key(self, smallest: bool) -> i64;
}

macro_rules! integers {
    ($($t:ty)*) => { $(
        impl Keyed for $t {
            #[inline(always)]
            fn key(self, smallest: bool) -> i64 {
                if smallest { !i64::from(self) } else { i64::from(self) }
            }
        }
    )* };
}

integers!(i8 i16 i32 i64 u8 u16 u32);

impl Keyed for u64 {
    #[inline(always)]
    fn key(self, smallest: bool) -> i64 {
        ((self ^ 1 << 63) as i64).key(smallest)
    }
}

macro_rules! reals {
    ($($t:ty)*) => { $(
        impl Keyed for $t {
            #[inline(always)]
            fn key(self, smallest: bool) -> i64 {
                let x = self.widen();
                if x.is_nan() {
                    return i64::MAX;
                }
                // Sign and magnitude as one number; both zeros are 0.
                let magnitude = i64::from(x.to_bits() & 0x7fff_ffff);
                (if x < 0.0 { -magnitude } else { magnitude }).key(smallest)
            }
        }
    )* };
}

reals!(f32 F16 BF16);

impl Keyed for f64 {
    #[inline(always)]
    fn key(self, smallest: bool) -> i64 {
        if self.is_nan() {
            return i64::MAX;
        }
        let magnitude = (self.to_bits() & i64::MAX as u64) as i64;
        (if self < 0.0 { -magnitude } else { magnitude }).key(smallest)
    }
}

/// A key and its place on the line.
#[derive(Clone, Copy)]
struct Candidate {
    key: i64,
    at: u32,
}

impl Candidate {
    /// Whether it comes before `other`, another place.
    #[inline(always)]
    fn beats(self, other: Self, p: &Params) -> bool {
        let place = if p.last != 0 { self.at > other.at } else { self.at < other.at };
        if self.at == NONE || other.at == NONE {
            other.at == NONE
        } else {
            self.key > other.key || (self.key == other.key && place)
        }
    }

    /// That of the lane whose number differs in the bits of `lanes`.
    #[inline(always)]
    fn exchanged(self, lanes: u32) -> Self {
        let key = warp::shuffle_wide(warp::ALL, warp::Source::Xor, self.key as u64, lanes);
        Self { key: key as i64, at: warp::shuffle_xor(warp::ALL, self.at, lanes) }
    }
}

/// A warp for each line.
#[inline(always)]
fn run<T: Keyed>(p: Params) {
    let line = lines::of_warp();
    if line >= p.outer * p.inner {
        return;
    }
    let (a, b) = divide(line, p.inner);
    let x = p.x.cast::<T>().offset(a as usize * p.depth as usize * p.inner as usize + b as usize);
    let mut best = Candidate { key: 0, at: NONE };
    let mut at = warp::lane_id();
    while at < p.depth {
        let found = Candidate { key: x.load(at as usize * p.inner as usize).key(p.smallest != 0), at };
        if found.beats(best, &p) {
            best = found;
        }
        at += warp::LANES;
    }
    let mut distance = warp::LANES / 2;
    while distance > 0 {
        let found = best.exchanged(distance);
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
    /// BF16.
    ARG_EXTREME_BF16 = arg_extreme_bf16(Params): run::<BF16>, THREADS
);
entry!(
    /// F16.
    ARG_EXTREME_F16 = arg_extreme_f16(Params): run::<F16>, THREADS
);
entry!(
    /// f32.
    ARG_EXTREME_F32 = arg_extreme_f32(Params): run::<f32>, THREADS
);
entry!(
    /// f64.
    ARG_EXTREME_F64 = arg_extreme_f64(Params): run::<f64>, THREADS
);
entry!(
    /// i16.
    ARG_EXTREME_I16 = arg_extreme_i16(Params): run::<i16>, THREADS
);
entry!(
    /// i32.
    ARG_EXTREME_I32 = arg_extreme_i32(Params): run::<i32>, THREADS
);
entry!(
    /// i64.
    ARG_EXTREME_I64 = arg_extreme_i64(Params): run::<i64>, THREADS
);
entry!(
    /// i8.
    ARG_EXTREME_I8 = arg_extreme_i8(Params): run::<i8>, THREADS
);
entry!(
    /// u16.
    ARG_EXTREME_U16 = arg_extreme_u16(Params): run::<u16>, THREADS
);
entry!(
    /// u32.
    ARG_EXTREME_U32 = arg_extreme_u32(Params): run::<u32>, THREADS
);
entry!(
    /// u64.
    ARG_EXTREME_U64 = arg_extreme_u64(Params): run::<u64>, THREADS
);
entry!(
    /// u8.
    ARG_EXTREME_U8 = arg_extreme_u8(Params): run::<u8>, THREADS
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
    /// Type of X, a number.
    pub element: DType,
    /// Whether the smallest element is looked for.
    pub smallest: bool,
    /// Whether the last of equal ones counts.
    pub last: bool,
}

impl Shape {
    fn entry(&self) -> Result<&'static Entry<Params>, Reject> {
        Ok(match self.element {
            DType::F32 => &ARG_EXTREME_F32,
            DType::F64 => &ARG_EXTREME_F64,
            DType::F16 => &ARG_EXTREME_F16,
            DType::BF16 => &ARG_EXTREME_BF16,
            DType::I8 => &ARG_EXTREME_I8,
            DType::I16 => &ARG_EXTREME_I16,
            DType::I32 => &ARG_EXTREME_I32,
            DType::I64 => &ARG_EXTREME_I64,
            DType::U8 => &ARG_EXTREME_U8,
            DType::U16 => &ARG_EXTREME_U16,
            DType::U32 => &ARG_EXTREME_U32,
            DType::U64 => &ARG_EXTREME_U64,
            _ => return Err(Reject::ElementType { operand: "x" }),
        })
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        self.entry()?;
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
        let size = self.element.bits() as u64 / 8;
        x.holds("x", (lines * u64::from(self.depth)).saturating_mul(size), size)?;
        y.holds("y", 8 * lines, 8)?;
        let entry = self.entry()?;
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
        Prepared::new(entry, lines::by_warp(lines as u32), params, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Shape { outer: 2, depth: 3, inner: 1, element: DType::F32, smallest: false, last: false };
        assert!(Shape { depth: 0, ..shape }.accepts().is_err());
        let truth = Shape { element: DType::Bool, ..shape };
        assert_eq!(truth.accepts(), Err(Reject::ElementType { operand: "x" }));
        assert!(Shape { outer: u32::MAX, ..shape }.accepts().is_err());
        let (x, y) = (Buffer { address: 4096, bytes: 24 }, Buffer { address: 8196, bytes: 16 });
        let refused = shape.prepare(x, y, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Alignment { operand: "y", needed: 8, address: 8196 }));
    }
}
