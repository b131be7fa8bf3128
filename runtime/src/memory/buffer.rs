//! Aligned byte buffers charged to a budget.

use super::budget::{Budget, Charge};
use crate::dtype::Element;
use crate::error::OpError;
use bytemuck::{Pod, Zeroable};

/// Alignment of every buffer in bytes: a cache line, and the widest vector load.
pub(crate) const ALIGN: usize = 64;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGN]);

/// No bytes, aligned as a buffer is, so that they can be read as elements of any type.
pub(crate) fn no_bytes<'a>() -> &'a mut [u8] {
    bytemuck::cast_slice_mut::<Line, u8>(&mut [])
}

/// Bytes from which on a buffer has pages of its own, huge ones where the system gives them: loops over buffers of
/// this size miss the translation of ordinary pages more often than they miss the caches.
const LARGE: usize = 4 << 20;

enum Store {
    Lines(Vec<Line>),
    Pages(memmap2::MmapMut),
}

/// Zeroed bytes, aligned to 64.
pub(crate) struct Buffer {
    store: Store,
    len: usize,
    _charge: Charge,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

impl Buffer {
    /// `len` zero bytes.
    pub(crate) fn zeroed(len: usize, budget: &Budget) -> Result<Self, OpError> {
        let count = len.div_ceil(ALIGN);
        let charge = budget.charge(count.checked_mul(ALIGN).ok_or_else(|| budget.overflow())?)?;
        let refused = || OpError::Memory { requested: len, limit: budget.limit() };
        let store = if len < LARGE {
            Store::Lines(bytemuck::try_zeroed_vec(count).map_err(|()| refused())?)
        } else {
            let pages = memmap2::MmapMut::map_anon(len).map_err(|_| refused())?;
            // A system without huge pages runs on ordinary ones.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            Store::Pages(pages)
        };
        Ok(Self { store, len, _charge: charge })
    }

    /// `count` zero elements of `T`.
    pub(crate) fn zeroed_for<T: Element>(count: usize, budget: &Budget) -> Result<Self, OpError> {
        Self::zeroed(count.checked_mul(size_of::<T>()).ok_or_else(|| budget.overflow())?, budget)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Lines(lines) => &bytemuck::cast_slice(lines)[..self.len],
            Store::Pages(pages) => &pages[..self.len],
        }
    }

    /// The bytes, writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.store {
            Store::Lines(lines) => &mut bytemuck::cast_slice_mut(lines)[..self.len],
            Store::Pages(pages) => &mut pages[..self.len],
        }
    }

    /// The elements. The length must be a multiple of the element's size.
    pub(crate) fn elements<T: Element>(&self) -> &[T] {
        bytemuck::cast_slice(self.bytes())
    }

    /// The elements, writable.
    pub(crate) fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self.bytes_mut())
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}
