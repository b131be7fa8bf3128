//! The owned tensor: a dtype, a shape and shared immutable data.

use super::view::{TensorView, ViewData};
use super::{Shape, element_count};
use crate::dtype::{DType, Element, nearest_bf16, nearest_f16};
use crate::error::{Error, OpError};
use crate::exec::Interrupt;
use crate::memory::{Budget, Buffer};
use bytes::Bytes;
use std::sync::Arc;

/// A dense row-major tensor. Clones share the data.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Data,
}

#[derive(Clone)]
enum Data {
    /// Little-endian elements; not necessarily aligned, since model files do not align them.
    Bytes(Bytes),
    Strings(Arc<[String]>),
}

/// A buffer's bytes as an owner of [`Bytes`].
struct SharedBuffer(Arc<Buffer>);

impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl Tensor {
    /// A tensor of `elements` in row-major order.
    ///
    /// # Example
    /// ```
    /// let t = recurve::Tensor::new(&[2, 3], vec![1f32, 2., 3., 4., 5., 6.])?;
    /// assert_eq!(t.shape(), [2, 3]);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn new<T: Element>(shape: &[usize], elements: Vec<T>) -> Result<Self, Error> {
        super::check_count(T::DTYPE, shape, elements.len())?;
        struct Owner<T>(Vec<T>);
        impl<T: Element> AsRef<[u8]> for Owner<T> {
            fn as_ref(&self) -> &[u8] {
                bytemuck::cast_slice(&self.0)
            }
        }
        let data = Data::Bytes(Bytes::from_owner(Owner(elements)));
        Ok(Self { dtype: T::DTYPE, shape: shape.into(), data })
    }

    /// A tensor of one element and no axes.
    pub fn scalar<T: Element>(value: T) -> Self {
        let data = Data::Bytes(Bytes::copy_from_slice(bytemuck::bytes_of(&value)));
        Self { dtype: T::DTYPE, shape: Shape::new(), data }
    }

    /// A tensor of text.
    ///
    /// # Example
    /// ```
    /// let t = recurve::Tensor::strings(&[2], vec!["eins".to_owned(), "zwei".to_owned()])?;
    /// assert_eq!(t.as_strings().map(|words| words[1].as_str()), Some("zwei"));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn strings(shape: &[usize], elements: Vec<String>) -> Result<Self, Error> {
        super::check_count(DType::String, shape, elements.len())?;
        Ok(Self { dtype: DType::String, shape: shape.into(), data: Data::Strings(elements.into()) })
    }

    /// A tensor over raw little-endian bytes, packed as ONNX packs its element type.
    ///
    /// # Example
    /// ```
    /// use recurve::{DType, Tensor};
    /// let t = Tensor::from_bytes(DType::U4, &[3], vec![0x21, 0x03].into())?; // two elements in a byte
    /// assert_eq!((t.len(), t.bytes()), (3, &[0x21, 0x03][..]));
    /// assert!(Tensor::from_bytes(DType::F32, &[3], vec![0; 11].into()).is_err(), "twelve bytes are three floats");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Self, Error> {
        super::check_bytes(dtype, shape, bytes.len())?;
        Ok(Self { dtype, shape: shape.into(), data: Data::Bytes(bytes) })
    }

    /// A tensor over a buffer that was filled for it.
    pub(crate) fn from_buffer(dtype: DType, shape: &[usize], buffer: Buffer) -> Result<Self, OpError> {
        if element_count(shape).and_then(|n| dtype.bytes(n)) != Some(buffer.bytes().len()) {
            return Err(OpError::internal("buffer length differs from the tensor's"));
        }
        Ok(Self { dtype, shape: shape.into(), data: Data::Bytes(Bytes::from_owner(buffer)) })
    }

    /// A tensor over a buffer that whoever filled it keeps too, to fill it again when the tensor is gone.
    pub(crate) fn from_shared(dtype: DType, shape: &[usize], buffer: Arc<Buffer>) -> Result<Self, OpError> {
        if element_count(shape).and_then(|n| dtype.bytes(n)) != Some(buffer.bytes().len()) {
            return Err(OpError::internal("buffer length differs from the tensor's"));
        }
        Ok(Self { dtype, shape: shape.into(), data: Data::Bytes(Bytes::from_owner(SharedBuffer(buffer))) })
    }

    /// A copy of `view`, charged to `budget`.
    pub(crate) fn copy_of(view: TensorView<'_>, budget: &Budget) -> Result<Self, OpError> {
        Self::copy_unless(view, budget, &Interrupt::default())
    }

    /// The same, unless the run that it is for is interrupted.
    pub(crate) fn copy_unless(
        view: TensorView<'_>,
        budget: &Budget,
        interrupt: &Interrupt,
    ) -> Result<Self, OpError> {
        match view.data() {
            ViewData::Strings(s) => {
                Ok(Self { dtype: view.dtype(), shape: view.shape().into(), data: Data::Strings(s.into()) })
            }
            ViewData::Bytes(b) => {
                let mut buffer = Buffer::zeroed(b.len(), budget)?;
                interrupt.copy(buffer.bytes_mut(), b)?;
                Self::from_buffer(view.dtype(), view.shape(), buffer)
            }
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A borrowed view.
    pub fn view(&self) -> TensorView<'_> {
        match &self.data {
            Data::Bytes(b) => TensorView::over(self.dtype, &self.shape, ViewData::Bytes(b)),
            Data::Strings(s) => TensorView::over(self.dtype, &self.shape, ViewData::Strings(s)),
        }
    }

    /// The elements, when `T` is the element type and the data is aligned for it. Tensors made by this
    /// crate's API and outputs of a run always are aligned; weights taken from a model file may not be.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        match &self.data {
            Data::Bytes(b) => bytemuck::try_cast_slice(b).ok(),
            Data::Strings(_) => None,
        }
    }

    /// The elements, copied, whatever their alignment, when `T` is the element type.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        self.view().to_vec()
    }

    /// The elements of a float tensor, widened, whatever their alignment.
    pub(crate) fn to_f64s(&self) -> Option<Vec<f64>> {
        match self.dtype {
            DType::F32 => Some(self.to_vec::<f32>()?.into_iter().map(f64::from).collect()),
            DType::F64 => self.to_vec(),
            DType::F16 => Some(self.to_vec::<half::f16>()?.into_iter().map(f64::from).collect()),
            DType::BF16 => Some(self.to_vec::<half::bf16>()?.into_iter().map(f64::from).collect()),
            _ => None,
        }
    }

    /// A float tensor of `dtype` with `elements` rounded to it, charged to `budget`. `None` where it does not fit,
    /// or `dtype` is no float.
    pub(crate) fn from_f64s(
        dtype: DType,
        shape: &[usize],
        elements: impl Iterator<Item = f64>,
        budget: &Budget,
    ) -> Option<Self> {
        let size = dtype.is_float().then_some(dtype.bits() / 8)?;
        let mut buffer = Buffer::zeroed(dtype.bytes(element_count(shape)?)?, budget).ok()?;
        for (to, v) in buffer.bytes_mut().chunks_exact_mut(size).zip(elements) {
            match dtype {
                DType::F32 => to.copy_from_slice(&(v as f32).to_le_bytes()),
                DType::F64 => to.copy_from_slice(&v.to_le_bytes()),
                DType::F16 => to.copy_from_slice(&nearest_f16(v).to_le_bytes()),
                DType::BF16 => to.copy_from_slice(&nearest_bf16(v).to_le_bytes()),
                _ => return None,
            }
        }
        Self::from_buffer(dtype, shape, buffer).ok()
    }

    /// Element `at` of a float tensor, widened, whatever its alignment.
    pub(crate) fn f64_at(&self, at: usize) -> Option<f64> {
        let size = self.dtype.bits() / 8;
        let bytes = self.bytes().get(at.checked_mul(size)?..)?.get(..size)?;
        match self.dtype {
            DType::F32 => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            DType::F64 => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
            DType::F16 => Some(half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64()),
            DType::BF16 => Some(half::bf16::from_le_bytes(bytes.try_into().ok()?).to_f64()),
            _ => None,
        }
    }

    /// The text, when the element type is [`DType::String`].
    pub fn as_strings(&self) -> Option<&[String]> {
        match &self.data {
            Data::Strings(s) => Some(s),
            Data::Bytes(_) => None,
        }
    }

    /// Raw bytes; empty for text.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Bytes(b) => b,
            Data::Strings(_) => &[],
        }
    }

    /// Whether the data is aligned for its element type.
    pub(crate) fn is_aligned(&self) -> bool {
        self.bytes().as_ptr().align_offset(self.dtype.bits().div_ceil(8).clamp(1, 16)) == 0
    }

    /// The same data under another shape of as many elements.
    pub(crate) fn reshaped(&self, shape: &[usize]) -> Result<Self, OpError> {
        if element_count(shape) != Some(self.len()) {
            return Err(OpError::shape(format!("{:?} cannot become {shape:?}", self.shape)));
        }
        Ok(Self { dtype: self.dtype, shape: shape.into(), data: self.data.clone() })
    }
}

impl Tensor {
    /// `count` slices of the first axis from `start` on, over the same data; for types of whole bytes.
    pub(crate) fn part_of_first_axis(&self, start: usize, count: usize) -> Option<Self> {
        let Data::Bytes(bytes) = &self.data else { return None };
        let extent = *self.shape.first()?;
        let end =
            start.checked_add(count).filter(|&end| end <= extent && self.dtype.bits().is_multiple_of(8))?;
        let each = bytes.len() / extent;
        let mut shape = self.shape.clone();
        shape[0] = count;
        Some(Self { dtype: self.dtype, shape, data: Data::Bytes(bytes.slice(start * each..end * each)) })
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        super::debug::fmt("Tensor", self.view(), f)
    }
}
