//! Comparison of two values within an accuracy class.
//!
//! A float `got` matches `want` when both are NaN, both the same infinity, or
//! `|got − want| ≤ absolute + relative · |want|`. Everything else must be equal.

use crate::dtype::DType;
use crate::ops::Accuracy;
use crate::reference::{RefData, RefTensor, RefValue};
use crate::tensor::{Tensor, Value};
use std::fmt;

/// How far apart two floats may be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tolerance {
    /// Relative to the wanted value.
    pub relative: f64,
    /// Regardless of it.
    pub absolute: f64,
}

impl Tolerance {
    /// The tolerance of an accuracy class for floats stored as `dtype`. `f16` and `bf16` are computed in
    /// `f32` and rounded once or, inside recurrences, once per step.
    pub fn of(class: Accuracy, dtype: DType) -> Self {
        let ulp = match dtype {
            DType::F64 => f64::EPSILON,
            DType::F16 => 1.0 / 1024.0,
            DType::BF16 => 1.0 / 128.0,
            _ => f64::from(f32::EPSILON),
        };
        let (relative, absolute) = match class {
            Accuracy::Exact | Accuracy::Random => (0.0, 0.0),
            Accuracy::Elementwise => (8.0, 2.0),
            Accuracy::Reduction => (64.0, 64.0),
        };
        Self { relative: relative * ulp, absolute: absolute * ulp }
    }
}

/// Where and how two values differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// One is a tensor, sequence or optional, the other is not.
    Kind,
    /// Element types differ.
    DType {
        /// What was computed.
        got: DType,
        /// What was wanted.
        want: DType,
    },
    /// Shapes differ.
    Shape {
        /// What was computed.
        got: Vec<usize>,
        /// What was wanted.
        want: Vec<usize>,
    },
    /// Elements differ.
    Elements {
        /// How many.
        count: usize,
        /// The first few: row-major position, got, wanted.
        first: Vec<(usize, String, String)>,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("the values are of different kinds"),
            Self::DType { got, want } => write!(f, "dtype {got} instead of {want}"),
            Self::Shape { got, want } => write!(f, "shape {got:?} instead of {want:?}"),
            Self::Elements { count, first } => {
                write!(f, "{count} elements differ:")?;
                for (at, got, want) in first {
                    write!(f, " [{at}] {got} instead of {want};")?;
                }
                Ok(())
            }
        }
    }
}

/// Compares `got` with `want`.
pub fn compare(got: &Value, want: &Value, tolerance: Tolerance) -> Result<(), Mismatch> {
    match (got, want) {
        (Value::Tensor(a), Value::Tensor(b)) => compare_tensors(a, b, tolerance),
        (Value::Sequence(a), Value::Sequence(b)) => {
            if a.items().len() != b.items().len() {
                return Err(Mismatch::Shape { got: vec![a.items().len()], want: vec![b.items().len()] });
            }
            a.items().iter().zip(b.items()).try_for_each(|(a, b)| compare(a, b, tolerance))
        }
        (Value::Optional(None), Value::Optional(None)) => Ok(()),
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => compare(a, b, tolerance),
        _ => Err(Mismatch::Kind),
    }
}

fn compare_tensors(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Result<(), Mismatch> {
    match RefTensor::from_tensor(want) {
        Ok(reference) => compare_with_reference(got, &reference, tolerance),
        // Types that the reference does not hold (complex, 8- and 4-bit floats) are compared by their bytes.
        Err(_) => {
            check_form(got, want.dtype(), want.shape())?;
            let differing: Vec<usize> =
                (0..got.bytes().len()).filter(|&i| got.bytes()[i] != want.bytes()[i]).collect();
            elements(&differing, |i| (got.bytes()[i].to_string(), want.bytes()[i].to_string()))
        }
    }
}

fn check_form(got: &Tensor, dtype: DType, shape: &[usize]) -> Result<(), Mismatch> {
    if got.dtype() != dtype {
        return Err(Mismatch::DType { got: got.dtype(), want: dtype });
    }
    if got.shape() != shape {
        return Err(Mismatch::Shape { got: got.shape().to_vec(), want: shape.to_vec() });
    }
    Ok(())
}

fn elements(differing: &[usize], show: impl Fn(usize) -> (String, String)) -> Result<(), Mismatch> {
    if differing.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 5;
    let first = differing
        .iter()
        .take(SHOWN)
        .map(|&i| {
            let (got, want) = show(i);
            (i, got, want)
        })
        .collect();
    Err(Mismatch::Elements { count: differing.len(), first })
}

/// Compares a stored tensor with an unrounded reference.
pub(crate) fn compare_with_reference(
    got: &Tensor,
    want: &RefTensor,
    tolerance: Tolerance,
) -> Result<(), Mismatch> {
    check_form(got, want.dtype, &want.shape)?;
    let held = RefTensor::from_tensor(got).map_err(|_| Mismatch::Kind)?;
    let n = held.len();
    match (&held.data, &want.data) {
        (RefData::Float(a), RefData::Float(b)) => {
            // A reference that the storage type cannot hold is the infinity that it rounds to.
            let rounded =
                want.to_tensor().and_then(|t| RefTensor::from_tensor(&t)).map_err(|_| Mismatch::Kind)?;
            let RefData::Float(r) = rounded.data else { return Err(Mismatch::Kind) };
            let close = |i: usize| {
                (a[i].is_nan() && b[i].is_nan())
                    || a[i] == b[i]
                    || a[i] == r[i]
                    || (a[i] - b[i]).abs() <= tolerance.absolute + tolerance.relative * b[i].abs()
            };
            elements(&(0..n).filter(|&i| !close(i)).collect::<Vec<_>>(), |i| {
                (a[i].to_string(), b[i].to_string())
            })
        }
        (RefData::Int(a), RefData::Int(b)) => {
            elements(&(0..n).filter(|&i| a[i] != b[i]).collect::<Vec<_>>(), |i| {
                (a[i].to_string(), b[i].to_string())
            })
        }
        (RefData::Bool(a), RefData::Bool(b)) => {
            elements(&(0..n).filter(|&i| a[i] != b[i]).collect::<Vec<_>>(), |i| {
                (a[i].to_string(), b[i].to_string())
            })
        }
        (RefData::Text(a), RefData::Text(b)) => {
            elements(&(0..n).filter(|&i| a[i] != b[i]).collect::<Vec<_>>(), |i| (a[i].clone(), b[i].clone()))
        }
        _ => Err(Mismatch::Kind),
    }
}

/// Compares a value with an unrounded reference.
pub(crate) fn compare_value(got: &Value, want: &RefValue, tolerance: Tolerance) -> Result<(), Mismatch> {
    match (got, want) {
        (Value::Tensor(a), RefValue::Tensor(b)) => compare_with_reference(a, b, tolerance),
        (Value::Sequence(a), RefValue::Sequence(b)) => {
            if a.items().len() != b.len() {
                return Err(Mismatch::Shape { got: vec![a.items().len()], want: vec![b.len()] });
            }
            a.items().iter().zip(b).try_for_each(|(a, b)| compare_value(a, b, tolerance))
        }
        (Value::Optional(None), RefValue::Optional(None)) => Ok(()),
        (Value::Optional(Some(a)), RefValue::Optional(Some(b))) => compare_value(a, b, tolerance),
        _ => Err(Mismatch::Kind),
    }
}
