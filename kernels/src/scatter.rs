//! # Scatter
//! `y[place(i)] = u[i]`, or the sum, product, largest or smallest of what is there and the updates; Y holds X before. Places
//! are named by indices along one axis or several ([`places`](crate::places)).
//!
//! A thread takes one update at a time. Of several updates of one element the last one stays: `claim` writes the largest
//! number of an update into a word per element, `put` lets that one write alone. Combining updates are exchanged into the
//! element (compare and swap; of elements below 4 bytes, the word around them), in any order: sums and products of floats
//! are rounded in that order, each to the element's type.
//!
//! Hazard: an index outside its axis, which only the data tells. Its update is left out, and the fault word becomes 1.
//!
//! Grid `min(⌈updates / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::atomic::{AtomicInteger, Operation as Atomic, Order, Scope};
use crate::device::{Global, Plain};
use crate::dtype::DType;
use crate::elements::{Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::map::arithmetic::{Kinds, Operation, apply, store, widen};
use crate::map::interpreter::load_one;
use crate::places::{Form, Places};
use crate::program::{Kind, Opcode};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    updates: Global<u8>,
    y: Global<u8>,
    fault: Global<u32>,
    /// A word for each element of Y, zero at first: 1 and the number of the last update.
    claims: Global<u32>,
    places: Places,
    /// The updates.
    elements: Elements,
    /// Type of the elements, and what is done with the updates; of use where they are combined.
    dtype: u32,
    operation: u32,
}

const _: () = assert!(size_of::<Params>() == 184);

impl Params {
    /// Gives each of the thread's updates with its place to `take`; one whose place is nowhere is a fault.
    #[inline(always)]
    fn each(&self, mut take: impl FnMut(u32, u32)) {
        self.elements.each(|number| match self.places.find(number) {
            Some(place) => take(number, place),
            None => self.fault.store_relaxed(0, 1, Scope::System),
        });
    }
}

/// Every thread: which update is the last one of its element.
#[inline(always)]
fn claim(p: Params) {
    p.each(|number, place| {
        let order = (Atomic::Max, Order::Relaxed, Scope::Device);
        p.claims.fetch(order.0, place as usize, number + 1, order.1, order.2);
    });
}

/// Every thread: the last update of each element is written.
#[inline(always)]
fn put<T: Plain>(p: Params) {
    let (updates, y) = (p.updates.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        if let Some(place) = p.places.find(number)
            && p.claims.load(place as usize) == number + 1
        {
            y.store(place as usize, updates.load(number as usize));
        }
    });
}

/// The element that an update makes of another one, as the low bits of both.
#[inline(always)]
fn combined(wide: bool, p: &Params, old: u64, update: u64) -> u64 {
    let dtype = DType::from_code(p.dtype);
    let kind = kind_of(dtype);
    let operation = Operation { opcode: Opcode::from_code(p.operation), kind, operands: kind, dtype };
    store(dtype, apply(Kinds::combined(wide), operation, [widen(dtype, old), widen(dtype, update), 0]))
}

/// The kind that elements are combined in.
#[inline(always)]
fn kind_of(dtype: DType) -> Kind {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Kind::F32,
        DType::F64 => Kind::F64,
        DType::I64 | DType::U32 => Kind::I64,
        DType::U64 => Kind::U64,
        DType::Bool => Kind::Bool,
        _ => Kind::I32,
    }
}

/// Puts what `make` makes of word `at` in its place.
#[inline(always)]
fn exchange<T: AtomicInteger>(y: Global<T>, at: usize, make: impl Fn(T) -> T) {
    let mut old = y.load_relaxed(at, Scope::Device);
    loop {
        let seen = y.compare_exchange(at, old, make(old), Order::Relaxed, Scope::Device);
        if seen == old {
            return;
        }
        old = seen;
    }
}

/// Every thread: updates of up to 4 bytes are combined, in the word around them.
#[inline(always)]
fn combine_narrow(p: Params) {
    let dtype = DType::from_code(p.dtype);
    let bits = dtype.bits() as u32;
    // Elements of a word, as a power of 2.
    let power = 5 - bits.trailing_zeros();
    p.each(|number, place| {
        let update = load_one(p.updates, bits / 8, number as usize);
        let (word, shift) = (place >> power, (place & ((1 << power) - 1)) * bits);
        let mask = (u32::MAX >> (32 - bits)) << shift;
        exchange(p.y.cast::<u32>(), word as usize, |old| {
            let made = combined(dtype == DType::U32, &p, u64::from((old & mask) >> shift), update);
            (old & !mask) | ((made as u32) << shift & mask)
        });
    });
}

/// Every thread: updates of 8 bytes are combined.
#[inline(always)]
fn combine_wide(p: Params) {
    p.each(|number, place| {
        let update = p.updates.cast::<u64>().load(number as usize);
        exchange(p.y.cast::<u64>(), place as usize, |old| combined(true, &p, old, update));
    });
}

entry!(
    /// Which update is the last one of its element.
    CLAIM = scatter_claim(Params): claim, THREADS
);
entry!(
    /// Combines elements of up to 4 bytes.
    COMBINE_4 = scatter_combine_4(Params): combine_narrow, THREADS
);
entry!(
    /// Combines elements of 8 bytes.
    COMBINE_8 = scatter_combine_8(Params): combine_wide, THREADS
);
entry!(
    /// Writes elements of 1 byte.
    PUT_1 = scatter_put_1(Params): put::<u8>, THREADS
);
entry!(
    /// Writes elements of 2 bytes.
    PUT_2 = scatter_put_2(Params): put::<u16>, THREADS
);
entry!(
    /// Writes elements of 4 bytes.
    PUT_4 = scatter_put_4(Params): put::<u32>, THREADS
);
entry!(
    /// Writes elements of 8 bytes.
    PUT_8 = scatter_put_8(Params): put::<u64>, THREADS
);

/// How an update meets what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meeting {
    /// The last one stays.
    Replace,
    /// The sum.
    Add,
    /// The product.
    Multiply,
    /// The larger one; NaN where one is.
    Max,
    /// The smaller one; NaN where one is.
    Min,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// The updates, dense.
    pub updates: Buffer,
    /// The indices, dense.
    pub indices: Buffer,
    /// Y, dense, with the elements of X, in whole words.
    pub y: Buffer,
    /// A word for each element of Y, all zero, where updates replace.
    pub claims: Buffer,
    /// A word that becomes 1 where an index is outside; the host sets it to 0.
    pub fault: Buffer,
}

/// The launches, in order, that have been checked; none where there are no updates.
pub fn prepare(
    dtype: DType,
    meeting: Meeting,
    form: &Form,
    buffers: &Buffers,
    device: &Device,
) -> Result<[Option<Prepared<Params>>; 2], Reject> {
    let count = form.count();
    let size = match dtype.bits() {
        bits @ (8 | 16 | 32 | 64) => bits as u64 / 8,
        _ => return Err(Reject::ElementType { operand: "x" }),
    };
    if count == 0 {
        return Ok([None, None]);
    }
    let opcode = match (meeting, dtype) {
        (Meeting::Replace, _) => Opcode::Add,
        _ if Kind::of(dtype).is_none() => return Err(Reject::ElementType { operand: "x" }),
        (Meeting::Add | Meeting::Max, DType::Bool) => Opcode::Or,
        (_, DType::Bool) => Opcode::And,
        (Meeting::Add, _) => Opcode::Add,
        (Meeting::Multiply, _) => Opcode::Mul,
        (Meeting::Max, _) => Opcode::Max,
        (Meeting::Min, _) => Opcode::Min,
    };
    let replaces = meeting == Meeting::Replace;
    buffers.updates.holds("updates", count * size, size)?;
    let whole = if replaces { form.elements() * size } else { (form.elements() * size).next_multiple_of(4) };
    buffers.y.holds("y", whole, size.max(4))?;
    buffers.fault.holds("fault", 4, 4)?;
    if replaces {
        buffers.claims.holds("claims", 4 * form.elements(), 4)?;
    }
    let (elements, geometry) = Elements::on(device, count);
    let params = Params {
        updates: Global::from_address(buffers.updates.address),
        y: Global::from_address(buffers.y.address),
        fault: Global::from_address(buffers.fault.address),
        claims: Global::from_address(buffers.claims.address),
        places: form.places(buffers.indices)?,
        elements,
        dtype: dtype as u32,
        operation: opcode as u32,
    };
    let launch = |entry: &'static Entry<Params>| Prepared::new(entry, geometry, params, device).map(Some);
    let (first, second): (&'static Entry<Params>, Option<&'static Entry<Params>>) = match (replaces, size) {
        (true, 1) => (&CLAIM, Some(&PUT_1)),
        (true, 2) => (&CLAIM, Some(&PUT_2)),
        (true, 4) => (&CLAIM, Some(&PUT_4)),
        (true, _) => (&CLAIM, Some(&PUT_8)),
        (false, 8) => (&COMBINE_8, None),
        (false, _) => (&COMBINE_4, None),
    };
    Ok([launch(first)?, second.map_or(Ok(None), launch)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let form = Form::new(&[[3, 0, 1]], &[[5, 1]], (8, 3), 5).expect("a form");
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers {
            updates: buffer(6),
            indices: buffer(24),
            y: buffer(12),
            claims: buffer(20),
            fault: buffer(4),
        };
        let launches = |dtype, meeting, buffers: &Buffers| prepare(dtype, meeting, &form, buffers, &EMULATED);
        let many = |meeting| launches(DType::F16, meeting, &good).map(|l| l.iter().flatten().count());
        assert_eq!(many(Meeting::Replace), Ok(2));
        assert_eq!(many(Meeting::Add), Ok(1));
        assert!(launches(DType::Complex64, Meeting::Add, &good).is_err());
        // A word is exchanged as a whole: five elements of 2 bytes need 12 bytes.
        let short = Buffers { y: buffer(10), ..good };
        assert!(launches(DType::F16, Meeting::Replace, &short).is_ok());
        let refused = launches(DType::F16, Meeting::Add, &short).err();
        assert_eq!(refused, Some(Reject::Length { operand: "y", needed: 12, got: 10 }));
        let refused = launches(DType::F16, Meeting::Replace, &Buffers { claims: buffer(16), ..good }).err();
        assert_eq!(refused, Some(Reject::Length { operand: "claims", needed: 20, got: 16 }));
    }
}
