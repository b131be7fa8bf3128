//! The emulated device's memory: allocations in an address space of their own.
//!
//! Every allocation has 2⁴⁰ addresses to itself and none is used twice, so that an access outside its allocation, or to
//! one that was freed, is always recognised. New memory is poisoned: it holds NaNs, and which bytes were written is
//! remembered. Memory may be used by several launches and by the host at once; bytes are kept in atomic words.

use super::report::{Access, Fault, Place, Report};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

const SHIFT: u32 = 40;
/// What unwritten memory holds: a NaN as `f32`, two NaNs as `f16`.
const POISON: u32 = 0x7fff_7fff;

/// The memory of one emulated device.
#[derive(Debug)]
pub struct Memory {
    slots: RwLock<Vec<Slot>>,
    used: AtomicU64,
    limit: u64,
    /// Held for operations on more than 4 bytes that must be atomic.
    wide: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Slot {
    label: Arc<str>,
    bytes: u64,
    /// None once it was freed.
    live: Option<Arc<Allocation>>,
}

/// The memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{requested} bytes requested, {available} of {limit} are available")]
pub struct OutOfMemory {
    /// What was asked for.
    pub requested: u64,
    /// What is left.
    pub available: u64,
    /// What the device has.
    pub limit: u64,
}

/// The bytes of one allocation.
pub(super) struct Allocation {
    bytes: u64,
    words: Box<[AtomicU32]>,
    /// One bit for each byte.
    written: Box<[AtomicU64]>,
}

impl std::fmt::Debug for Allocation {
    /// Without what it holds, which may be all of a model's weights.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Allocation({} bytes)", self.bytes)
    }
}

/// An address that lies in no allocation.
#[derive(Debug)]
pub(super) enum Miss {
    Nowhere,
    Freed { label: Arc<str>, bytes: u64, offset: i64 },
    Before { label: Arc<str>, bytes: u64, offset: i64 },
}

impl Memory {
    /// Memory of at most `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { slots: RwLock::default(), used: AtomicU64::new(0), limit, wide: Mutex::default() }
    }

    /// Bytes that are allocated.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// An address of `bytes` new bytes, aligned to any access; `label` names them in reports.
    pub fn allocate(&self, label: &str, bytes: u64) -> Result<u64, OutOfMemory> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let available = self.limit - self.used();
        if bytes > available || bytes >> (SHIFT - 1) != 0 {
            return Err(OutOfMemory { requested: bytes, available, limit: self.limit });
        }
        self.used.fetch_add(bytes, Relaxed);
        let live = Some(Arc::new(Allocation::new(bytes)));
        slots.push(Slot { label: label.into(), bytes, live });
        Ok((slots.len() as u64) << SHIFT)
    }

    /// Gives back what [`allocate`](Self::allocate) gave.
    pub fn free(&self, address: u64) -> Result<(), Report> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = ((address >> SHIFT) as usize).checked_sub(1).and_then(|index| slots.get_mut(index));
        match slot {
            Some(slot) if address.trailing_zeros() >= SHIFT && slot.live.is_some() => {
                slot.live = None;
                self.used.fetch_sub(slot.bytes, Relaxed);
                Ok(())
            }
            _ => Err(host_report(Fault::Misuse { what: "freed what was not allocated, or freed it twice" })),
        }
    }

    /// Copies from the host.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Report> {
        let (allocation, offset) = self.range(address, bytes.len() as u64, Access::Write)?;
        // Whole words where they lie so: a kernel that polls one sees it before or after.
        let head = (offset.wrapping_neg() % 4).min(bytes.len() as u64) as usize;
        let (first, rest) = bytes.split_at(head);
        let (words, last) = rest.as_chunks::<4>();
        let mut at = offset;
        for &byte in first {
            allocation.store(at, 1, byte.into());
            at += 1;
        }
        for &word in words {
            allocation.store(at, 4, u32::from_le_bytes(word).into());
            at += 4;
        }
        for &byte in last {
            allocation.store(at, 1, byte.into());
            at += 1;
        }
        Ok(())
    }

    /// Copies to the host; every byte must have been written.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Report> {
        let (allocation, offset) = self.range(address, bytes.len() as u64, Access::Read)?;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let size = if at.is_multiple_of(4) && bytes.len() - done >= 4 { 4 } else { 1 };
            if !allocation.is_written(at, size) {
                let unwritten = (0..u64::from(size)).find(|&i| !allocation.is_written(at + i, 1));
                let place = self.place(address + done as u64 + unwritten.unwrap_or(0));
                return Err(host_report(Fault::Unwritten { size: 1, place }));
            }
            let word = (allocation.load(at, size) as u32).to_le_bytes();
            bytes[done..done + size as usize].copy_from_slice(&word[..size as usize]);
            done += size as usize;
        }
        Ok(())
    }

    /// Sets `count` bytes.
    pub fn fill(&self, address: u64, byte: u8, count: u64) -> Result<(), Report> {
        let (allocation, offset) = self.range(address, count, Access::Write)?;
        (0..count).for_each(|i| allocation.store(offset + i, 1, byte.into()));
        Ok(())
    }

    /// Copies inside the device, unwritten bytes as unwritten ones; the ranges may overlap.
    pub fn copy(&self, to: u64, from: u64, count: u64) -> Result<(), Report> {
        let (source, source_offset) = self.range(from, count, Access::Read)?;
        let (target, target_offset) = self.range(to, count, Access::Write)?;
        let bytes: Vec<Option<u8>> = (0..count)
            .map(|i| source_offset + i)
            .map(|at| source.is_written(at, 1).then(|| source.load(at, 1) as u8))
            .collect();
        for (i, byte) in (0..).zip(bytes) {
            match byte {
                Some(byte) => target.store(target_offset + i, 1, byte.into()),
                None => target.poison(target_offset + i),
            }
        }
        Ok(())
    }

    fn range(&self, address: u64, count: u64, access: Access) -> Result<(Arc<Allocation>, u64), Report> {
        let size = u32::try_from(count).unwrap_or(u32::MAX);
        let place = || self.place(address);
        match self.find(address) {
            Ok((allocation, offset))
                if offset.checked_add(count).is_some_and(|end| end <= allocation.bytes) =>
            {
                Ok((allocation, offset))
            }
            Err(Miss::Freed { .. }) => Err(host_report(Fault::UseAfterFree { access, place: place() })),
            _ => Err(host_report(Fault::OutOfBounds { access, size, place: place() })),
        }
    }

    /// The allocation that `address` belongs to, whether it lies inside or behind it.
    pub(super) fn find(&self, address: u64) -> Result<(Arc<Allocation>, u64), Miss> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let (number, offset) = ((address >> SHIFT) as usize, address & ((1 << SHIFT) - 1));
        if offset >> (SHIFT - 1) != 0 {
            let Some(next) = slots.get(number) else { return Err(Miss::Nowhere) };
            let offset = offset as i64 - (1 << SHIFT);
            return Err(Miss::Before { label: Arc::clone(&next.label), bytes: next.bytes, offset });
        }
        let Some(slot) = number.checked_sub(1).and_then(|index| slots.get(index)) else {
            return Err(Miss::Nowhere);
        };
        match &slot.live {
            Some(allocation) => Ok((Arc::clone(allocation), offset)),
            None => {
                Err(Miss::Freed { label: Arc::clone(&slot.label), bytes: slot.bytes, offset: offset as i64 })
            }
        }
    }

    /// Words for an address.
    pub(super) fn place(&self, address: u64) -> Place {
        let (label, bytes, offset) = match self.find(address) {
            Ok((allocation, offset)) => {
                let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
                let label = Arc::clone(&slots[(address >> SHIFT) as usize - 1].label);
                (label, allocation.bytes, offset as i64)
            }
            Err(Miss::Freed { label, bytes, offset } | Miss::Before { label, bytes, offset }) => {
                (label, bytes, offset)
            }
            Err(Miss::Nowhere) => return Place::Nowhere { address },
        };
        Place::Global { address, allocation: label.to_string(), offset, bytes }
    }

    /// Makes operations on more than 4 bytes atomic while it is held.
    pub(super) fn wide(&self) -> MutexGuard<'_, ()> {
        self.wide.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn host_report(fault: Fault) -> Report {
    Report::new("(copy)", None, fault)
}

/// The number of the allocation that an address belongs to.
pub(super) fn slot(address: u64) -> usize {
    (address >> SHIFT) as usize
}

impl Allocation {
    fn new(bytes: u64) -> Self {
        let words = bytes.div_ceil(16) as usize * 4;
        Self {
            bytes,
            words: (0..words).map(|_| AtomicU32::new(POISON)).collect(),
            written: (0..bytes.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether all of `size` bytes, an aligned power of two up to 16, were written.
    pub(super) fn is_written(&self, offset: u64, size: u32) -> bool {
        let mask = ((1u64 << size) - 1) << (offset % 64);
        self.written[(offset / 64) as usize].load(Relaxed) & mask == mask
    }

    fn set_written(&self, offset: u64, size: u32) {
        let mask = ((1u64 << size) - 1) << (offset % 64);
        let bits = &self.written[(offset / 64) as usize];
        if bits.load(Relaxed) & mask != mask {
            bits.fetch_or(mask, Relaxed);
        }
    }

    fn poison(&self, offset: u64) {
        self.store(offset, 1, u128::from(POISON.to_le_bytes()[(offset % 4) as usize]));
        self.written[(offset / 64) as usize].fetch_and(!(1 << (offset % 64)), Relaxed);
    }

    /// The bytes of an aligned value of `size` bytes.
    pub(super) fn load(&self, offset: u64, size: u32) -> u128 {
        let word = (offset / 4) as usize;
        let at = |i: usize| u128::from(self.words[word + i].load(Relaxed));
        match size {
            1 | 2 => (at(0) >> (offset % 4 * 8)) & ((1 << (size * 8)) - 1),
            4 => at(0),
            8 => at(0) | at(1) << 32,
            _ => at(0) | at(1) << 32 | at(2) << 64 | at(3) << 96,
        }
    }

    /// Writes an aligned value of `size` bytes.
    pub(super) fn store(&self, offset: u64, size: u32, bits: u128) {
        let word = (offset / 4) as usize;
        if size < 4 {
            let shift = offset as u32 % 4 * 8;
            let mask = ((1u32 << (size * 8)) - 1) << shift;
            let insert = |old: u32| Some(old & !mask | ((bits as u32) << shift) & mask);
            // The closure always gives a word.
            let _ = self.words[word].fetch_update(Relaxed, Relaxed, insert);
        } else {
            for i in 0..(size / 4) as usize {
                self.words[word + i].store((bits >> (32 * i)) as u32, Relaxed);
            }
        }
        self.set_written(offset, size);
    }

    /// Replaces a 4-byte word by what `change` makes of it; gives the old one.
    pub(super) fn update(&self, offset: u64, mut change: impl FnMut(u32) -> u32) -> u32 {
        let word = &self.words[(offset / 4) as usize];
        // The closure always gives a word.
        let old = word.fetch_update(Relaxed, Relaxed, |old| Some(change(old))).unwrap_or_else(|old| old);
        self.set_written(offset, 4);
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stay_inside_allocations_and_read_what_was_written() {
        let memory = Memory::new(1 << 20);
        let a = memory.allocate("a", 10).expect("room");
        let b = memory.allocate("b", 4).expect("room");
        memory.write(a, &[1, 2, 3, 4, 5, 6, 7, 8]).expect("inside");
        let mut out = [0; 5];
        memory.read(a + 3, &mut out).expect("written");
        assert_eq!(out, [4, 5, 6, 7, 8]);
        let fault = |result: Result<(), Report>| result.expect_err("a report").fault;
        assert!(matches!(*fault(memory.read(a + 4, &mut out)), Fault::Unwritten { .. }));
        assert!(matches!(*fault(memory.write(a + 8, &[0; 3])), Fault::OutOfBounds { .. }));
        let before = fault(memory.write(b - 1, &[0]));
        assert_eq!(
            before.to_string(),
            format!("write of 1 bytes out of bounds: {:#x}, byte -1 of b, which has 4", b - 1)
        );
        memory.copy(b, a + 6, 4).expect("inside");
        memory.read(b, &mut out[..2]).expect("written");
        assert_eq!(out[..2], [7, 8]);
        assert!(matches!(*fault(memory.read(b, &mut out[..3])), Fault::Unwritten { .. }));
        memory.fill(b, 9, 4).expect("inside");
        assert_eq!(memory.used(), 14);
        memory.free(a).expect("allocated");
        assert!(matches!(*fault(memory.write(a, &[0])), Fault::UseAfterFree { .. }));
        assert!(matches!(*fault(memory.free(a)), Fault::Misuse { .. }));
        assert_eq!(memory.allocate("c", 1 << 20).expect_err("full").available, (1 << 20) - 4);
    }
}
