//! Host memory that is page-locked and mapped on the device.

use super::context::Context;
use super::status::check;
use crate::cuda::{GpuError, Pinned, misaligned};
use cudarc::driver::sys;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// See [`Pinned`].
#[derive(Debug)]
pub(super) struct DriverPinned {
    context: Arc<Context>,
    host: NonNull<u8>,
    address: u64,
    bytes: usize,
}

// SAFETY: it is memory, owned by this value; it is copied from and to, and who copies keeps the device away.
unsafe impl Send for DriverPinned {}
// SAFETY: as above.
unsafe impl Sync for DriverPinned {}

impl DriverPinned {
    pub(super) fn new(context: Arc<Context>, bytes: usize) -> Result<Self, GpuError> {
        context.enter()?;
        let mut host: *mut c_void = std::ptr::null_mut();
        // Portable to all contexts, and mapped.
        let flags = 0x1 | 0x2;
        // SAFETY: the context is current, and `host` is a place for a pointer.
        check("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&raw mut host, bytes.max(1), flags) })?;
        let host = NonNull::new(host.cast::<u8>())
            .ok_or(GpuError::Driver { call: "cuMemHostAlloc", problem: "no address".into() })?;
        // From here on dropping gives the memory back.
        let mut made = Self { context, host, address: 0, bytes };
        // SAFETY: the memory was allocated as mapped, and `address` is a place for an address.
        let code =
            unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut made.address, made.host.as_ptr().cast(), 0) };
        check("cuMemHostGetDevicePointer", code)?;
        // SAFETY: so many bytes were allocated, and nobody else knows of them yet.
        unsafe { made.host.as_ptr().write_bytes(0, bytes) };
        Ok(made)
    }

    fn checked(&self, offset: usize, bytes: usize) -> Result<*mut u8, GpuError> {
        if offset.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(GpuError::Driver { call: "pinned", problem: "outside the memory".into() });
        }
        // SAFETY: the offset lies in the allocation, or at its end.
        Ok(unsafe { self.host.as_ptr().add(offset) })
    }

    /// A word that host and device may use at once.
    #[expect(clippy::cast_ptr_alignment, reason = "checked behind the cast")]
    fn atomic(&self, offset: usize) -> Result<&AtomicU32, GpuError> {
        let place = self.checked(offset, size_of::<u32>())?.cast::<u32>();
        if !place.is_aligned() {
            return Err(misaligned());
        }
        // SAFETY: the word lies in the allocation, which lives as long as `self`, is aligned, and was written in `new`;
        // while it is polled it is used through this alone, by the contract of `read` and `write`.
        Ok(unsafe { AtomicU32::from_ptr(place) })
    }
}

impl Pinned for DriverPinned {
    fn address(&self) -> u64 {
        self.address
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<(), GpuError> {
        let to = self.checked(offset, from.len())?;
        // SAFETY: the range lies in the allocation, and no reference to it exists that `from` could be.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), GpuError> {
        let from = self.checked(offset, to.len())?;
        // SAFETY: the range lies in the allocation, all of which was written in `new`, and no reference to it exists
        // that `to` could be.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn set_word(&self, offset: usize, value: u32) -> Result<(), GpuError> {
        self.atomic(offset)?.store(value, Ordering::Release);
        Ok(())
    }

    fn word(&self, offset: usize) -> Result<u32, GpuError> {
        Ok(self.atomic(offset)?.load(Ordering::Acquire))
    }
}

impl Drop for DriverPinned {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: allocated in `new`, and freed once.
            let _ = unsafe { sys::cuMemFreeHost(self.host.as_ptr().cast()) };
        }
    }
}
