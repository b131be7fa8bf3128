//! Accesses to global memory.

use super::lane::{Here, Source};
use super::memory::{Allocation, slot};
use super::report::{Access, Fault, Party, Place};
use super::run::Word;
use super::shadow::{Conflict, Kind, Shadow, Who};
use crate::device::{Order, Plain, Scope};

/// An access wherever it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Touch {
    /// Its bytes, a power of two up to 16.
    pub(super) size: u32,
    /// How the race detector sees it.
    pub(super) kind: Kind,
    /// How reports call it.
    pub(super) access: Access,
    /// Where in the kernel it is.
    pub(super) at: Source,
}

/// How an access of this order is recorded.
pub(super) fn read_kind(order: Order) -> Kind {
    if order == Order::Weak { Kind::Read } else { Kind::AtomicRead }
}

/// How an access of this order is recorded.
pub(super) fn write_kind(order: Order) -> Kind {
    if order == Order::Weak { Kind::Write } else { Kind::AtomicWrite }
}

impl Here<'_> {
    pub(crate) fn load_global<T: Plain>(self, address: u64, order: Order, scope: Scope, at: Source) -> T {
        if order != Order::Weak {
            self.lane.last.set(at);
            self.poll();
        }
        let size = size_of::<T>() as u32;
        let bits = self.global(
            address,
            Touch { size, kind: read_kind(order), access: Access::Read, at },
            |allocation, offset| {
                let _whole = (order != Order::Weak && size > 4).then(|| self.group.run.memory.wide());
                allocation.load(offset, size)
            },
        );
        if order != Order::Weak {
            self.order_read(Word::Global(address), order == Order::Acquire, scope);
        }
        T::from_bits(bits)
    }

    pub(crate) fn load_global_read_only<T: Plain>(self, address: u64, at: Source) -> T {
        let size = size_of::<T>() as u32;
        let load = |allocation: &Allocation, offset| allocation.load(offset, size);
        T::from_bits(self.global(
            address,
            Touch { size, kind: Kind::ReadOnly, access: Access::Read, at },
            load,
        ))
    }

    pub(crate) fn store_global<T: Plain>(
        self,
        address: u64,
        value: T,
        order: Order,
        scope: Scope,
        at: Source,
    ) {
        let size = size_of::<T>() as u32;
        self.global(
            address,
            Touch { size, kind: write_kind(order), access: Access::Write, at },
            |allocation, offset| {
                let _whole = (order != Order::Weak && size > 4).then(|| self.group.run.memory.wide());
                allocation.store(offset, size, value.to_bits());
            },
        );
        self.order_write(Word::Global(address), order, scope, false);
        self.group.changed();
    }

    /// Checks an access and lets `go` carry it out.
    pub(super) fn global<R>(self, address: u64, touch: Touch, go: impl FnOnce(&Allocation, u64) -> R) -> R {
        let Touch { size, kind, access, at } = touch;
        self.lane.last.set(at);
        let run = &self.group.run;
        if !address.is_multiple_of(size.into()) {
            self.fail(Fault::Misaligned { access, size, place: run.memory.place(address) });
        }
        let number = slot(address);
        let mut known = run.allocations.borrow_mut();
        if known.get(number).is_none_or(Option::is_none) {
            let Ok((found, _)) = run.memory.find(address) else {
                drop(known);
                self.fail_global(address, size, access);
            };
            if known.len() <= number {
                known.resize(number + 1, None);
            }
            known[number] = Some(found);
        }
        let offset = address & ((1 << 40) - 1);
        let inside = known[number].as_ref().filter(|a| offset + u64::from(size) <= a.bytes());
        let Some(allocation) = inside else { self.fail_global(address, size, access) };
        let reads = access != Access::Write;
        if reads && !allocation.is_written(offset, size) {
            self.fail(Fault::Unwritten { size, place: run.memory.place(address) });
        }
        if run.options.races {
            let mut races = run.races.borrow_mut();
            if races.shadows.len() <= number {
                races.shadows.resize_with(number + 1, Shadow::default);
            }
            let mut shadow = std::mem::take(&mut races.shadows[number]);
            let place = races.place(at);
            let result = self.record(&mut races.readers, &mut shadow, offset as usize, size, kind, place);
            races.shadows[number] = shadow;
            drop(races);
            if let Err(conflict) = result {
                self.fail_race(&conflict, size, access, run.memory.place(address));
            }
        }
        go(allocation, offset)
    }

    /// Records an access in `shadow`.
    pub(super) fn record(
        self,
        readers: &mut super::shadow::Readers,
        shadow: &mut Shadow,
        offset: usize,
        size: u32,
        kind: Kind,
        place: u16,
    ) -> Result<(), Conflict> {
        let lane = self.lane;
        let view = lane.view.borrow();
        let block = view.block();
        let who = Who { block, lane: lane.rank as u16, clock: lane.clock.get(), place, view: &view };
        shadow.access(readers, &who, offset, size as usize, kind)
    }

    pub(super) fn fail_race(self, conflict: &Conflict, size: u32, access: Access, place: Place) -> ! {
        let run = &self.group.run;
        let (block, thread) = run.thread_of(conflict.earlier);
        let location = run.races.borrow().source(conflict.earlier);
        let earlier = if conflict.was_write { Access::Write } else { Access::Read };
        let other = Party { block, thread, location };
        self.fail(Fault::Race { access, size, earlier, other, place })
    }

    fn fail_global(self, address: u64, size: u32, access: Access) -> ! {
        let memory = &self.group.run.memory;
        let place = memory.place(address);
        self.fail(match memory.find(address) {
            Err(super::memory::Miss::Freed { .. }) => Fault::UseAfterFree { access, place },
            _ => Fault::OutOfBounds { access, size, place },
        })
    }

    /// The bytes of global memory at `address`, checked as reads of at most 16 bytes each.
    pub(super) fn read_global_bytes(self, address: u64, bytes: u32, at: Source) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes as usize);
        while out.len() < bytes as usize {
            let next = address + out.len() as u64;
            let size = piece(next, bytes - out.len() as u32);
            let load = |allocation: &Allocation, offset| allocation.load(offset, size);
            let bits = self.global(next, Touch { size, kind: Kind::Read, access: Access::Read, at }, load);
            out.extend_from_slice(&bits.to_le_bytes()[..size as usize]);
        }
        out
    }

    /// Writes them.
    pub(super) fn write_global_bytes(self, address: u64, bytes: &[u8], at: Source) {
        let mut done = 0;
        while done < bytes.len() {
            let next = address + done as u64;
            let size = piece(next, (bytes.len() - done) as u32);
            let mut value = [0; 16];
            value[..size as usize].copy_from_slice(&bytes[done..done + size as usize]);
            let bits = u128::from_le_bytes(value);
            let store = |allocation: &Allocation, offset| allocation.store(offset, size, bits);
            self.global(next, Touch { size, kind: Kind::Write, access: Access::Write, at }, store);
            done += size as usize;
        }
        self.group.changed();
    }
}

/// The largest aligned access at `address` of at most `left` bytes.
pub(super) fn piece(address: u64, left: u32) -> u32 {
    let aligned = 1u32 << address.trailing_zeros().min(4);
    let fits = 1u32 << left.ilog2().min(4);
    aligned.min(fits)
}
