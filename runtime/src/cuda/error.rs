//! What goes wrong with a GPU, and what to do about it.

/// A failure of a GPU or its driver. The device is named by the error that wraps it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The driver's library is not on this machine.
    #[error("there is no CUDA driver here: install NVIDIA's driver, or run on the CPU")]
    NoDriver,
    /// The driver is older than what the engine calls.
    #[error("the CUDA driver is of version {found}, {needed} is needed: install a newer one")]
    DriverTooOld {
        /// The CUDA version that the driver knows.
        found: CudaVersion,
        /// The least version.
        needed: CudaVersion,
    },
    /// There are fewer GPUs.
    #[error("there is no GPU {ordinal}: the driver shows {count}")]
    NoSuchDevice {
        /// The number asked for, from 0.
        ordinal: usize,
        /// GPUs that the driver shows.
        count: usize,
    },
    /// No module was built for GPUs of this kind.
    #[error("no kernels were built for a GPU of compute capability {major}.{minor}")]
    NoModule {
        /// Major number of the compute capability.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The device's memory does not suffice.
    #[error("{requested} bytes more do not fit: {free} bytes of the GPU's memory are free")]
    OutOfMemory {
        /// Bytes asked for.
        requested: usize,
        /// Bytes that were free then.
        free: usize,
    },
    /// The limit that the engine or the session was given does not suffice.
    #[error("{requested} bytes more would exceed the GPU memory limit of {limit} bytes")]
    Limit {
        /// Bytes asked for.
        requested: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The device refused a launch; it can go on.
    #[error("kernel `{kernel}` could not be launched: {problem}")]
    Launch {
        /// The kernel's entry.
        kernel: String,
        /// Why.
        problem: String,
    },
    /// A kernel failed while it ran, or the device went away. The context is unusable from then on: only a new process,
    /// or the CPU, goes on.
    #[error("the GPU is lost ({problem}): start the process again, or run on the CPU")]
    Lost {
        /// The driver's word for it.
        problem: String,
    },
    /// The deadline passed, or the run was cancelled, while the device was at work.
    #[error("the GPU was still at work when the run ended")]
    Interrupted,
    /// A call of the driver failed otherwise.
    #[error("{call} failed: {problem}")]
    Driver {
        /// The call.
        call: &'static str,
        /// The driver's word for it.
        problem: String,
    },
    /// The emulator found a kernel at fault; always a bug.
    #[error("the emulator reports: {report}")]
    Emulator {
        /// What it saw.
        report: String,
    },
}

/// A version of CUDA.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CudaVersion {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl CudaVersion {
    /// From the driver's form: 1000 × major + 10 × minor.
    pub(crate) fn of_driver(number: i32) -> Self {
        let number = u32::try_from(number).unwrap_or(0);
        Self { major: number / 1000, minor: number % 1000 / 10 }
    }
}

impl std::fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
