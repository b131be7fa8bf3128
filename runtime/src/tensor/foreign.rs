//! Tensors over memory of the caller, handed back through a callback: the contract of DLPack.

use super::{Tensor, element_count};
use crate::dtype::DType;
use crate::error::Error;
use bytes::Bytes;

/// Called once, when the last tensor over the memory is dropped.
pub type Release = Box<dyn FnOnce() + Send + Sync>;

struct Owner {
    data: *const u8,
    len: usize,
    release: Option<Release>,
}

// SAFETY: the memory is only read, and `Tensor::from_foreign` requires that reading it from any thread is
// allowed until `release` is called; `release` itself is `Send + Sync`.
unsafe impl Send for Owner {}
// SAFETY: as above.
unsafe impl Sync for Owner {}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: `Tensor::from_foreign` requires `data` to be readable for `len` bytes until release.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

impl Tensor {
    /// A tensor over memory that belongs to the caller; nothing is copied.
    ///
    /// # Safety
    /// - `data` is readable for the packed bytes of `shape` elements of `dtype`, from any thread, until
    ///   `release` is called.
    /// - Nobody writes to it until then.
    ///
    /// # Example
    /// ```
    /// use recurve::{DType, Tensor};
    /// let owned = vec![1f32, 2.0, 3.0].into_boxed_slice();
    /// let data = owned.as_ptr().cast();
    /// // SAFETY: `owned` lives in the callback until the tensor lets go of it.
    /// let t = unsafe { Tensor::from_foreign(DType::F32, &[3], data, Box::new(move || drop(owned))) }?;
    /// assert_eq!(t.as_slice::<f32>(), Some(&[1.0, 2.0, 3.0][..]));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub unsafe fn from_foreign(
        dtype: DType,
        shape: &[usize],
        data: *const u8,
        release: Release,
    ) -> Result<Self, Error> {
        let len = element_count(shape).and_then(|n| dtype.bytes(n)).unwrap_or(usize::MAX);
        let owner = Owner { data, len, release: Some(release) };
        if dtype == DType::String || len > isize::MAX as usize || (data.is_null() && len > 0) {
            return Err(Error::Argument {
                role: "tensor",
                name: dtype.name().into(),
                problem: format!("shape {shape:?} cannot lie in foreign memory at {data:?}"),
            });
        }
        Self::from_bytes(dtype, shape, Bytes::from_owner(owner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn releases_once_after_the_last_clone_and_on_error() {
        let count = Arc::new(AtomicUsize::new(0));
        let data = [7i32, 8];
        let released = |n: &Arc<AtomicUsize>| -> Release {
            let n = n.clone();
            Box::new(move || {
                n.fetch_add(1, Ordering::SeqCst);
            })
        };
        // SAFETY: `data` outlives both tensors.
        let t = unsafe {
            Tensor::from_foreign(DType::I32, &[2], data.as_ptr().cast(), released(&count)).expect("valid")
        };
        let u = t.clone();
        drop(t);
        assert_eq!(count.load(Ordering::SeqCst), 0);
        assert_eq!(u.to_vec::<i32>(), Some(vec![7, 8]));
        drop(u);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        // SAFETY: refused before anything is read.
        let refused = unsafe { Tensor::from_foreign(DType::I32, &[1], std::ptr::null(), released(&count)) };
        assert!(refused.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
