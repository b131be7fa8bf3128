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

/// Zeroed bytes, aligned to 64.
pub(crate) struct Buffer {
    lines: Vec<Line>,
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
        let lines = bytemuck::try_zeroed_vec(count)
            .map_err(|()| OpError::Memory { requested: len, limit: budget.limit() })?;
        Ok(Self { lines, len, _charge: charge })
    }

    /// `count` zero elements of `T`.
    pub(crate) fn zeroed_for<T: Element>(count: usize, budget: &Budget) -> Result<Self, OpError> {
        Self::zeroed(count.checked_mul(size_of::<T>()).ok_or_else(|| budget.overflow())?, budget)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The bytes, writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
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
