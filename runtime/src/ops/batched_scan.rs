//! Scan in the form of opset 8: every value has a batch axis in front, and every row is a sequence of its own.

use super::scan::{Scan, common_length};
use crate::cpu::Io;
use crate::cpu::body::collected;
use crate::cpu::slice_along::slice_of;
use crate::cpu::stack::stack;
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::Program;
use crate::tensor::{Tensor, TensorView, Value};

impl Scan {
    /// The form of opset 8: every row on its own, outputs padded with zeros to the longest.
    pub(super) fn run_batched(&self, program: &Program, io: &mut Io<'_, '_>) -> Result<(), OpError> {
        let (first, count) = (self.first_state(), self.states());
        let scanned: Vec<TensorView<'_>> =
            (first + count..self.first_capture()).map(|i| io.tensor(i)).collect::<Result<_, _>>()?;
        let batch = scanned.first().and_then(|v| v.shape().first().copied()).unwrap_or(0);
        let longest = common_length(&scanned, &vec![1; scanned.len()])?;
        let lengths = match io.optional(0) {
            Some(t) => t.to_i64s()?,
            None => vec![longest as i64; batch],
        };
        let mut final_states: Vec<Vec<Tensor>> = vec![Vec::new(); count];
        let mut outputs: Vec<Vec<Tensor>> = vec![Vec::new(); self.output_axes.len()];
        for row in 0..batch {
            let length = lengths.get(row).and_then(|&l| usize::try_from(l).ok()).filter(|&l| l <= longest);
            let length =
                length.ok_or_else(|| OpError::value("a sequence length is outside the sequences"))?;
            let row_of = |view: TensorView<'_>| slice_of(view, 0, row, io);
            let states = (0..count)
                .map(|i| row_of(io.tensor(first + i)?).map(Value::from))
                .collect::<Result<Vec<_>, _>>()?;
            let rows = scanned.iter().map(|v| row_of(*v)).collect::<Result<Vec<_>, _>>()?;
            let views: Vec<TensorView<'_>> = rows.iter().map(Tensor::view).collect();
            let (states, slices) = self.run_row(program, io, states, &views, length)?;
            for (list, value) in final_states.iter_mut().zip(states) {
                list.push(collected(value)?);
            }
            for (list, mut parts) in outputs.iter_mut().zip(slices) {
                let last = parts.last().cloned().ok_or_else(|| OpError::unsupported("an empty sequence"))?;
                let zero = crate::memory::Buffer::zeroed(last.bytes().len(), io.context.budget)?;
                let zero = Tensor::from_buffer(last.dtype(), last.shape(), zero)?;
                parts.resize(longest, zero);
                list.extend(parts);
            }
        }
        for (i, parts) in final_states.iter().enumerate() {
            if io.wants(i) {
                stack(io, i, parts, 0, false, (DType::F32, &[]))?;
            }
        }
        for (i, parts) in outputs.iter().enumerate() {
            let Some(one) = parts.first() else { continue };
            let mut shape = vec![batch, longest];
            shape.extend_from_slice(one.shape());
            if one.dtype() == DType::String || !one.dtype().bits().is_multiple_of(8) {
                return Err(OpError::unsupported(format!("collecting {} over iterations", one.dtype())));
            }
            if io.wants(count + i) {
                let size = one.bytes().len();
                let out = io.shaped_bytes(count + i, one.dtype(), &shape)?;
                for (to, part) in out.chunks_exact_mut(size.max(1)).zip(parts) {
                    if part.bytes().len() != size {
                        return Err(OpError::shape("the slices of an output differ in shape between rows"));
                    }
                    to.copy_from_slice(part.bytes());
                }
            }
        }
        Ok(())
    }
}
