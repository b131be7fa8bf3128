//! # Running sums and products
//! `y[a, k, b] = Σ_{i ≤ k} x[a, i, b]` along the middle of `[outer, depth, inner]`, or the product; from the other end on
//! request, and without an element's own term.
//!
//! `warp`: a warp for each line, 32 elements at a time, each lane's term combined with those in front of it by shuffles
//! (Kogge and Stone) and with what the elements before gave. `columns`, for lines of which neighbours lie side by side: a
//! thread for each, which goes along it. Registers are those of programs: 32 bits or, for 64-bit types, 64.
//!
//! Sums of f16 and bf16 are f32; the terms of a warp are combined in pairs, so that a sum of `n` terms is off by at most
//! `⌈n / 32⌉ + 5` roundings.
//!
//! Grid `⌈lines / 8⌉` and `⌈lines / 256⌉`; block 256; no shared memory.

use crate::device::math::divide;
use crate::device::{Global, thread, warp};
use crate::dtype::DType;
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Geometry, Prepared, Reject};
use crate::lines::{self, THREADS};
use crate::map::arithmetic::{Kinds, Operation, apply, store, widen};
use crate::map::interpreter::{load_one, store_one};
use crate::program::{Kind, Opcode};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    /// The result of no terms, as a register.
    empty: u64,
    outer: u32,
    depth: u32,
    inner: u32,
    reverse: u32,
    exclusive: u32,
    /// Type of the elements, the kind of registers, and the operation.
    dtype: u32,
    kind: u32,
    opcode: u32,
}

const _: () = assert!(size_of::<Params>() == 56);

/// How the work is shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// A warp for each line.
    Warp,
    /// A thread for each line.
    Columns,
}

/// The launch of a plan.
pub const fn geometry(plan: Plan, lines: u32) -> Geometry {
    match plan {
        Plan::Warp => lines::by_warp(lines),
        Plan::Columns => lines::by_block(lines.div_ceil(THREADS)),
    }
}

impl Params {
    /// Bytes of an element.
    #[inline(always)]
    fn size(&self) -> u32 {
        DType::from_code(self.dtype).bits() as u32 / 8
    }

    #[inline(always)]
    fn combine(&self, wide: bool, a: u64, b: u64) -> u64 {
        let kind = Kind::from_code(self.kind);
        let dtype = DType::from_code(self.dtype);
        let operation = Operation { opcode: Opcode::from_code(self.opcode), kind, operands: kind, dtype };
        apply(Kinds::combined(wide), operation, [a, b, 0])
    }

    /// The first element of a line, and element `k` from the end that it is taken from.
    #[inline(always)]
    fn place(&self, line: u32, k: u32) -> u32 {
        let (a, b) = divide(line, self.inner);
        let k = if self.reverse != 0 { self.depth - 1 - k } else { k };
        (a * self.depth + k) * self.inner + b
    }

    #[inline(always)]
    fn load(&self, at: u32) -> u64 {
        widen(DType::from_code(self.dtype), load_one(self.x, self.size(), at as usize))
    }

    #[inline(always)]
    fn store(&self, at: u32, value: u64) {
        store_one(self.y, self.size(), at as usize, store(DType::from_code(self.dtype), value));
    }
}

/// The value of lane `source`.
#[inline(always)]
fn of_lane<const WIDE: bool>(value: u64, source: u32) -> u64 {
    if WIDE {
        warp::shuffle_wide(warp::ALL, warp::Source::Lane, value, source)
    } else {
        warp::shuffle_idx(warp::ALL, value as u32, source).into()
    }
}

/// A warp for each line.
#[inline(always)]
fn by_warp<const WIDE: bool>(p: Params) {
    let line = lines::of_warp();
    if line >= p.outer * p.inner {
        return;
    }
    let lane = warp::lane_id();
    let (mut before, mut first) = (p.empty, 0);
    while first < p.depth {
        let k = first + lane;
        let mut total = if k < p.depth { p.load(p.place(line, k)) } else { p.empty };
        let mut distance = 1;
        while distance < warp::LANES {
            let source = if lane >= distance { lane - distance } else { lane };
            let other = of_lane::<WIDE>(total, source);
            if lane >= distance {
                total = p.combine(WIDE, other, total);
            }
            distance *= 2;
        }
        let total = p.combine(WIDE, before, total);
        let in_front = of_lane::<WIDE>(total, if lane > 0 { lane - 1 } else { 0 });
        if k < p.depth {
            let exclusive = if lane > 0 { in_front } else { before };
            p.store(p.place(line, k), if p.exclusive != 0 { exclusive } else { total });
        }
        before = of_lane::<WIDE>(total, warp::LANES - 1);
        first += warp::LANES;
    }
}

/// A thread for each line.
#[inline(always)]
fn by_column<const WIDE: bool>(p: Params) {
    let line = thread::index_1d();
    if line >= p.outer * p.inner {
        return;
    }
    let (mut total, mut k) = (p.empty, 0);
    while k < p.depth {
        let at = p.place(line, k);
        let with = p.combine(WIDE, total, p.load(at));
        p.store(at, if p.exclusive != 0 { total } else { with });
        total = with;
        k += 1;
    }
}

entry!(
    /// A thread for each line, 32-bit registers.
    COLUMNS_NARROW = cumulative_columns_narrow(Params): by_column::<false>, THREADS
);
entry!(
    /// A thread for each line, 64-bit registers.
    COLUMNS_WIDE = cumulative_columns_wide(Params): by_column::<true>, THREADS
);
entry!(
    /// A warp for each line, 32-bit registers.
    WARP_NARROW = cumulative_warp_narrow(Params): by_warp::<false>, THREADS
);
entry!(
    /// A warp for each line, 64-bit registers.
    WARP_WIDE = cumulative_warp_wide(Params): by_warp::<true>, THREADS
);

/// What is to be accumulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Type of X and Y.
    pub dtype: DType,
    /// Extents in front of the axis.
    pub outer: u32,
    /// The axis.
    pub depth: u32,
    /// Extents behind it.
    pub inner: u32,
    /// Whether products are wanted rather than sums.
    pub product: bool,
    /// Whether the last element comes first.
    pub reverse: bool,
    /// Whether an element's own term is left out.
    pub exclusive: bool,
}

impl Shape {
    /// How the work is shared out.
    pub fn plan(&self) -> Plan {
        if self.inner >= warp::LANES { Plan::Columns } else { Plan::Warp }
    }

    /// The kind of registers, where there is a kernel for it.
    pub fn accepts(&self) -> Result<Kind, Reject> {
        let kind = Kind::of(self.dtype).filter(|&kind| kind != Kind::Bool);
        let lines = u64::from(self.outer) * u64::from(self.inner);
        let (got, limit) = (lines.saturating_mul(self.depth.into()), u64::from(u32::MAX / 2));
        if got > limit {
            return Err(Reject::Extent { name: "elements", got, limit });
        }
        kind.ok_or(Reject::ElementType { operand: "x" })
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, x: Buffer, y: Buffer, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        let kind = self.accepts()?;
        let lines = self.outer * self.inner;
        let (elements, size) = (u64::from(lines) * u64::from(self.depth), self.dtype.bits() as u64 / 8);
        if elements == 0 {
            return Ok(None);
        }
        x.holds("x", elements * size, size)?;
        y.holds("y", elements * size, size)?;
        let opcode = if self.product { Opcode::Mul } else { Opcode::Add };
        let one = match kind {
            Kind::F32 => 1f32.to_bits().into(),
            Kind::F64 => 1f64.to_bits(),
            _ => 1,
        };
        let params = Params {
            x: Global::from_address(x.address),
            y: Global::from_address(y.address),
            empty: if self.product { one } else { 0 },
            outer: self.outer,
            depth: self.depth,
            inner: self.inner,
            reverse: self.reverse.into(),
            exclusive: self.exclusive.into(),
            dtype: self.dtype as u32,
            kind: kind as u32,
            opcode: opcode as u32,
        };
        let wide = !matches!(kind, Kind::F32 | Kind::I32);
        let plan = self.plan();
        let entry: &'static Entry<Params> = match (plan, wide) {
            (Plan::Warp, false) => &WARP_NARROW,
            (Plan::Warp, true) => &WARP_WIDE,
            (Plan::Columns, false) => &COLUMNS_NARROW,
            (Plan::Columns, true) => &COLUMNS_WIDE,
        };
        Prepared::new(entry, geometry(plan, lines), params, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let (product, reverse, exclusive) = (false, false, false);
        let shape = Shape { dtype: DType::I64, outer: 2, depth: 3, inner: 1, product, reverse, exclusive };
        assert!(Shape { dtype: DType::Bool, ..shape }.accepts().is_err());
        assert!(Shape { outer: u32::MAX, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        assert!(shape.prepare(buffer(48), buffer(48), &EMULATED).is_ok());
        let short = shape.prepare(buffer(48), buffer(40), &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "y", needed: 48, got: 40 }));
    }
}
