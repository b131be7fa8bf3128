//! # Gather
//! `y[a, j, b] = x[a, index[j], b]`, X `[outer, extent, inner]`, Y `[outer, indices, inner]`. Indices below 0 count from the
//! end. Elements are bits of 1 to 16 bytes: a row's elements move by pairs as long as everything is even.
//!
//! A thread moves one element at a time. Hazard: an index outside the axis, which only the data tells. It reads nothing: its
//! elements are zero, and the fault word, which the host looks at, becomes 1.
//!
//! Grid `min(⌈n / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::atomic::Scope;
use crate::device::math::divide;
use crate::device::{Global, Plain, Vector};
use crate::elements::{self, Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::places::{index_at, inside};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    indices: Global<u8>,
    y: Global<u8>,
    fault: Global<u32>,
    extent: u32,
    inner: u32,
    /// Number of indices.
    picked: u32,
    /// Whether indices have 64 bits.
    wide: u32,
    /// Of Y.
    elements: Elements,
}

const _: () = assert!(size_of::<Params>() == 56);

/// Every thread.
#[inline(always)]
fn run<T: Plain>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let (row, b) = divide(number, p.inner);
        let (a, j) = divide(row, p.picked);
        let value = match inside(index_at(p.indices, p.wide, j as usize), p.extent) {
            Some(at) => {
                let row = u64::from(a) * u64::from(p.extent) + u64::from(at);
                x.load((row * u64::from(p.inner) + u64::from(b)) as usize)
            }
            None => {
                p.fault.store_relaxed(0, 1, Scope::System);
                T::from_bits(0)
            }
        };
        y.store(number as usize, value);
    });
}

entry!(
    /// Elements of 1 byte.
    GATHER_1 = gather_1(Params): run::<u8>, THREADS
);
entry!(
    /// Elements of 16 bytes.
    GATHER_16 = gather_16(Params): run::<Vector<u32, 4>>, THREADS
);
entry!(
    /// Elements of 2 bytes.
    GATHER_2 = gather_2(Params): run::<u16>, THREADS
);
entry!(
    /// Elements of 4 bytes.
    GATHER_4 = gather_4(Params): run::<u32>, THREADS
);
entry!(
    /// Elements of 8 bytes.
    GATHER_8 = gather_8(Params): run::<u64>, THREADS
);

/// What is to be gathered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bytes of an element: 1, 2, 4 or 8.
    pub size: u32,
    /// Extents in front of the axis.
    pub outer: u32,
    /// The axis.
    pub extent: u32,
    /// Indices.
    pub picked: u32,
    /// Extents behind the axis.
    pub inner: u32,
    /// Bytes of an index: 4 or 8.
    pub index: u32,
}

/// The memory of a launch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buffers {
    /// X, dense.
    pub x: Buffer,
    /// The indices, dense.
    pub indices: Buffer,
    /// Y, dense.
    pub y: Buffer,
    /// A word that becomes 1 where an index is outside; the host sets it to 0.
    pub fault: Buffer,
}

impl Shape {
    /// Whether there is a kernel for it.
    pub fn accepts(&self) -> Result<(), Reject> {
        if ![1, 2, 4, 8].contains(&self.size) {
            return Err(Reject::ElementType { operand: "x" });
        }
        if self.index != 4 && self.index != 8 {
            return Err(Reject::ElementType { operand: "indices" });
        }
        let of = |factors: [u32; 3]| factors.iter().fold(1u64, |n, &factor| n.saturating_mul(factor.into()));
        let elements = of([self.outer, self.picked, self.inner]);
        for (name, got) in
            [("elements", elements), ("elements of X", of([self.outer, self.extent, self.inner]))]
        {
            elements::limit(name, got)?;
        }
        Ok(())
    }

    /// A launch that has been checked; nothing is to be done where Y is empty.
    pub fn prepare(&self, buffers: &Buffers, device: &Device) -> Result<Option<Prepared<Params>>, Reject> {
        self.accepts()?;
        let bytes = |rows: u32| {
            u64::from(self.outer) * u64::from(rows) * u64::from(self.inner) * u64::from(self.size)
        };
        if bytes(self.picked) == 0 {
            return Ok(None);
        }
        buffers.x.holds("x", bytes(self.extent), self.size.into())?;
        buffers.y.holds("y", bytes(self.picked), self.size.into())?;
        let index = u64::from(self.index);
        buffers.indices.holds("indices", index * u64::from(self.picked), index)?;
        buffers.fault.holds("fault", 4, 4)?;
        let (mut size, mut inner) = (self.size, self.inner);
        let aligned = |size: u32| (buffers.x.address | buffers.y.address).is_multiple_of(size.into());
        while size < 16 && inner % 2 == 0 && aligned(2 * size) {
            (size, inner) = (2 * size, inner / 2);
        }
        let count = u64::from(self.outer) * u64::from(self.picked) * u64::from(inner);
        let (elements, geometry) = Elements::on(device, count);
        let params = Params {
            x: Global::from_address(buffers.x.address),
            indices: Global::from_address(buffers.indices.address),
            y: Global::from_address(buffers.y.address),
            fault: Global::from_address(buffers.fault.address),
            extent: self.extent,
            inner,
            picked: self.picked,
            wide: u32::from(self.index == 8),
            elements,
        };
        let entry: &'static Entry<Params> = match size {
            1 => &GATHER_1,
            2 => &GATHER_2,
            4 => &GATHER_4,
            8 => &GATHER_8,
            _ => &GATHER_16,
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
        let shape = Shape { size: 4, outer: 1, extent: 5, picked: 3, inner: 2, index: 8 };
        assert!(Shape { size: 3, ..shape }.accepts().is_err());
        assert!(Shape { index: 2, ..shape }.accepts().is_err());
        assert!(Shape { outer: u32::MAX, ..shape }.accepts().is_err());
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(40), indices: buffer(24), y: buffer(24), fault: buffer(4) };
        assert!(shape.prepare(&good, &EMULATED).is_ok());
        let short = Buffers { indices: buffer(23), ..good };
        let refused = shape.prepare(&short, &EMULATED).err();
        assert_eq!(refused, Some(Reject::Length { operand: "indices", needed: 24, got: 23 }));
        let none = Buffers { fault: Buffer::default(), ..good };
        assert_eq!(shape.prepare(&none, &EMULATED).err(), Some(Reject::Absent { operand: "fault" }));
    }
}
