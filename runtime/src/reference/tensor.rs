//! Tensors of the reference execution.

use super::narrow::{packed, unpacked};
use crate::dtype::{Bool, DType, Element, nearest_bf16, nearest_f16};
use crate::error::OpError;
use crate::tensor::{Tensor, Value};
use half::{bf16, f16};

/// A tensor whose numbers are wider than any storage type: floats as f64, integers as i128.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RefTensor {
    /// The element type that the graph gives the value; floats are not rounded to it until they leave.
    pub(crate) dtype: DType,
    /// Extents.
    pub(crate) shape: Vec<usize>,
    /// Elements in row-major order.
    pub(crate) data: RefData,
}

/// Elements of a [`RefTensor`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RefData {
    Float(Vec<f64>),
    Int(Vec<i128>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// What flows along an edge in the reference execution.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RefValue {
    Tensor(RefTensor),
    Sequence(Vec<RefValue>),
    Optional(Option<Box<RefValue>>),
}

impl RefTensor {
    /// Floats.
    pub(crate) fn floats(dtype: DType, shape: &[usize], data: Vec<f64>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { dtype, shape: shape.to_vec(), data: RefData::Float(data) }
    }

    /// Integers; they must fit `dtype`.
    pub(crate) fn ints(dtype: DType, shape: &[usize], data: Vec<i128>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { dtype, shape: shape.to_vec(), data: RefData::Int(data) }
    }

    /// Integers, wrapped to the width of `dtype`.
    pub(crate) fn wrapped(dtype: DType, shape: &[usize], data: Vec<i128>) -> Self {
        let data = data.into_iter().map(|v| wrap(dtype, v)).collect();
        Self::ints(dtype, shape, data)
    }

    /// Truth values.
    pub(crate) fn bools(shape: &[usize], data: Vec<bool>) -> Self {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Self { dtype: DType::Bool, shape: shape.to_vec(), data: RefData::Bool(data) }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as f64, when they are floats.
    pub(crate) fn as_floats(&self) -> Result<&[f64], OpError> {
        match &self.data {
            RefData::Float(v) => Ok(v),
            _ => Err(OpError::internal(format!("{} where the reference expects floats", self.dtype))),
        }
    }

    /// The elements as integers, when they are.
    pub(crate) fn as_ints(&self) -> Result<&[i128], OpError> {
        match &self.data {
            RefData::Int(v) => Ok(v),
            _ => Err(OpError::internal(format!("{} where the reference expects integers", self.dtype))),
        }
    }

    /// The elements as truth values, when they are.
    pub(crate) fn as_bools(&self) -> Result<&[bool], OpError> {
        match &self.data {
            RefData::Bool(v) => Ok(v),
            _ => Err(OpError::internal(format!("{} where the reference expects bools", self.dtype))),
        }
    }

    /// Integer elements as i64, for axes and shapes.
    pub(crate) fn to_i64s(&self) -> Result<Vec<i64>, OpError> {
        self.as_ints()?
            .iter()
            .map(|&v| i64::try_from(v).map_err(|_| OpError::value(format!("{v} is out of range"))))
            .collect()
    }

    /// A tensor of `dtype` and `shape` whose element `i` is element `source(i)` of this one: data movement of
    /// any type.
    pub(crate) fn gathered(&self, shape: &[usize], mut source: impl FnMut(usize) -> usize) -> Self {
        let n: usize = shape.iter().product();
        let data = match &self.data {
            RefData::Float(v) => RefData::Float((0..n).map(|i| v[source(i)]).collect()),
            RefData::Int(v) => RefData::Int((0..n).map(|i| v[source(i)]).collect()),
            RefData::Bool(v) => RefData::Bool((0..n).map(|i| v[source(i)]).collect()),
            RefData::Text(v) => RefData::Text((0..n).map(|i| v[source(i)].clone()).collect()),
        };
        Self { dtype: self.dtype, shape: shape.to_vec(), data }
    }

    /// Index of every axis of the element at row-major position `flat`.
    pub(crate) fn unravel(shape: &[usize], mut flat: usize) -> Vec<usize> {
        let mut index = vec![0; shape.len()];
        for (i, &extent) in index.iter_mut().zip(shape).rev() {
            *i = flat % extent;
            flat /= extent;
        }
        index
    }

    /// Row-major position of the element at `index`.
    pub(crate) fn ravel(shape: &[usize], index: &[usize]) -> usize {
        index.iter().zip(shape).fold(0, |flat, (&i, &extent)| flat * extent + i)
    }

    /// Position in a tensor of shape `from` of what is broadcast to `index` of a tensor of a higher or equal
    /// rank.
    pub(crate) fn broadcast_position(from: &[usize], index: &[usize]) -> usize {
        let skip = index.len() - from.len();
        from.iter()
            .zip(&index[skip..])
            .fold(0, |flat, (&extent, &i)| flat * extent + if extent == 1 { 0 } else { i })
    }

    /// The shape that `shapes` broadcast to.
    pub(crate) fn broadcast_shape(shapes: &[&[usize]]) -> Result<Vec<usize>, OpError> {
        let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
        let mut out = vec![1; rank];
        for shape in shapes {
            for (o, &d) in out[rank - shape.len()..].iter_mut().zip(*shape) {
                if *o == 1 {
                    *o = d;
                } else if d != 1 && d != *o {
                    return Err(OpError::shape(format!("{d} does not broadcast to {o}")));
                }
            }
        }
        Ok(out)
    }

    /// From a storage tensor.
    pub(crate) fn from_tensor(tensor: &Tensor) -> Result<Self, OpError> {
        fn floats<T: Element>(t: &Tensor, f: impl Fn(T) -> f64) -> Option<RefData> {
            Some(RefData::Float(t.to_vec::<T>()?.into_iter().map(f).collect()))
        }
        fn ints<T: Element + Into<i128>>(t: &Tensor) -> Option<RefData> {
            Some(RefData::Int(t.to_vec::<T>()?.into_iter().map(Into::into).collect()))
        }
        let data = match tensor.dtype() {
            DType::F32 => floats(tensor, |v: f32| f64::from(v)),
            DType::F64 => floats(tensor, |v: f64| v),
            DType::F16 => floats(tensor, f16::to_f64),
            DType::BF16 => floats(tensor, bf16::to_f64),
            DType::I8 => ints::<i8>(tensor),
            DType::I16 => ints::<i16>(tensor),
            DType::I32 => ints::<i32>(tensor),
            DType::I64 => ints::<i64>(tensor),
            DType::U8 => ints::<u8>(tensor),
            DType::U16 => ints::<u16>(tensor),
            DType::U32 => ints::<u32>(tensor),
            DType::U64 => ints::<u64>(tensor),
            DType::Bool => {
                tensor.to_vec::<Bool>().map(|v| RefData::Bool(v.iter().map(|b| b.get()).collect()))
            }
            DType::String => tensor.as_strings().map(|s| RefData::Text(s.to_vec())),
            narrow => unpacked(narrow, tensor.bytes(), tensor.len()),
        };
        let data =
            data.ok_or_else(|| OpError::unsupported(format!("{} in the reference", tensor.dtype())))?;
        Ok(Self { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), data })
    }

    /// To a storage tensor: floats round to the element type.
    pub(crate) fn to_tensor(&self) -> Result<Tensor, OpError> {
        let shape = &self.shape;
        let made = match (&self.data, self.dtype) {
            (RefData::Float(v), DType::F32) => Tensor::new(shape, v.iter().map(|&x| x as f32).collect()),
            (RefData::Float(v), DType::F64) => Tensor::new(shape, v.clone()),
            (RefData::Float(v), DType::F16) => {
                Tensor::new(shape, v.iter().map(|&x| nearest_f16(x)).collect())
            }
            (RefData::Float(v), DType::BF16) => {
                Tensor::new(shape, v.iter().map(|&x| nearest_bf16(x)).collect())
            }
            (RefData::Int(v), DType::I8) => Tensor::new(shape, v.iter().map(|&x| x as i8).collect()),
            (RefData::Int(v), DType::I16) => Tensor::new(shape, v.iter().map(|&x| x as i16).collect()),
            (RefData::Int(v), DType::I32) => Tensor::new(shape, v.iter().map(|&x| x as i32).collect()),
            (RefData::Int(v), DType::I64) => Tensor::new(shape, v.iter().map(|&x| x as i64).collect()),
            (RefData::Int(v), DType::U8) => Tensor::new(shape, v.iter().map(|&x| x as u8).collect()),
            (RefData::Int(v), DType::U16) => Tensor::new(shape, v.iter().map(|&x| x as u16).collect()),
            (RefData::Int(v), DType::U32) => Tensor::new(shape, v.iter().map(|&x| x as u32).collect()),
            (RefData::Int(v), DType::U64) => Tensor::new(shape, v.iter().map(|&x| x as u64).collect()),
            (RefData::Bool(v), _) => Tensor::new(shape, v.iter().map(|&x| Bool::new(x)).collect()),
            (RefData::Text(v), _) => Tensor::strings(shape, v.clone()),
            (data, dtype) => match packed(dtype, data) {
                Some(bytes) => Tensor::from_bytes(dtype, shape, bytes.into()),
                None => return Err(OpError::internal(format!("{dtype} does not hold this data"))),
            },
        };
        made.map_err(|_| OpError::internal("reference tensor of another size than its shape"))
    }
}

/// `value` modulo the range of the integer type `dtype`.
pub(crate) fn wrap(dtype: DType, value: i128) -> i128 {
    match dtype {
        DType::I8 => i128::from(value as i8),
        DType::I16 => i128::from(value as i16),
        DType::I32 => i128::from(value as i32),
        DType::I64 => i128::from(value as i64),
        DType::U8 => i128::from(value as u8),
        DType::U16 => i128::from(value as u16),
        DType::U32 => i128::from(value as u32),
        DType::U64 => i128::from(value as u64),
        DType::U4 | DType::U2 => value.rem_euclid(1 << dtype.bits()),
        DType::I4 | DType::I2 => {
            let half = 1 << (dtype.bits() - 1);
            (value + half).rem_euclid(2 * half) - half
        }
        _ => value,
    }
}

impl From<RefTensor> for RefValue {
    fn from(tensor: RefTensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl RefValue {
    /// From a storage value.
    pub(crate) fn from_value(value: &Value) -> Result<Self, OpError> {
        Ok(match value {
            Value::Tensor(t) => Self::Tensor(RefTensor::from_tensor(t)?),
            Value::Sequence(s) => {
                Self::Sequence(s.items().iter().map(Self::from_value).collect::<Result<_, _>>()?)
            }
            Value::Optional(o) => {
                Self::Optional(o.as_deref().map(Self::from_value).transpose()?.map(Box::new))
            }
        })
    }

    /// The tensor, when it is one.
    pub(crate) fn tensor(&self) -> Result<&RefTensor, OpError> {
        match self {
            Self::Tensor(t) => Ok(t),
            _ => Err(OpError::internal("the reference expects a tensor")),
        }
    }
}

/// Inputs of one operator in the reference execution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefInputs<'a>(pub(crate) &'a [Option<&'a RefValue>]);

impl<'a> RefInputs<'a> {
    /// Number of inputs, absent ones included.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Input `index` of any kind.
    pub(crate) fn value(&self, index: usize) -> Result<&'a RefValue, OpError> {
        self.0.get(index).copied().flatten().ok_or_else(|| OpError::input(index, "is missing"))
    }

    /// Input `index`, a tensor.
    pub(crate) fn tensor(&self, index: usize) -> Result<&'a RefTensor, OpError> {
        self.value(index)?.tensor()
    }

    /// Input `index`, a tensor, when it is there.
    pub(crate) fn optional(&self, index: usize) -> Result<Option<&'a RefTensor>, OpError> {
        self.0.get(index).copied().flatten().map(RefValue::tensor).transpose()
    }
}
