//! One slice of a tensor along an axis, copied: what a scan takes apart, and the counterpart of `stack`.

use super::Io;
use crate::dtype::DType;
use crate::error::OpError;
use crate::memory::Buffer;
use crate::tensor::{Tensor, TensorView};

/// Slice `at` of `view` along `axis`.
pub(crate) fn slice_of(
    view: TensorView<'_>,
    axis: usize,
    at: usize,
    io: &Io<'_, '_>,
) -> Result<Tensor, OpError> {
    let dtype = view.dtype();
    if !dtype.bits().is_multiple_of(8) || dtype == DType::String {
        return Err(OpError::unsupported(format!("scanning {dtype}")));
    }
    let mut shape = view.shape().to_vec();
    let extent = shape.remove(axis);
    let outer: usize = shape[..axis].iter().product();
    let run = shape[axis..].iter().product::<usize>() * dtype.bits() / 8;
    let mut buffer = Buffer::zeroed(outer * run, io.context.budget)?;
    if run > 0 {
        for (to, o) in buffer.bytes_mut().chunks_exact_mut(run).zip(0..outer) {
            let start = (o * extent + at) * run;
            to.copy_from_slice(&view.bytes()[start..start + run]);
        }
    }
    Tensor::from_buffer(dtype, &shape, buffer)
}
