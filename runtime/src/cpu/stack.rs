//! Tensors of equal form as slices of one tensor along a new axis.

use super::io::Io;
use crate::dtype::DType;
use crate::error::OpError;
use crate::tensor::Tensor;

/// Writes `parts` to output `index` along a new axis at `axis`, part `i` at position `order(i)`. With no part,
/// the slices have shape `empty` and dtype `dtype`.
pub(crate) fn stack(
    io: &mut Io<'_, '_>,
    index: usize,
    parts: &[Tensor],
    axis: usize,
    reversed: bool,
    empty: (DType, &[usize]),
) -> Result<(), OpError> {
    let (dtype, slice) = parts.first().map_or(empty, |t| (t.dtype(), t.shape()));
    if parts.iter().any(|t| t.shape() != slice || t.dtype() != dtype) {
        return Err(OpError::shape("the slices of an output differ in shape between iterations"));
    }
    if axis > slice.len() {
        return Err(OpError::value(format!("axis {axis} is outside an output of rank {}", slice.len() + 1)));
    }
    let mut shape = slice.to_vec();
    shape.insert(axis, parts.len());
    if dtype == DType::String {
        return Err(OpError::unsupported("collecting text over iterations"));
    }
    if dtype.bits() % 8 != 0 {
        return Err(OpError::unsupported(format!("collecting {dtype} over iterations")));
    }
    let outer: usize = slice[..axis].iter().product();
    let run = slice[axis..].iter().product::<usize>() * dtype.bits() / 8;
    let out = io.shaped_bytes(index, dtype, &shape)?;
    if out.is_empty() || run == 0 {
        return Ok(());
    }
    let count = parts.len();
    for (i, part) in parts.iter().enumerate() {
        let at = if reversed { count - 1 - i } else { i };
        for (o, run_bytes) in part.bytes().chunks_exact(run).take(outer).enumerate() {
            let start = (o * count + at) * run;
            out[start..start + run].copy_from_slice(run_bytes);
        }
    }
    Ok(())
}
