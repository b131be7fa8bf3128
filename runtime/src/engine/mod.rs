//! The engine: what sessions of one process share, so that many models run without fighting for cores or
//! memory.

use crate::cost::ProfileCache;
use crate::cuda::{self, GpuError, GpuTensor, Memory, OpenGpu};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::exec::{SPIN, Team};
use crate::memory::Budget;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

/// Threads that an engine may have.
const MAX_THREADS: usize = 1024;

/// Worker threads, open GPUs, memory budgets and the place of profiles, shared by sessions. Clones are the same engine; the
/// workers end with the last clone and session.
///
/// # Example
/// ```
/// use recurve::Engine;
/// let engine = Engine::builder().with_threads(2).with_memory_limit(1 << 30).build()?;
/// assert_eq!(engine.threads(), 2);
/// # Ok::<(), recurve::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Engine(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) team: Team,
    pub(crate) budget: Budget,
    pub(crate) gpu_memory_limit: usize,
    gpus: Mutex<HashMap<Device, Arc<OpenGpu>>>,
    /// Where its sessions keep what they measure.
    pub(crate) profiles: Option<ProfileCache>,
}

/// Settings of an [`Engine`].
#[derive(Clone, Debug)]
pub struct EngineBuilder {
    threads: Option<usize>,
    memory_limit: usize,
    gpu_memory_limit: usize,
    pinning: Pinning,
    spin: Duration,
    profiles: Option<ProfileCache>,
}

/// Whether worker threads are bound to cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Pinning {
    /// Each worker is bound to a core of its own when the process may use at least as many cores as the engine
    /// has threads. The calling thread is left where it is.
    #[default]
    Cores,
    /// The system moves workers as it likes.
    None,
}

impl Engine {
    /// Settings for a new engine.
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            threads: None,
            memory_limit: usize::MAX,
            gpu_memory_limit: usize::MAX,
            pinning: Pinning::default(),
            spin: SPIN,
            profiles: ProfileCache::user(),
        }
    }

    /// Threads that an operator may use, the caller's included.
    pub fn threads(&self) -> usize {
        self.0.team.threads()
    }

    /// Bytes of tensors, weights and workspaces that the engine's sessions hold now.
    pub fn memory_used(&self) -> usize {
        self.0.budget.used()
    }

    /// Most bytes held at once so far.
    pub fn memory_peak(&self) -> usize {
        self.0.budget.peak()
    }

    /// Bytes of the memory of `device`, a GPU, that the engine's sessions and tensors hold now, cached ones included; 0 where
    /// none of them uses it.
    pub fn gpu_memory_used(&self, device: Device) -> usize {
        self.0.open_gpus().get(&device).map_or(0, |gpu| gpu.held())
    }

    /// Most bytes of the memory of `device` held at once so far.
    pub fn gpu_memory_peak(&self, device: Device) -> usize {
        self.0.open_gpus().get(&device).map_or(0, |gpu| gpu.peak())
    }

    /// A tensor of zeros for `device`, a GPU, to read and write where it lies; see [`Session::io_binding`].
    ///
    /// [`Session::io_binding`]: crate::Session::io_binding
    ///
    /// # Example
    /// ```
    /// use recurve::gpu::Memory;
    /// use recurve::{DType, Device, Engine, Tensor};
    /// let engine = Engine::builder().with_threads(1).build()?;
    /// let frame = engine.gpu_tensor(Device::Emulated, DType::F32, &[2], Memory::Pinned)?;
    /// frame.write(&Tensor::new(&[2], vec![1f32, 2.0])?)?;
    /// assert_eq!(frame.read()?.as_slice::<f32>(), Some(&[1.0, 2.0][..]));
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn gpu_tensor(
        &self,
        device: Device,
        dtype: DType,
        shape: &[usize],
        memory: Memory,
    ) -> Result<GpuTensor, Error> {
        GpuTensor::new(self, device, dtype, shape, memory)
    }

    /// Gives `gpu` for `device` to sessions of this engine.
    #[cfg(test)]
    pub(crate) fn use_gpu(&self, device: Device, gpu: OpenGpu) {
        self.0.open_gpus().insert(device, Arc::new(gpu));
    }

    /// The engine that sessions without one of their own share, one for each number of threads.
    pub(crate) fn default_for(threads: Option<usize>) -> Result<Self, Error> {
        static ENGINES: OnceLock<Mutex<HashMap<usize, Weak<Shared>>>> = OnceLock::new();
        let threads = check_threads(threads)?;
        let mut engines = ENGINES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = engines.get(&threads).and_then(Weak::upgrade) {
            return Ok(Self(shared));
        }
        let engine = Self::builder().with_threads(threads).build()?;
        engines.insert(threads, Arc::downgrade(&engine.0));
        Ok(engine)
    }
}

impl Shared {
    /// The GPU `device`, opened by the first who asks.
    pub(crate) fn gpu(&self, device: Device) -> Result<Arc<OpenGpu>, GpuError> {
        let mut gpus = self.open_gpus();
        if let Some(gpu) = gpus.get(&device) {
            return Ok(gpu.clone());
        }
        let gpu = Arc::new(OpenGpu::new(cuda::open(device)?, self.gpu_memory_limit));
        gpus.insert(device, gpu.clone());
        Ok(gpu)
    }

    /// The GPU `device`, if somebody has opened it.
    pub(crate) fn opened(&self, device: Device) -> Option<Arc<OpenGpu>> {
        self.open_gpus().get(&device).cloned()
    }

    fn open_gpus(&self) -> MutexGuard<'_, HashMap<Device, Arc<OpenGpu>>> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EngineBuilder {
    /// Threads that an operator may use, the caller's included; by default one per core that the process may
    /// use. With 1, everything runs on the caller's thread.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Most bytes of tensors, weights and workspaces that all sessions may hold together; no limit by default.
    pub fn with_memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// Most bytes of each GPU's memory that all sessions may hold together: weights, activations and workspaces, and the
    /// tensors of [`Engine::gpu_tensor`]; no limit by default.
    pub fn with_gpu_memory_limit(mut self, bytes: usize) -> Self {
        self.gpu_memory_limit = bytes;
        self
    }

    /// Whether workers are bound to cores.
    pub fn with_pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// How long a thread that waits for work or for another thread polls before it parks; 50 µs by default. A parked
    /// thread uses no CPU and takes some microseconds to wake.
    pub fn with_spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Where sessions that measure, as [`Mode`](crate::settings::Mode) says, keep what they find, for each other and for
    /// later processes, or `None` for nowhere; by default [`ProfileCache::user`]. A session can have
    /// [one of its own](crate::SessionBuilder::with_profile_cache).
    pub fn with_profile_cache(mut self, cache: impl Into<Option<ProfileCache>>) -> Self {
        self.profiles = cache.into();
        self
    }

    /// Starts the workers.
    ///
    /// # Example
    /// ```
    /// use recurve::Engine;
    /// use recurve::settings::Pinning;
    /// let engine = Engine::builder().with_threads(2).with_pinning(Pinning::None).build()?;
    /// assert_eq!((engine.threads(), engine.memory_used()), (2, 0));
    /// assert!(Engine::builder().with_threads(0).build().is_err());
    /// # Ok::<(), recurve::Error>(())
    /// ```
    pub fn build(self) -> Result<Engine, Error> {
        let threads = check_threads(self.threads)?;
        let team = Team::spinning(threads, self.pinning == Pinning::Cores, self.spin);
        Ok(Engine(Arc::new(Shared {
            team,
            budget: Budget::new(self.memory_limit),
            gpu_memory_limit: self.gpu_memory_limit,
            gpus: Mutex::default(),
            profiles: self.profiles,
        })))
    }
}

fn check_threads(threads: Option<usize>) -> Result<usize, Error> {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    if (1..=MAX_THREADS).contains(&threads) {
        return Ok(threads);
    }
    Err(Error::Setting { name: "threads", problem: format!("is {threads}; 1 to {MAX_THREADS} are possible") })
}
