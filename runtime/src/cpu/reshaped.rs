//! The kernel of operators whose output is their input under another shape. It runs only where the executor
//! cannot give both one place in memory.

use super::{CpuSite, Kernel};
use crate::error::OpError;
use crate::tensor::{TensorView, element_count};

/// Copies input 0 to output 0, whose shape is known.
pub(crate) fn reshaped_copy(site: &CpuSite<'_>) -> Result<Kernel, OpError> {
    let shape = site.output_shape(0)?;
    Ok(Kernel::new(move |io| {
        let view = io.tensor(0)?;
        if element_count(&shape) != Some(view.len()) {
            return Err(OpError::shape(format!("{:?} cannot become {shape:?}", view.shape())));
        }
        io.copy(0, TensorView::over(view.dtype(), &shape, view.data()))
    }))
}
