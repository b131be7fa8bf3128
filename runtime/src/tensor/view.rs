//! Borrowed tensors, read and written.

use super::value::{Sequence, Value};
use crate::dtype::{DType, Element};
use crate::error::{Error, OpError};

/// A borrowed tensor.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    dtype: DType,
    shape: &'a [usize],
    data: ViewData<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum ViewData<'a> {
    Bytes(&'a [u8]),
    Strings(&'a [String]),
}

impl<'a> TensorView<'a> {
    /// A view of `elements` as a tensor of `shape`.
    ///
    /// # Example
    /// ```
    /// let (samples, shape) = ([0.5f32, -0.5, 0.25], [1, 3]);
    /// let view = recurve::TensorView::new(&shape, &samples)?; // nothing is copied
    /// assert_eq!((view.shape(), view.as_slice::<f32>()), (&shape[..], Some(&samples[..])));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn new<T: Element>(shape: &'a [usize], elements: &'a [T]) -> Result<Self, Error> {
        super::check_count(T::DTYPE, shape, elements.len())?;
        Ok(Self { dtype: T::DTYPE, shape, data: ViewData::Bytes(bytemuck::cast_slice(elements)) })
    }

    /// A view of raw little-endian bytes, packed as ONNX packs `dtype`: for types that no Rust type holds, and for those
    /// that are known only at run time. Bytes that are not aligned for the type are copied when a model reads them.
    ///
    /// # Example
    /// ```
    /// use recurve::{DType, TensorView};
    /// let nibbles = [0x21u8, 0x03]; // two elements in a byte
    /// let view = TensorView::from_bytes(DType::U4, &[3], &nibbles)?;
    /// assert_eq!((view.dtype(), view.len()), (DType::U4, 3));
    /// assert!(TensorView::from_bytes(DType::F32, &[3], &nibbles).is_err(), "three floats have twelve bytes");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn from_bytes(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> Result<Self, Error> {
        super::check_bytes(dtype, shape, bytes.len())?;
        Ok(Self::over_bytes(dtype, shape, bytes))
    }

    pub(crate) fn over(dtype: DType, shape: &'a [usize], data: ViewData<'a>) -> Self {
        Self { dtype, shape, data }
    }

    pub(crate) fn over_bytes(dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> Self {
        Self { dtype, shape, data: ViewData::Bytes(bytes) }
    }

    pub(crate) fn data(&self) -> ViewData<'a> {
        self.data
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Raw bytes; empty for text.
    pub fn bytes(&self) -> &'a [u8] {
        match self.data {
            ViewData::Bytes(b) => b,
            ViewData::Strings(_) => &[],
        }
    }

    /// The elements, when `T` is the element type and the data is aligned for it.
    pub fn as_slice<T: Element>(&self) -> Option<&'a [T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        match self.data {
            ViewData::Bytes(b) => bytemuck::try_cast_slice(b).ok(),
            ViewData::Strings(_) => None,
        }
    }

    /// The text, when the element type is [`DType::String`].
    pub fn as_strings(&self) -> Option<&'a [String]> {
        match self.data {
            ViewData::Strings(s) => Some(s),
            ViewData::Bytes(_) => None,
        }
    }

    /// The elements, copied, whatever their alignment, when `T` is the element type.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        if T::DTYPE != self.dtype {
            return None;
        }
        Some(self.bytes().chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }

    /// The elements for a kernel: the graph has established dtype and alignment, so a mismatch is a bug.
    pub(crate) fn elements<T: Element>(&self) -> Result<&'a [T], OpError> {
        self.as_slice().ok_or_else(|| {
            OpError::internal(format!("{} tensor read as {} or not aligned", self.dtype, T::DTYPE))
        })
    }

    /// Integers of any width as `i64`; `u64` above `i64::MAX` and other types are refused.
    pub(crate) fn to_i64s(self) -> Result<Vec<i64>, OpError> {
        fn collect<T: Element + TryInto<i64>>(v: &TensorView<'_>) -> Option<Vec<i64>> {
            v.to_vec::<T>()?.into_iter().map(|x| x.try_into().ok()).collect()
        }
        match self.dtype {
            DType::I64 => collect::<i64>(&self),
            DType::I32 => collect::<i32>(&self),
            DType::I16 => collect::<i16>(&self),
            DType::I8 => collect::<i8>(&self),
            DType::U64 => collect::<u64>(&self),
            DType::U32 => collect::<u32>(&self),
            DType::U16 => collect::<u16>(&self),
            DType::U8 => collect::<u8>(&self),
            DType::Bool => {
                self.to_vec::<crate::dtype::Bool>().map(|v| v.iter().map(|b| b.get().into()).collect())
            }
            _ => None,
        }
        .ok_or_else(|| OpError::value(format!("{} values where integers are needed", self.dtype)))
    }
}

impl std::fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        super::debug::fmt("TensorView", *self, f)
    }
}

impl<'a> From<&'a super::Tensor> for TensorView<'a> {
    fn from(tensor: &'a super::Tensor) -> Self {
        tensor.view()
    }
}

/// A borrowed tensor to write to: the caller's buffer for an output.
pub struct TensorMut<'a> {
    dtype: DType,
    shape: &'a [usize],
    bytes: &'a mut [u8],
}

impl<'a> TensorMut<'a> {
    /// `elements` as the place of a tensor of `shape`.
    ///
    /// # Example
    /// ```
    /// use recurve::{DType, TensorMut};
    /// let mut place = [0f32; 6];
    /// let output = TensorMut::new(&[2, 3], &mut place)?;
    /// assert_eq!((output.dtype(), output.shape()), (DType::F32, &[2, 3][..]));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn new<T: Element>(shape: &'a [usize], elements: &'a mut [T]) -> Result<Self, Error> {
        super::check_count(T::DTYPE, shape, elements.len())?;
        Ok(Self { dtype: T::DTYPE, shape, bytes: bytemuck::cast_slice_mut(elements) })
    }

    /// Raw bytes as the place of a tensor, packed as ONNX packs `dtype`. They must be aligned for the type, or the run that
    /// is given them is refused.
    ///
    /// # Example
    /// ```
    /// use recurve::{DType, TensorMut};
    /// let mut place = [0u8; 2];
    /// let output = TensorMut::from_bytes(DType::I4, &[3], &mut place)?;
    /// assert_eq!((output.dtype(), output.shape()), (DType::I4, &[3][..]));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn from_bytes(dtype: DType, shape: &'a [usize], bytes: &'a mut [u8]) -> Result<Self, Error> {
        super::check_bytes(dtype, shape, bytes.len())?;
        Ok(Self { dtype, shape, bytes })
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        self.shape
    }

    /// Element type, extents and bytes to write.
    pub(crate) fn parts(&mut self) -> (DType, &[usize], &mut [u8]) {
        (self.dtype, self.shape, self.bytes)
    }
}

impl std::fmt::Debug for TensorMut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        super::debug::fmt("TensorMut", TensorView::over_bytes(self.dtype, self.shape, self.bytes), f)
    }
}

/// A borrowed value of any kind.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// A tensor.
    Tensor(TensorView<'a>),
    /// A sequence.
    Sequence(&'a Sequence),
    /// An optional value.
    Optional(Option<&'a Value>),
}

impl<'a> ValueRef<'a> {
    /// The tensor, when it is one.
    pub fn tensor(self) -> Option<TensorView<'a>> {
        match self {
            Self::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

impl<'a> From<TensorView<'a>> for ValueRef<'a> {
    fn from(view: TensorView<'a>) -> Self {
        Self::Tensor(view)
    }
}

impl<'a> From<&'a super::Tensor> for ValueRef<'a> {
    fn from(tensor: &'a super::Tensor) -> Self {
        Self::Tensor(tensor.view())
    }
}

impl<'a> From<&'a Value> for ValueRef<'a> {
    fn from(value: &'a Value) -> Self {
        value.as_ref()
    }
}
