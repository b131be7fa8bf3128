//! # Gather by tuples of indices
//! `y[i] = x[place(i)]`, places being named by indices along one axis or several ([`places`](crate::places)). Elements are
//! bits of 1 to 8 bytes.
//!
//! A thread moves one element at a time. Hazard: an index outside its axis, which only the data tells. It reads nothing: its
//! element is zero, and the fault word, which the host looks at, becomes 1.
//!
//! Grid `min(⌈elements / 256⌉, 32 per multiprocessor)`, block 256, no shared memory.

use crate::device::atomic::Scope;
use crate::device::{Global, Plain};
use crate::elements::{Elements, THREADS};
use crate::entry;
use crate::launch::{Buffer, Device, Entry, Prepared, Reject};
use crate::places::{Form, Places};

/// What a launch takes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Params {
    x: Global<u8>,
    y: Global<u8>,
    fault: Global<u32>,
    places: Places,
    /// Of Y.
    elements: Elements,
}

const _: () = assert!(size_of::<Params>() == 168);

/// Every thread.
#[inline(always)]
fn run<T: Plain>(p: Params) {
    let (x, y) = (p.x.cast::<T>(), p.y.cast::<T>());
    p.elements.each(|number| {
        let value = match p.places.find(number) {
            Some(place) => x.load(place as usize),
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
    GATHER_ND_1 = gather_nd_1(Params): run::<u8>, THREADS
);
entry!(
    /// Elements of 2 bytes.
    GATHER_ND_2 = gather_nd_2(Params): run::<u16>, THREADS
);
entry!(
    /// Elements of 4 bytes.
    GATHER_ND_4 = gather_nd_4(Params): run::<u32>, THREADS
);
entry!(
    /// Elements of 8 bytes.
    GATHER_ND_8 = gather_nd_8(Params): run::<u64>, THREADS
);

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

/// A launch that has been checked, for elements of `size` bytes; nothing is to be done where there are none.
pub fn prepare(
    size: u32,
    form: &Form,
    buffers: &Buffers,
    device: &Device,
) -> Result<Option<Prepared<Params>>, Reject> {
    let entry: &'static Entry<Params> = match size {
        1 => &GATHER_ND_1,
        2 => &GATHER_ND_2,
        4 => &GATHER_ND_4,
        8 => &GATHER_ND_8,
        _ => return Err(Reject::ElementType { operand: "x" }),
    };
    let (count, bytes) = (form.count(), u64::from(size));
    if count == 0 {
        return Ok(None);
    }
    buffers.x.holds("x", form.elements() * bytes, bytes)?;
    buffers.y.holds("y", count * bytes, bytes)?;
    buffers.fault.holds("fault", 4, 4)?;
    let (elements, geometry) = Elements::on(device, count);
    let params = Params {
        x: Global::from_address(buffers.x.address),
        y: Global::from_address(buffers.y.address),
        fault: Global::from_address(buffers.fault.address),
        places: form.places(buffers.indices)?,
        elements,
    };
    Prepared::new(entry, geometry, params, device).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::EMULATED;

    #[test]
    fn what_does_not_fit_is_refused() {
        let form = Form::new(&[[3, 0, 1]], &[[5, 1]], (8, 3), 5).expect("a form");
        let buffer = |bytes| Buffer { address: 4096, bytes };
        let good = Buffers { x: buffer(20), indices: buffer(24), y: buffer(12), fault: buffer(4) };
        assert!(prepare(4, &form, &good, &EMULATED).is_ok());
        assert!(prepare(3, &form, &good, &EMULATED).is_err());
        assert!(Form::new(&[[3, 0, 1]], &[[5, 1]], (2, 3), 5).is_err());
        assert!(Form::new(&[[3, 0, 1]], &[[6, 1]], (8, 3), 5).is_err());
        assert!(Form::new(&[[3, 0, 1]], &[[5, 1]], (8, 2), 5).is_err());
        let short = prepare(4, &form, &Buffers { x: buffer(19), ..good }, &EMULATED).err();
        assert_eq!(short, Some(Reject::Length { operand: "x", needed: 20, got: 19 }));
    }
}
