//! Mean and variance in two passes, accumulated in f64, and parameters of any floating type as one type.

use super::number::{Compute, Number, Real, dispatch};
use crate::dtype::DType;
use crate::error::OpError;
use crate::exec::Looks;
use crate::tensor::TensorView;

/// Partial sums of a run, so that additions do not wait for each other.
const LANES: usize = 8;

/// Sum of `term` over `x`, unless that is interrupted.
pub(crate) fn sum_of<T: Real>(
    x: &[T],
    looks: &mut Looks<'_>,
    term: impl Fn(f64) -> f64,
) -> Result<f64, OpError> {
    let (mut lanes, mut rest) = ([0.0; LANES], 0.0);
    // Parts of whole chunks, so that only the last one has a remainder.
    for part in x.chunks(Looks::EVERY) {
        looks.past(part.len())?;
        let chunks = part.chunks_exact(LANES);
        rest += chunks.remainder().iter().map(|x| term(x.to_f64())).sum::<f64>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += term(x.to_f64());
            }
        }
    }
    Ok(lanes.iter().sum::<f64>() + rest)
}

/// Mean and population variance of `x`; NaN of nothing.
pub(crate) fn moments<T: Real>(x: &[T], looks: &mut Looks<'_>) -> Result<(f64, f64), OpError> {
    let count = x.len() as f64;
    let mean = sum_of(x, looks, |x| x)? / count;
    Ok((mean, sum_of(x, looks, |x| (x - mean) * (x - mean))? / count))
}

/// The elements of a floating tensor in another type.
pub(crate) fn load_floats<C: Compute>(from: TensorView<'_>, to: &mut [C]) -> Result<(), OpError> {
    dispatch!(from.dtype(), floats, T => {
        let from = from.elements::<T>()?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to = C::from_f64(from.to_f64()));
        Ok(())
    })
}

/// Writes `values` to the bytes of a tensor of the floating type `dtype`.
pub(crate) fn store_floats(
    dtype: DType,
    to: &mut [u8],
    values: impl Iterator<Item = f64>,
) -> Result<(), OpError> {
    dispatch!(dtype, floats, T => {
        let to: &mut [T] =
            bytemuck::try_cast_slice_mut(to).map_err(|_| OpError::internal("output is not aligned"))?;
        to.iter_mut().zip(values).for_each(|(to, value)| *to = T::from_f64(value));
        Ok(())
    })
}
