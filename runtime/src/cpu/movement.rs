//! Operators that only move elements are written once, over the width of an element: 1, 2, 4 or 8 bytes, or
//! text.

use super::number::{Number, dispatch};
use super::{Io, RunContext};
use crate::dtype::DType;
use crate::error::OpError;
use crate::tensor::{Tensor, element_count};
use smallvec::SmallVec;
use std::any::Any;

/// What is moved: an unsigned integer of the element's width, or a string.
pub(crate) trait Unit: Clone + Default + Send + Sync + 'static {}
impl<T: Clone + Default + Send + Sync + 'static> Unit for T {}

/// A prepared movement of elements from some tensors to another.
pub(crate) trait Movement {
    /// Fills `to` from the inputs `from`; an absent input is empty.
    fn run<T: Unit>(&self, context: RunContext<'_>, from: &[&[T]], to: &mut [T]) -> Result<(), OpError>;
}

/// Runs `movement` from the inputs of the given positions, all of one dtype, to output `output` of `shape`.
pub(crate) fn move_elements(
    movement: &impl Movement,
    io: &mut Io<'_, '_>,
    inputs: &[usize],
    output: usize,
    shape: &[usize],
) -> Result<(), OpError> {
    let first = *inputs.first().ok_or_else(|| OpError::internal("a movement of nothing"))?;
    let dtype = io.tensor(first)?.dtype();
    if dtype == DType::String {
        return move_text(movement, io, inputs, output, shape);
    }
    match dtype.bits() {
        8 => move_units::<u8>(movement, io, inputs, output, dtype, shape),
        16 => move_units::<u16>(movement, io, inputs, output, dtype, shape),
        32 => move_units::<u32>(movement, io, inputs, output, dtype, shape),
        64 => move_units::<u64>(movement, io, inputs, output, dtype, shape),
        _ => Err(OpError::internal(format!("no movement of {dtype}"))),
    }
}

fn move_units<T: Unit + bytemuck::Pod>(
    movement: &impl Movement,
    io: &mut Io<'_, '_>,
    inputs: &[usize],
    output: usize,
    dtype: DType,
    shape: &[usize],
) -> Result<(), OpError> {
    if !io.wants(output) {
        return Ok(());
    }
    let mut from: SmallVec<[&[T]; 8]> = SmallVec::new();
    for &index in inputs {
        from.push(match io.optional(index) {
            Some(t) if t.dtype() == dtype => units(t.bytes())?,
            Some(t) => return Err(OpError::DType { index, got: t.dtype() }),
            None => &[],
        });
    }
    let context = io.context;
    let to = bytemuck::try_cast_slice_mut(io.shaped_bytes(output, dtype, shape)?)
        .map_err(|_| OpError::internal("output is not aligned"))?;
    movement.run(context, &from, to)
}

fn move_text(
    movement: &impl Movement,
    io: &mut Io<'_, '_>,
    inputs: &[usize],
    output: usize,
    shape: &[usize],
) -> Result<(), OpError> {
    let mut from: SmallVec<[&[String]; 8]> = SmallVec::new();
    for &index in inputs {
        from.push(match io.optional(index) {
            Some(t) => t.as_strings().ok_or(OpError::DType { index, got: t.dtype() })?,
            None => &[],
        });
    }
    let budget = io.context.budget;
    let count = element_count(shape).ok_or_else(|| budget.overflow())?;
    let mut to = vec![String::new(); count];
    movement.run(io.context, &from, &mut to)?;
    let made = Tensor::strings(shape, to).map_err(|_| OpError::internal("text of another size"))?;
    io.make(output, made.into())
}

/// The bits of `value` in a number of type `dtype`; none are set for other types.
pub(crate) fn bits_of(dtype: DType, value: f64) -> u64 {
    let mut bits = [0; 8];
    let written: Result<(), OpError> = dispatch!(dtype, numbers, T => {
        let value = T::from_f64(value);
        let bytes = bytemuck::bytes_of(&value);
        bits[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    });
    if written.is_ok() { u64::from_le_bytes(bits) } else { 0 }
}

/// The unit whose bits are the low ones of `bits`; empty text.
pub(crate) fn of_bits<T: Unit>(bits: u64) -> T {
    let (narrow, half, word) = (bits as u8, bits as u16, bits as u32);
    let widths: [&dyn Any; 4] = [&narrow, &half, &word, &bits];
    widths.into_iter().find_map(|w| w.downcast_ref::<T>()).cloned().unwrap_or_default()
}

fn units<T: bytemuck::Pod>(bytes: &[u8]) -> Result<&[T], OpError> {
    bytemuck::try_cast_slice(bytes).map_err(|_| OpError::internal("input is not aligned"))
}
