//! GPUs: what the runtime needs of one, as a trait, and the two that there are: [`driver`], a GPU through the CUDA
//! driver, opened when it is asked for, and the emulator of `recurve-kernels` in `emulated`.
//!
//! A device address is a number; what lies behind it belongs to whoever allocated it. Work is given to a stream and
//! done in its order; a host buffer that the device reads or writes is [`Pinned`] and is copied from and to, never
//! borrowed, so that no reference to memory exists that the device may change.

mod allowance;
#[cfg(test)]
mod bound_tensors;
#[cfg(test)]
mod copying_plans;
#[cfg(test)]
mod decided;
mod direct;
mod driver;
mod emulated;
mod error;
#[cfg(test)]
mod failing;
#[cfg(test)]
mod failing_plans;
pub(crate) mod families;
#[cfg(test)]
mod graphs;
mod link;
pub(crate) mod memory;
mod program;
mod reject;
mod site;
#[cfg(test)]
mod small_layers;
mod tensor;
#[cfg(test)]
mod watched;

pub(crate) use allowance::Allowance;
pub(crate) use direct::Direct;
pub(crate) use driver::gpus;
pub use error::{CudaVersion, GpuError};
pub(crate) use memory::{Block, OpenGpu};
pub(crate) use program::{
    Action, CopyPlace, DeviceRun, GpuBound, GpuFailure, GpuProgram, Layout, PlacedSteps, Sequence,
    StepFailure, share,
};
pub use program::{GpuUse, HostTrip};
pub use reject::GpuReject;
pub(crate) use site::{GpuKernel, GpuSite, Operands, Within};
pub(crate) use tensor::Lease;
pub use tensor::{GpuTensor, Memory};

use crate::device::Device;
use crate::exec::Interrupt;
use driver::DriverGpu;
use emulated::EmulatedGpu;
use recurve_kernels::emulator::Options;
use recurve_kernels::launch::Launch;
use std::fmt::Debug;
use std::sync::Arc;

/// Bytes of the emulated GPU's memory.
const EMULATED_MEMORY: u64 = 4 << 30;

/// Opens the GPU `device`.
pub(crate) fn open(device: Device) -> Result<Box<dyn Gpu>, GpuError> {
    open_with(device, None)
}

/// Opens the GPU `device` with the module of that name, where it can run it, or the one that suits it best.
pub(crate) fn open_with(device: Device, named: Option<&str>) -> Result<Box<dyn Gpu>, GpuError> {
    let wanted = |(major, minor): (u32, u32)| match named {
        Some(name) => recurve_ptx::modules()
            .find(|module| module.record().target == name && module.record().runs_on(10 * major + minor)),
        None => module((major, minor)),
    };
    match device {
        Device::Cuda(ordinal) => Ok(Box::new(DriverGpu::open(ordinal, wanted)?)),
        Device::Emulated => Ok(Box::new(EmulatedGpu::new(EMULATED_MEMORY, Options::CHECKED))),
        Device::Cpu => Err(GpuError::Driver { call: "open", problem: "the CPU is no GPU".into() }),
    }
}

/// The module for GPUs of a compute capability.
pub(crate) fn module((major, minor): (u32, u32)) -> Option<recurve_ptx::Module> {
    recurve_ptx::module_for(10 * major + minor)
}

/// What a GPU is and can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Properties {
    /// The name that the driver gives it.
    pub(crate) name: String,
    /// Major and minor number of its compute capability.
    pub(crate) capability: (u32, u32),
    /// Streaming multiprocessors.
    pub(crate) multiprocessors: u32,
    /// Most bytes of shared memory that a block may ask for.
    pub(crate) shared_per_block: u32,
    /// Bytes of its memory.
    pub(crate) memory: u64,
    /// Whether a grid may be launched whose blocks are all resident at once.
    pub(crate) cooperative: bool,
    /// The driver's CUDA version; none for the emulator.
    pub(crate) driver: Option<CudaVersion>,
}

/// What a GPU's memory holds besides what is allocated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Overhead {
    /// Bytes that were taken when it was opened: the context's, and those of other processes.
    pub(crate) context: u64,
    /// Bytes that loading modules took.
    pub(crate) modules: u64,
}

/// A GPU.
pub(crate) trait Gpu: Debug + Send + Sync {
    /// What it is.
    fn properties(&self) -> &Properties;

    /// Loads all kernels now, not each family when it is first used.
    fn load_all(&self) -> Result<(), GpuError> {
        Ok(())
    }

    /// Bytes of its memory that its context and the modules loaded so far take.
    fn overhead(&self) -> Overhead {
        Overhead::default()
    }

    /// Bytes of its memory that nobody holds now.
    fn free_memory(&self) -> Result<usize, GpuError>;

    /// Device memory of `bytes`, aligned to 256 bytes, its content arbitrary.
    fn allocate(&self, bytes: usize) -> Result<u64, GpuError>;

    /// Gives device memory back; no work on it may be under way.
    fn release(&self, address: u64);

    /// Host memory of `bytes` that the device reaches, zeroed.
    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, GpuError>;

    /// A stream of its own.
    fn stream(&self) -> Result<Box<dyn Stream>, GpuError>;

    /// How many blocks of `launch` can be resident on the whole device at once.
    fn resident_blocks(&self, launch: &dyn Launch) -> Result<u32, GpuError>;
}

/// Host memory that the device reaches.
pub(crate) trait Pinned: Debug + Send + Sync {
    /// Its address on the device.
    fn address(&self) -> u64;

    /// Copies `from` to `offset`. The device must not be reading there.
    fn write(&self, offset: usize, from: &[u8]) -> Result<(), GpuError>;

    /// Copies what is at `offset` to `to`. The device must not be writing there.
    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), GpuError>;

    /// Writes a word, at a multiple of 4, that the device may be polling, behind all that was written before.
    fn set_word(&self, offset: usize, value: u32) -> Result<(), GpuError>;

    /// Reads a word, at a multiple of 4, that the device may be writing, before all that is read after.
    fn word(&self, offset: usize) -> Result<u32, GpuError>;
}

/// A word that does not lie at a multiple of its size.
fn misaligned() -> GpuError {
    GpuError::Driver { call: "pinned", problem: "a word that is not aligned".into() }
}

/// Work in order.
pub(crate) trait Stream: Debug + Send {
    /// Copies device or pinned memory; both ranges must be allocated until the stream is finished.
    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError>;

    /// Runs a kernel. What its parameters point to must be allocated until the stream is finished.
    fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError>;

    /// Marks this place in the stream.
    fn record(&mut self) -> Result<Box<dyn Event>, GpuError>;

    /// Lets what follows wait for `event` of a stream of the same GPU.
    fn wait(&mut self, event: &dyn Event) -> Result<(), GpuError>;

    /// Writes a word of pinned memory, at a multiple of 4, behind everything given before; `false` where the GPU does not do
    /// that, and nothing was given.
    fn write_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError>;

    /// Lets what follows wait until a word of pinned memory, at a multiple of 4, is `value`; `false` where the GPU does not
    /// do that, and nothing was given.
    fn wait_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError>;

    /// Errs where something that was given has failed, and waits for nothing.
    fn check(&mut self) -> Result<(), GpuError>;

    /// Records what `work` gives to the stream, instead of doing it.
    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError>;

    /// Does what was captured, once more.
    fn replay(&mut self, graph: &dyn Replay) -> Result<(), GpuError>;

    /// Waits until `event`, which this stream has recorded, is reached, or `interrupt` says to stop waiting.
    fn reach(&mut self, event: &dyn Event, interrupt: &Interrupt) -> Result<(), GpuError>;

    /// Waits until everything given is done, or `interrupt` says to stop waiting.
    fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError>;
}

/// A place in a stream.
pub(crate) trait Event: Debug + Send + Sync {
    /// Milliseconds of device time between `earlier` and this; both must be done.
    fn milliseconds_since(&self, earlier: &dyn Event) -> Result<f32, GpuError>;

    /// The event as its concrete type.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Captured work.
pub(crate) trait Replay: Debug + Send + Sync {
    /// The graph as its concrete type.
    fn as_any(&self) -> &dyn std::any::Any;
}
