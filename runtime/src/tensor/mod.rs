//! Tensors: dense, row-major, shared.

mod debug;
mod dense;
mod foreign;
mod value;
mod view;

pub use dense::Tensor;
pub use foreign::Release;
pub use value::{Sequence, Value};
pub use view::{TensorMut, TensorView, ValueRef};

use crate::dtype::DType;
use crate::error::Error;
use smallvec::SmallVec;

/// Extents of a tensor, outermost first.
pub(crate) type Shape = SmallVec<[usize; 6]>;

/// Number of elements, or `None` where the product of any extents overflows: then no stride and no count of a part
/// does either, even when an extent is 0.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    let most = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))?;
    if most > isize::MAX as usize {
        return None;
    }
    Some(if shape.contains(&0) { 0 } else { most })
}

/// Errs unless so many elements fill a shape.
fn check_count(dtype: DType, shape: &[usize], count: usize) -> Result<(), Error> {
    if element_count(shape) == Some(count) {
        return Ok(());
    }
    let problem = format!("{count} elements do not fill shape {shape:?}");
    Err(Error::Argument { role: "tensor", name: dtype.name().into(), problem })
}

/// Errs unless `len` bytes hold a tensor of this form, packed.
fn check_bytes(dtype: DType, shape: &[usize], len: usize) -> Result<(), Error> {
    if dtype != DType::String && element_count(shape).and_then(|n| dtype.bytes(n)) == Some(len) {
        return Ok(());
    }
    let problem = format!("{len} bytes do not hold shape {shape:?}");
    Err(Error::Argument { role: "tensor", name: dtype.name().into(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_overflow_anywhere_are_none() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[2, 0, 3]), Some(0));
        assert_eq!(element_count(&[0, 1 << 40, 1 << 40]), None);
        assert_eq!(element_count(&[1 << 32, 1 << 31]), None);
    }
}
