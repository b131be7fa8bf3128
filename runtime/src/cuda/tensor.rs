//! Tensors of the caller where a GPU reads and writes them: in its memory, or in memory of the host that it reaches.
//!
//! Who uses one is noted in it: a run holds its outputs alone and its inputs with other readers, and so do transfers.
//! Nobody waits for that, who comes too late is told. Work that was given up and does not end keeps what it uses for good.

use super::link::{self, LinkError};
use super::{Block, GpuError, OpenGpu, Pinned};
use crate::device::Device;
use crate::dtype::DType;
use crate::engine::Engine;
use crate::error::{Error, OpError};
use crate::exec::Interrupt;
use crate::memory::{Budget, Buffer, Charge};
use crate::tensor::{Shape, Tensor, TensorMut, TensorView, element_count};
use std::fmt;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, PoisonError};

/// Where a [`GpuTensor`] lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Memory {
    /// In the GPU's memory, under the engine's limit for it.
    Device,
    /// In memory of the host that the GPU reaches and that the system never moves, under the engine's memory limit. A run
    /// copies it to the GPU, or from there, without another copy between.
    Pinned,
}

/// A tensor of the caller that a GPU reads and writes where it lies: an input or an output of
/// [`Session::io_binding`](crate::Session::io_binding). Clones are the same memory, which is given back with the last of them.
///
/// # Example
/// ```
/// use recurve::gpu::Memory;
/// use recurve::{DType, Device, Engine, Tensor};
/// let engine = Engine::builder().with_threads(1).build()?;
/// let state = engine.gpu_tensor(Device::Emulated, DType::F32, &[1, 3], Memory::Device)?;
/// assert_eq!(state.read()?.as_slice::<f32>(), Some(&[0.0; 3][..]), "zeros at first");
/// state.write(&Tensor::new(&[1, 3], vec![1f32, 2.0, 3.0])?)?;
/// assert_eq!(state.read()?.as_slice::<f32>(), Some(&[1.0, 2.0, 3.0][..]));
/// assert_eq!(engine.gpu_memory_used(Device::Emulated), 512, "in grains of 512 bytes");
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Clone)]
pub struct GpuTensor(Arc<Inner>);

struct Inner {
    gpu: Arc<OpenGpu>,
    device: Device,
    /// What host memory is charged to.
    budget: Budget,
    dtype: DType,
    shape: Shape,
    bytes: usize,
    place: Place,
    /// How many read it, or -1 while somebody writes it.
    users: AtomicIsize,
}

enum Place {
    Device(Block),
    Pinned { pinned: Box<dyn Pinned>, _charge: Charge },
}

/// Leave to read a tensor, or to write it, until this is dropped.
pub(crate) struct Lease {
    tensor: GpuTensor,
    writes: bool,
}

impl GpuTensor {
    /// One of `engine`, of zeros.
    pub(crate) fn new(
        engine: &Engine,
        device: Device,
        dtype: DType,
        shape: &[usize],
        memory: Memory,
    ) -> Result<Self, Error> {
        let budget = engine.0.budget.clone();
        let refused = |problem: String| Error::Argument { role: "tensor", name: form(dtype, shape), problem };
        if device == Device::Cpu {
            return Err(refused(format!("is made for a GPU; {device} is none")));
        }
        if dtype == DType::String {
            return Err(refused("is text, which no GPU takes".to_owned()));
        }
        let bytes = element_count(shape).and_then(|n| dtype.bytes(n));
        let bytes = bytes.ok_or_else(|| refused("has more elements than any memory".to_owned()))?;
        let failed = |source| Error::Gpu { device, source };
        let gpu = engine.0.gpu(device).map_err(failed)?;
        let place = match memory {
            Memory::Device => Place::Device(gpu.allocate(bytes).map_err(failed)?),
            Memory::Pinned => {
                let charge = budget.charge(bytes).map_err(|error| no_memory(error, dtype, shape))?;
                Place::Pinned { pinned: gpu.gpu().pinned(bytes.max(1)).map_err(failed)?, _charge: charge }
            }
        };
        let (shape, users) = (shape.into(), AtomicIsize::new(0));
        let made = Self(Arc::new(Inner { gpu, device, budget, dtype, shape, bytes, place, users }));
        made.clear()?;
        Ok(made)
    }

    /// The GPU that reaches it.
    pub fn device(&self) -> Device {
        self.0.device
    }

    /// Where it lies.
    pub fn memory(&self) -> Memory {
        match self.0.place {
            Place::Device(_) => Memory::Device,
            Place::Pinned { .. } => Memory::Pinned,
        }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    /// Its address on the GPU, for others who work there in its primary context, which is that of CUDA's runtime: elements
    /// lie densely in row-major order, as ONNX packs them. It is valid as long as a clone of this tensor is alive. The
    /// engine knows nothing of the work of others: whoever gave some that writes the tensor, or reads what a run is to
    /// write, waits for its end before the run begins; what a run itself has given has ended when it returns. The emulated
    /// GPU's addresses mean nothing outside the engine.
    pub fn address(&self) -> u64 {
        match &self.0.place {
            Place::Device(block) => block.address(),
            Place::Pinned { pinned, .. } => pinned.address(),
        }
    }

    /// Copies a tensor of the same type and shape here. It errs while a run, or another thread, uses the tensor.
    ///
    /// # Example
    /// ```
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, Engine, Tensor};
    /// let engine = Engine::builder().with_threads(1).build()?;
    /// let frame = engine.gpu_tensor(Device::Emulated, DType::U8, &[2, 2], Memory::Device)?;
    /// frame.write(&Tensor::new(&[2, 2], vec![1u8, 2, 3, 4])?)?;
    /// assert!(frame.write(&Tensor::new(&[4], vec![1u8, 2, 3, 4])?).is_err(), "another shape");
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn write<'a>(&self, from: impl Into<TensorView<'a>>) -> Result<(), Error> {
        let from = from.into();
        self.check_form("takes no", from.dtype(), from.shape())?;
        let _lease = self.lease(true).ok_or_else(|| self.in_use())?;
        self.fill(from.bytes(), &Interrupt::default())
    }

    /// A copy on the host, under the engine's memory limit. It errs while a run, or another thread, writes the tensor.
    ///
    /// # Example
    /// ```
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, Engine};
    /// let engine = Engine::builder().with_threads(1).build()?;
    /// let state = engine.gpu_tensor(Device::Emulated, DType::F32, &[1, 2], Memory::Device)?;
    /// assert_eq!(state.read()?.as_slice::<f32>(), Some(&[0.0; 2][..]));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn read(&self) -> Result<Tensor, Error> {
        let _lease = self.lease(false).ok_or_else(|| self.in_use())?;
        self.copy(&self.0.budget, &Interrupt::default())
    }

    /// The same to a buffer of the caller.
    ///
    /// # Example
    /// ```
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, Engine, TensorMut, TensorView};
    /// let engine = Engine::builder().with_threads(1).build()?;
    /// let frame = engine.gpu_tensor(Device::Emulated, DType::I32, &[2], Memory::Pinned)?;
    /// frame.write(TensorView::new(&[2], &[7i32, 8])?)?;
    /// let mut seen = [0i32; 2];
    /// frame.read_into(&mut TensorMut::new(&[2], &mut seen)?)?;
    /// assert_eq!(seen, [7, 8]);
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn read_into(&self, to: &mut TensorMut<'_>) -> Result<(), Error> {
        let (dtype, shape, bytes) = to.parts();
        self.check_form("cannot be read as", dtype, shape)?;
        let _lease = self.lease(false).ok_or_else(|| self.in_use())?;
        self.bring(bytes, &Interrupt::default())
    }

    /// Leave to use it, where nobody else does in a way that does not go with that.
    pub(crate) fn lease(&self, writes: bool) -> Option<Lease> {
        let next = |users: isize| match (writes, users) {
            (true, 0) => Some(-1),
            (false, 0..) => users.checked_add(1),
            _ => None,
        };
        self.0.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, next).ok()?;
        Some(Lease { tensor: self.clone(), writes })
    }

    /// Whether it is of the GPU that an engine has opened.
    pub(crate) fn is_of(&self, gpu: &Arc<OpenGpu>) -> bool {
        Arc::ptr_eq(&self.0.gpu, gpu)
    }

    /// Whether both are the same memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn check_form(&self, what: &str, dtype: DType, shape: &[usize]) -> Result<(), Error> {
        if dtype == self.0.dtype && *shape == self.0.shape[..] {
            return Ok(());
        }
        Err(self.refused(format!("{what} {}", form(dtype, shape))))
    }

    fn in_use(&self) -> Error {
        self.refused("is in use by a run, or by another transfer".to_owned())
    }

    fn refused(&self, problem: String) -> Error {
        Error::Argument { role: "tensor", name: form(self.0.dtype, &self.0.shape), problem }
    }

    /// Writes zeros: a block may hold what somebody else left there.
    fn clear(&self) -> Result<(), Error> {
        let zeros = vec![0; self.0.bytes.min(link::PIECE)];
        match &self.0.place {
            Place::Device(block) => {
                self.up(block, &Interrupt::default(), |_, count, pinned| pinned.write(0, &zeros[..count]))
            }
            Place::Pinned { pinned, .. } => {
                let piece =
                    |offset: usize| pinned.write(offset, &zeros[..zeros.len().min(self.0.bytes - offset)]);
                let mut offsets = (0..self.0.bytes).step_by(link::PIECE);
                offsets.try_for_each(piece).map_err(|source| self.failed(source))
            }
        }
    }

    /// Writes all of it, under a lease; a part of it where that is interrupted.
    fn fill(&self, from: &[u8], interrupt: &Interrupt) -> Result<(), Error> {
        match &self.0.place {
            Place::Device(block) => {
                let piece = |offset: usize, count: usize, pinned: &dyn Pinned| {
                    pinned.write(0, &from[offset..offset + count])
                };
                self.up(block, interrupt, piece)
            }
            Place::Pinned { pinned, .. } => pinned.write(0, from).map_err(|source| self.failed(source)),
        }
    }

    fn up(
        &self,
        block: &Block,
        interrupt: &Interrupt,
        fill: impl Fn(usize, usize, &dyn Pinned) -> Result<(), GpuError>,
    ) -> Result<(), Error> {
        let Inner { gpu, budget, bytes, .. } = &*self.0;
        let mut link = gpu.link.lock().unwrap_or_else(PoisonError::into_inner);
        let to = (block.address(), *bytes);
        link.up(gpu, budget, to, interrupt, fill).map_err(|error| self.not_passed(error))
    }

    fn bring(&self, to: &mut [u8], interrupt: &Interrupt) -> Result<(), Error> {
        let Inner { gpu, budget, place, .. } = &*self.0;
        match place {
            Place::Device(block) => {
                let mut link = gpu.link.lock().unwrap_or_else(PoisonError::into_inner);
                let passed = link.down(gpu, budget, block.address(), to, interrupt);
                passed.map_err(|error| self.not_passed(error))
            }
            Place::Pinned { pinned, .. } => pinned.read(0, to).map_err(|source| self.failed(source)),
        }
    }

    fn copy(&self, budget: &Budget, interrupt: &Interrupt) -> Result<Tensor, Error> {
        let Inner { dtype, shape, bytes, .. } = &*self.0;
        let of_memory = |error| no_memory(error, *dtype, shape);
        let mut buffer = Buffer::zeroed(*bytes, budget).map_err(of_memory)?;
        self.bring(buffer.bytes_mut(), interrupt)?;
        Tensor::from_buffer(*dtype, shape, buffer).map_err(of_memory)
    }

    fn failed(&self, source: GpuError) -> Error {
        Error::Gpu { device: self.0.device, source }
    }

    fn not_passed(&self, error: LinkError) -> Error {
        match error {
            LinkError::Host(OpError::Deadline) => Error::Deadline,
            LinkError::Host(OpError::Cancelled) => Error::Cancelled,
            LinkError::Host(error) => no_memory(error, self.0.dtype, &self.0.shape),
            LinkError::Gpu(source) => self.failed(source),
        }
    }
}

/// What errors call a tensor.
fn form(dtype: DType, shape: &[usize]) -> String {
    format!("{dtype} {shape:?}")
}

/// What the caller is told where the host's memory does not suffice.
fn no_memory(error: OpError, dtype: DType, shape: &[usize]) -> Error {
    match error {
        OpError::Memory { requested, limit } => {
            Error::Memory { what: format!("a tensor {}", form(dtype, shape)), requested, limit }
        }
        other => Error::Internal { what: other.to_string() },
    }
}

impl Lease {
    /// What is leased.
    pub(crate) fn tensor(&self) -> &GpuTensor {
        &self.tensor
    }

    /// A copy on the host, charged to `budget`, unless the run that it is for is interrupted.
    pub(crate) fn read(&self, budget: &Budget, interrupt: &Interrupt) -> Result<Tensor, Error> {
        self.tensor.copy(budget, interrupt)
    }

    /// Copies a tensor of its form there; a part of it where the run that it is of is interrupted.
    pub(crate) fn write(&self, from: TensorView<'_>, interrupt: &Interrupt) -> Result<(), Error> {
        debug_assert!(self.writes);
        self.tensor.fill(from.bytes(), interrupt)
    }

    /// A copy beside it on the device, which is there when this returns.
    pub(crate) fn copied(&self) -> Result<Block, GpuError> {
        let Inner { gpu, bytes, .. } = &*self.tensor.0;
        let block = gpu.allocate(*bytes)?;
        if *bytes > 0 {
            let mut link = gpu.link.lock().unwrap_or_else(PoisonError::into_inner);
            link.across(gpu, block.address(), self.tensor.address(), *bytes)?;
        }
        Ok(block)
    }

    /// Never gives it back: what was given to the device may still use it.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let users = &self.tensor.0.users;
        if self.writes {
            users.store(0, Ordering::Release);
        } else {
            users.fetch_sub(1, Ordering::Release);
        }
    }
}

impl fmt::Debug for GpuTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { device, dtype, shape, .. } = &*self.0;
        write!(f, "GpuTensor({dtype} {:?} on {device}, {:?})", &shape[..], self.memory())
    }
}
