//! # The largest or smallest elements, in order
//! The first `k` elements of each line of `[outer, depth, inner]`, sorted along the middle, with their places there; of equal
//! ones the first comes first. A NaN is larger than all numbers.
//!
//! Elements become keys of 64 bits whose order is theirs; being better is a total order of (key, place), so that the result
//! does not depend on who compares with whom. `select`: a warp finds one after the other, each the best that is not better
//! than the one before: `k` passes over the line. `sort`: a block sorts a line of up to 2048 elements in shared memory, a
//! bitonic network (Batcher 1968).
//!
//! Grid `⌈lines / 8⌉` and `lines`; block 256; shared memory none and `12 · 2^⌈log₂ depth⌉` bytes.

use crate::device::math::divide;
use crate::device::{Global, shared, thread, warp};
use crate::dtype::DType;
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Geometry, Prepared, Reject};
use crate::lines::{self, THREADS};
use crate::map::arithmetic::widen;
use crate::map::interpreter::{load_one, store_one};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    /// Null: not wanted. So is the one below.
    values: Global<u8>,
    places: Global<u64>,
    outer: u32,
    depth: u32,
    inner: u32,
    k: u32,
    /// 1 for the smallest.
    smallest: u32,
    /// Type of the elements.
    dtype: u32,
}

const _: () = assert!(size_of::<Params>() == 48);

/// The longest line that a block sorts.
const SORTED: u32 = 2048;
/// Bytes of a key and a place, for each element of a line that is sorted.
const PAIR: u32 = 12;
const SHARED: u32 = SORTED * PAIR;
/// Elements that are found one after the other rather than by sorting.
const FEW: u32 = 8;
/// The place of nothing.
const NONE: u32 = u32::MAX;

/// How the work is shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// A warp for each line, pass by pass.
    Select,
    /// A block for each line, which it sorts.
    Sort,
}

/// The launch of a plan.
pub const fn geometry(plan: Plan, lines: u32, depth: u32) -> Geometry {
    match plan {
        Plan::Select => lines::by_warp(lines),
        Plan::Sort => lines::by_block(lines).with_shared(PAIR * depth.next_power_of_two()),
    }
}

/// An element as a key, and its place on the line.
#[derive(Clone, Copy)]
struct Candidate {
    key: u64,
    at: u32,
}

impl Candidate {
    const WORST: Self = Self { key: 0, at: NONE };

    /// Whether it comes before `other`, another place.
    #[inline(always)]
    fn beats(self, other: Self) -> bool {
        self.key > other.key || (self.key == other.key && self.at < other.at)
    }
}

/// 32 bits of a float whose order is that of its numbers, zeros being equal and NaN above all.
#[inline(always)]
fn float_key(bits: u64, sign: u64, infinity: u64) -> u64 {
    let size = bits & (sign - 1);
    if size > infinity {
        return u64::MAX;
    }
    if bits & sign != 0 && size != 0 { sign - size } else { sign + size }
}

/// The key of an element of which `raw` are the bytes.
#[inline(always)]
fn key(dtype: DType, raw: u64) -> u64 {
    let value = widen(dtype, raw);
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => float_key(value, 1 << 31, 0x7f80_0000),
        DType::F64 => float_key(value, 1 << 63, 0x7ff0_0000_0000_0000),
        DType::I8 | DType::I16 | DType::I32 => u64::from(value as u32 ^ 1 << 31),
        DType::I64 => value ^ 1 << 63,
        _ => value,
    }
}

impl Params {
    /// Bytes of an element.
    #[inline(always)]
    fn size(&self) -> u32 {
        DType::from_code(self.dtype).bits() as u32 / 8
    }

    /// Element `at` of the line that begins at `first`.
    #[inline(always)]
    fn candidate(&self, first: u64, at: u32) -> Candidate {
        let raw = load_one(self.x, self.size(), (first + u64::from(at) * u64::from(self.inner)) as usize);
        let key = key(DType::from_code(self.dtype), raw);
        Candidate { key: if self.smallest != 0 { !key } else { key }, at }
    }

    /// Where a line of X and one of Y begin.
    #[inline(always)]
    fn line(&self, number: u32) -> (u64, u64) {
        let (a, b) = divide(number, self.inner);
        let of = |depth: u32| u64::from(a) * u64::from(depth) * u64::from(self.inner) + u64::from(b);
        (of(self.depth), of(self.k))
    }

    /// Stores what has rank `rank` on a line.
    #[inline(always)]
    fn put(&self, (first, to): (u64, u64), rank: u32, at: u32) {
        let to = to + u64::from(rank) * u64::from(self.inner);
        if !self.values.is_null() {
            let from = first + u64::from(at) * u64::from(self.inner);
            let raw = load_one(self.x, self.size(), from as usize);
            store_one(self.values, self.size(), to as usize, raw);
        }
        if !self.places.is_null() {
            self.places.store(to as usize, u64::from(at));
        }
    }
}

/// A warp for each line, pass by pass.
#[inline(always)]
fn select(p: Params) {
    let number = lines::of_warp();
    if number >= p.outer * p.inner {
        return;
    }
    let line = p.line(number);
    let mut last = Candidate { key: u64::MAX, at: 0 };
    let mut rank = 0;
    while rank < p.k {
        let mut best = Candidate::WORST;
        let mut at = warp::lane_id();
        while at < p.depth {
            let found = p.candidate(line.0, at);
            if (rank == 0 || last.beats(found)) && found.beats(best) {
                best = found;
            }
            at += warp::LANES;
        }
        let mut distance = warp::LANES / 2;
        while distance > 0 {
            let key = warp::shuffle_wide(warp::ALL, warp::Source::Xor, best.key, distance);
            let found = Candidate { key, at: warp::shuffle_xor(warp::ALL, best.at, distance) };
            if found.beats(best) {
                best = found;
            }
            distance /= 2;
        }
        if warp::lane_id() == 0 {
            p.put(line, rank, best.at);
        }
        last = best;
        rank += 1;
    }
}

/// A block for each line, which it sorts: the best first.
#[inline(always)]
fn sort(p: Params) {
    let line = p.line(thread::block_idx_x());
    let mut length = 1;
    while length < p.depth {
        length *= 2;
    }
    let keys = shared::array::<u64>(0, length);
    let places = shared::array::<u32>(8 * length, length);
    let own = thread::thread_idx_x();
    let mut at = own;
    while at < length {
        let found = if at < p.depth { p.candidate(line.0, at) } else { Candidate::WORST };
        keys.store(at as usize, found.key);
        places.store(at as usize, found.at);
        at += THREADS;
    }
    thread::sync_threads();
    let mut run = 2;
    while run <= length {
        let mut distance = run / 2;
        while distance > 0 {
            let mut pair = own;
            while pair < length / 2 {
                // The lower element of the pair: the bits of `pair` with a 0 put in at `distance`.
                let low = (pair & !(distance - 1)) * 2 + (pair & (distance - 1));
                let (i, j) = (low as usize, (low + distance) as usize);
                let a = Candidate { key: keys.load(i), at: places.load(i) };
                let b = Candidate { key: keys.load(j), at: places.load(j) };
                // Runs are sorted in turn the best first and the worst first.
                let forward = low & run == 0;
                if b.beats(a) == forward && (b.key, b.at) != (a.key, a.at) {
                    keys.store(i, b.key);
                    places.store(i, b.at);
                    keys.store(j, a.key);
                    places.store(j, a.at);
                }
                pair += THREADS;
            }
            thread::sync_threads();
            distance /= 2;
        }
        run *= 2;
    }
    let mut rank = own;
    while rank < p.k {
        p.put(line, rank, places.load(rank as usize));
        rank += THREADS;
    }
}

entry!(
    /// Pass by pass.
    SELECT = top_k_select(Params): select, THREADS
);
entry!(
    /// By sorting.
    SORT = top_k_sort(Params): sort, THREADS, with_shared(SHARED)
);

/// What is to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Type of X.
    pub dtype: DType,
    /// Extents in front of the axis.
    pub outer: u32,
    /// The axis.
    pub depth: u32,
    /// Extents behind it.
    pub inner: u32,
    /// Elements that are wanted of each line.
    pub k: u32,
    /// Whether the smallest are wanted.
    pub smallest: bool,
}

impl Shape {
    /// How the work is shared out.
    pub fn plan(&self) -> Plan {
        if self.k > FEW && self.depth <= SORTED { Plan::Sort } else { Plan::Select }
    }

    fn lines(&self) -> u64 {
        u64::from(self.outer) * u64::from(self.inner)
    }

    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        if !(self.dtype.is_float() || self.dtype.is_int()) {
            return Err(Reject::ElementType { operand: "x" });
        }
        let limit = u64::from(u32::MAX / 2);
        for (name, got, limit) in [
            ("elements", self.lines().saturating_mul(self.depth.into()), limit),
            ("k", self.k.into(), self.depth.into()),
        ] {
            if got > limit {
                return Err(Reject::Extent { name, got, limit });
            }
        }
        Ok(())
    }

    /// A launch that has been checked: X dense, and what is wanted of values and places (64-bit integers).
    pub fn prepare(
        &self,
        [x, values, places]: [Buffer; 3],
        device: &Device,
    ) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        let (size, found) = (self.dtype.bits() as u64 / 8, self.lines() * u64::from(self.k));
        if found == 0 {
            return Ok(None);
        }
        x.holds("x", self.lines() * u64::from(self.depth) * size, size)?;
        if values.is_some() {
            values.holds("values", found * size, size)?;
        }
        if places.is_some() {
            places.holds("places", found * 8, 8)?;
        }
        let plan = self.plan();
        let entry: &'static Entry<Params> = match plan {
            Plan::Select => &SELECT,
            Plan::Sort => &SORT,
        };
        let params = Params {
            x: Global::from_address(x.address),
            values: Global::from_address(values.address),
            places: Global::from_address(places.address),
            outer: self.outer,
            depth: self.depth,
            inner: self.inner,
            k: self.k,
            smallest: self.smallest.into(),
            dtype: self.dtype as u32,
        };
        Prepared::new(entry, geometry(plan, self.lines() as u32, self.depth), params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn keys_have_the_order_of_the_elements() {
        let key_of = |x: f32| key(DType::F32, x.to_bits().into());
        let rising = [f32::NEG_INFINITY, -2.0, -1e-40, 0.0, 1e-40, 1.0, f32::INFINITY, f32::NAN];
        assert!(rising.map(key_of).windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(key_of(-0.0), key_of(0.0));
        assert_eq!(key_of(-f32::NAN), key_of(f32::NAN));
        assert!(key(DType::I8, 0xff) < key(DType::I8, 0));
        assert!(key(DType::I64, i64::MIN as u64) < key(DType::I64, 0));
        assert!(key(DType::U64, u64::MAX) > key(DType::U64, 1));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let shape = Shape { dtype: DType::F32, outer: 2, depth: 4, inner: 1, k: 3, smallest: false };
        assert!(Shape { k: 5, ..shape }.accepts().is_err());
        assert!(Shape { dtype: DType::Bool, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        assert!(shape.prepare([buffer(32), buffer(24), buffer(48)], &EMULATED).is_ok());
        let short = shape.prepare([buffer(32), buffer(24), buffer(40)], &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "places", needed: 48, got: 40 }));
    }
}
