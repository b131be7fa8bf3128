//! Slices along a new axis.

use super::tensor::{RefData, RefTensor};
use crate::dtype::DType;
use crate::error::OpError;

/// `parts` along a new axis at `axis`; without parts, an empty tensor of `dtype`.
pub(crate) fn stack_slices(parts: &[RefTensor], axis: usize, dtype: DType) -> Result<RefTensor, OpError> {
    let Some(first) = parts.first() else {
        let data = if dtype.is_float() { RefData::Float(vec![]) } else { RefData::Int(vec![]) };
        return Ok(RefTensor { dtype, shape: vec![0], data });
    };
    let mut shape = first.shape.clone();
    shape.insert(axis, parts.len());
    // All slices one after the other, then gathered to their places.
    let mut flat = first.clone();
    for part in &parts[1..] {
        match (&mut flat.data, &part.data) {
            (RefData::Float(a), RefData::Float(b)) => a.extend(b),
            (RefData::Int(a), RefData::Int(b)) => a.extend(b),
            (RefData::Bool(a), RefData::Bool(b)) => a.extend(b),
            (RefData::Text(a), RefData::Text(b)) => a.extend(b.iter().cloned()),
            _ => return Err(OpError::internal("slices of different types")),
        }
    }
    let size = first.len();
    Ok(flat.gathered(&shape, |i| {
        let mut index = RefTensor::unravel(&shape, i);
        let slice = index.remove(axis);
        slice * size + RefTensor::ravel(&first.shape, &index)
    }))
}
