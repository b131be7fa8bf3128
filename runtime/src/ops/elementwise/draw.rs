//! Random inputs of elementwise operators.

use crate::dtype::DType;
use crate::reference::{RefData, RefTensor};
use crate::tensor::Tensor;
use crate::testing::Gen;

/// A shape of up to four axes, now and then large enough to be split among threads.
pub(in crate::ops) fn draw_shape(g: &mut Gen) -> Vec<usize> {
    if g.chance(0.03) {
        return g.pick(&[&[70_001][..], &[9, 5000], &[3, 1, 20_000], &[211, 2, 99]]).to_vec();
    }
    let rank = g.size(0, 4);
    g.shape(rank)
}

/// Numbers or truth values: floats mostly in `range`, now and then far outside it, infinite or NaN; integers
/// either small or over the whole range of the type.
pub(in crate::ops) fn draw_numbers(
    g: &mut Gen,
    dtype: DType,
    shape: &[usize],
    (low, high): (f64, f64),
) -> Tensor {
    if dtype.is_int() && g.chance(0.5) {
        return g.any_tensor(dtype, shape);
    }
    let drawn = g.tensor_in(dtype, shape, low, high);
    if !dtype.is_float() || g.chance(0.7) {
        return drawn;
    }
    let Ok(RefTensor { data: RefData::Float(mut data), .. }) = RefTensor::from_tensor(&drawn) else {
        return drawn;
    };
    for value in &mut data {
        if g.chance(0.2) {
            let (inf, nan) = (f64::INFINITY, f64::NAN);
            *value = *g.pick(&[0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 90.0, -90.0, 6e4, -6e4, inf, -inf, nan]);
        }
    }
    RefTensor::floats(dtype, shape, data).to_tensor().unwrap_or(drawn)
}

/// Two tensors that broadcast to one shape.
pub(in crate::ops) fn draw_pair(
    g: &mut Gen,
    (a, b): (DType, DType),
    (first, second): ((f64, f64), (f64, f64)),
) -> (Tensor, Tensor) {
    let shape = draw_shape(g);
    let (left, right) = (g.broadcastable(&shape), g.broadcastable(&shape));
    (draw_numbers(g, a, &left, first), draw_numbers(g, b, &right, second))
}
