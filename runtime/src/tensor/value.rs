//! Values: a tensor, a sequence of values, or an optional value.

use super::Tensor;
use super::view::ValueRef;
use crate::dtype::DType;
use crate::error::OpError;
use crate::memory::Budget;
use std::sync::Arc;

/// What flows along an edge of the graph.
#[derive(Clone, Debug)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence.
    Sequence(Sequence),
    /// An optional value.
    Optional(Option<Arc<Value>>),
}

/// A sequence of values. Clones share the items.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    items: Arc<Vec<Value>>,
    /// Element type of the items, where it is known although there may be none.
    dtype: Option<DType>,
}

impl Sequence {
    /// A sequence of `items`.
    pub fn new(items: Vec<Value>) -> Self {
        let dtype = items.first().and_then(Value::as_tensor).map(Tensor::dtype);
        Self { items: Arc::new(items), dtype }
    }

    /// A sequence of tensors of `dtype` that has no items yet.
    pub fn empty(dtype: DType) -> Self {
        Self { items: Arc::default(), dtype: Some(dtype) }
    }

    /// A sequence of the same type with other items.
    pub(crate) fn with_items(&self, items: Vec<Value>) -> Self {
        Self { dtype: self.dtype, ..Self::new(items) }
    }

    /// Element type of the items, where it is known.
    pub(crate) fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    /// The items.
    pub fn items(&self) -> &[Value] {
        &self.items
    }
}

impl Value {
    /// The tensor, when it is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// The tensor, when it is one.
    pub fn into_tensor(self) -> Option<Tensor> {
        match self {
            Self::Tensor(t) => Some(t),
            _ => None,
        }
    }

    /// A borrowed view.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Tensor(t) => ValueRef::Tensor(t.view()),
            Self::Sequence(s) => ValueRef::Sequence(s),
            Self::Optional(o) => ValueRef::Optional(o.as_deref()),
        }
    }

    /// The same for a kernel: a tensor whose data is not aligned is copied. Items of a sequence from outside
    /// need not be aligned before they are taken out of it.
    pub(crate) fn aligned(&self, budget: &Budget) -> Result<Self, OpError> {
        match self {
            Self::Tensor(t) if !t.is_aligned() => Tensor::copy_of(t.view(), budget).map(Self::Tensor),
            other => Ok(other.clone()),
        }
    }

    /// An owned copy of what `value` borrows; tensors are copied, sequences shared.
    pub(crate) fn copy_of(value: ValueRef<'_>, budget: &Budget) -> Result<Self, OpError> {
        Ok(match value {
            ValueRef::Tensor(t) => Self::Tensor(Tensor::copy_of(t, budget)?),
            ValueRef::Sequence(s) => Self::Sequence(s.clone()),
            ValueRef::Optional(o) => Self::Optional(o.map(|v| Arc::new(v.clone()))),
        })
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}
