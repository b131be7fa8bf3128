//! Index tensors: `int32` or `int64`, counted from the end where negative.

use crate::dtype::DType;
use crate::error::OpError;
use crate::tensor::TensorView;

/// The element types of an index tensor.
pub(crate) const INDEX_TYPES: &[DType] = &[DType::I32, DType::I64];

/// A borrowed index tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Indices<'a> {
    I32(&'a [i32]),
    I64(&'a [i64]),
}

impl<'a> Indices<'a> {
    /// The elements of `view`.
    pub(crate) fn new(view: TensorView<'a>) -> Result<Self, OpError> {
        match view.dtype() {
            DType::I32 => Ok(Self::I32(view.elements()?)),
            _ => Ok(Self::I64(view.elements()?)),
        }
    }

    /// Number of indices.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::I32(v) => v.len(),
            Self::I64(v) => v.len(),
        }
    }

    /// Index number `at`, as it stands.
    pub(crate) fn raw(self, at: usize) -> i64 {
        match self {
            Self::I32(v) => v[at].into(),
            Self::I64(v) => v[at],
        }
    }

    /// Index number `at` into an axis of `extent`, once [`Self::check`] has passed.
    pub(crate) fn get(self, at: usize, extent: usize) -> usize {
        let raw = self.raw(at);
        if raw < 0 { (raw + extent as i64) as usize } else { raw as usize }
    }

    /// Errs unless every index lies in `−extent..extent`.
    pub(crate) fn check(self, extent: usize) -> Result<(), OpError> {
        let n = extent as i64;
        let bad = match self {
            Self::I32(v) => v.iter().map(|&i| i64::from(i)).find(|&i| i < -n || i >= n),
            Self::I64(v) => v.iter().copied().find(|&i| i < -n || i >= n),
        };
        bad.map_or(Ok(()), |i| Err(OpError::value(format!("index {i} is outside an axis of {extent}"))))
    }
}
