//! Elementwise functions of tensors of one shape, and the broadcast to one shape.

use super::narrow::{NarrowRounding, float_values, is_small_int, rounded};
use super::tensor::{RefData, RefTensor, wrap};
use crate::dtype::DType;
use crate::error::OpError;

impl RefTensor {
    /// The tensor repeated to `shape`.
    pub(crate) fn broadcast_to(&self, shape: &[usize]) -> Self {
        self.gathered(shape, |i| Self::broadcast_position(&self.shape, &Self::unravel(shape, i)))
    }

    /// All of `tensors` broadcast to one shape.
    pub(crate) fn broadcast(tensors: &[&Self]) -> Result<Vec<Self>, OpError> {
        let shapes: Vec<&[usize]> = tensors.iter().map(|t| t.shape.as_slice()).collect();
        let shape = Self::broadcast_shape(&shapes)?;
        Ok(tensors.iter().map(|t| t.broadcast_to(&shape)).collect())
    }

    /// A tensor of the same dtype: `float` of each float, `int` of each integer, wrapped.
    pub(crate) fn map_numbers(
        &self,
        float: impl Fn(f64) -> f64,
        int: impl Fn(i128) -> i128,
    ) -> Result<RefData, OpError> {
        match &self.data {
            RefData::Float(v) => Ok(RefData::Float(v.iter().map(|&x| float(x)).collect())),
            RefData::Int(v) => Ok(RefData::Int(v.iter().map(|&x| wrap(self.dtype, int(x))).collect())),
            _ => Err(OpError::internal(format!("{} where the reference expects numbers", self.dtype))),
        }
    }

    /// Pairs of elements of two tensors of one shape and dtype: `float` of floats, `int` of integers,
    /// wrapped.
    pub(crate) fn zip_numbers(
        &self,
        other: &Self,
        float: impl Fn(f64, f64) -> f64,
        int: impl Fn(i128, i128) -> i128,
    ) -> Result<RefData, OpError> {
        match (&self.data, &other.data) {
            (RefData::Float(a), RefData::Float(b)) => {
                Ok(RefData::Float(a.iter().zip(b).map(|(&a, &b)| float(a, b)).collect()))
            }
            (RefData::Int(a), RefData::Int(b)) => {
                Ok(RefData::Int(a.iter().zip(b).map(|(&a, &b)| wrap(self.dtype, int(a, b))).collect()))
            }
            _ => Err(OpError::internal(format!("{} where the reference expects numbers", self.dtype))),
        }
    }

    /// The same shape and dtype with other elements.
    pub(crate) fn with_data(&self, data: RefData) -> Self {
        Self { dtype: self.dtype, shape: self.shape.clone(), data }
    }

    /// The elements of this tensor and then those of `other`, in one axis.
    pub(crate) fn followed_by(&self, other: &Self) -> Result<Self, OpError> {
        let data = match (&self.data, &other.data) {
            (RefData::Float(a), RefData::Float(b)) => RefData::Float([&a[..], b].concat()),
            (RefData::Int(a), RefData::Int(b)) => RefData::Int([&a[..], b].concat()),
            (RefData::Bool(a), RefData::Bool(b)) => RefData::Bool([&a[..], b].concat()),
            (RefData::Text(a), RefData::Text(b)) => RefData::Text([&a[..], b].concat()),
            _ => return Err(OpError::internal("tensors of different types follow each other")),
        };
        Ok(Self { dtype: self.dtype, shape: vec![self.len() + other.len()], data })
    }

    /// The same numbers as another element type: floats to integers toward zero, saturated, NaN to 0;
    /// integers to integers modulo the width; to `bool` whether they are not zero. What is out of the range of
    /// a narrow float saturates.
    pub(crate) fn cast(&self, to: DType) -> Result<Self, OpError> {
        self.cast_rounding(to, NarrowRounding { saturate: true, toward: None })
    }

    /// The same with the rounding of narrow floats. Floats to integers narrower than a byte keep the low bits.
    pub(crate) fn cast_rounding(&self, to: DType, rounding: NarrowRounding) -> Result<Self, OpError> {
        let truncated = |x: f64| {
            let (least, most) = if to.is_int() { range(to) } else { range(DType::I64) };
            wrap(to, if x.is_nan() { 0 } else { (x.trunc() as i128).clamp(least, most) })
        };
        let narrow = float_values(to);
        let float = |x: f64| narrow.as_ref().map_or(x, |values| rounded(to, values, x, rounding));
        let (is_float, is_int) = (to.is_float() || narrow.is_some(), to.is_int() || is_small_int(to));
        let data = match &self.data {
            RefData::Float(v) if is_float => RefData::Float(v.iter().map(|&x| float(x)).collect()),
            RefData::Float(v) if is_int => RefData::Int(v.iter().map(|&x| truncated(x)).collect()),
            RefData::Float(v) => RefData::Bool(v.iter().map(|&x| x != 0.0).collect()),
            RefData::Int(v) if is_float => RefData::Float(v.iter().map(|&x| float(x as f64)).collect()),
            RefData::Int(v) if is_int => RefData::Int(v.iter().map(|&x| wrap(to, x)).collect()),
            RefData::Int(v) => RefData::Bool(v.iter().map(|&x| x != 0).collect()),
            RefData::Bool(v) if is_float => RefData::Float(v.iter().map(|&x| float(x.into())).collect()),
            RefData::Bool(v) if is_int => RefData::Int(v.iter().map(|&x| wrap(to, x.into())).collect()),
            RefData::Bool(v) => RefData::Bool(v.clone()),
            RefData::Text(_) => return Err(OpError::unsupported("a cast of text")),
        };
        Ok(Self { dtype: to, shape: self.shape.clone(), data })
    }
}

/// The least and the greatest value of an integer type.
fn range(dtype: DType) -> (i128, i128) {
    let bits = dtype.bits() as u32;
    if dtype.is_signed_int() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}
