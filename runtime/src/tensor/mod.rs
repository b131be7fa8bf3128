//! Tensors: dense, row-major, shared.

mod dense;
mod foreign;
mod value;
mod view;

pub use dense::Tensor;
pub use foreign::Release;
pub use value::{Sequence, Value};
pub use view::{TensorMut, TensorView, ValueRef};

use smallvec::SmallVec;

/// Extents of a tensor, outermost first.
pub(crate) type Shape = SmallVec<[usize; 6]>;

/// Number of elements, or `None` when it overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}
