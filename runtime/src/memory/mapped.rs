//! A file mapped read-only into memory, whose pages can be let go once they have been copied elsewhere.

use crate::error::Error;
use bytes::Bytes;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A mapped file. Its bytes are shared by [`Bytes`] handles and unmapped with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct MappedFile(Arc<memmap2::Mmap>);

struct Owner(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    /// Maps the whole file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        let irregular = || io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file"));
        // Before it is opened: opening a pipe waits for its writer.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(irregular());
        }
        let file = File::open(path).map_err(io)?;
        if !file.metadata().map_err(io)?.is_file() {
            return Err(irregular());
        }
        // SAFETY: the mapping is private and read-only; that nobody truncates or rewrites the file while a
        // session holds it is the documented requirement on callers of `load` (SAFETY.md, "Model files").
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Ok(Self(Arc::new(map)))
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> Bytes {
        Bytes::from_owner(Owner(self.0.clone()))
    }

    /// Lets go of the physical pages that lie wholly inside `part`, which must be a part of this file's
    /// bytes; a later read brings them back from the file. Other slices are ignored.
    pub(crate) fn release(&self, part: &[u8]) {
        #[cfg(unix)]
        {
            const PAGE: usize = 4096;
            let base = self.0.as_ptr() as usize;
            let start = part.as_ptr() as usize;
            if start < base || start + part.len() > base + self.0.len() {
                return;
            }
            let from = (start - base).next_multiple_of(PAGE);
            let to = (start - base + part.len()) / PAGE * PAGE;
            if from < to {
                // SAFETY: the mapping is file-backed and never written through, so dropping its pages loses
                // nothing: the next read faults the same file content in again.
                let advised = unsafe {
                    self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, to - from)
                };
                if let Err(error) = advised {
                    tracing::debug!(%error, "pages of the model file were not released");
                }
            }
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}
