//! A GPU through the CUDA driver's API, whose library is opened when a GPU is asked for: the same binary runs where
//! there is none. No other module calls the driver.
//!
//! **Invariant:** every handle is used only while the [`Context`] that it belongs to is retained: all hold it by `Arc`.

mod context;
mod pinned;
mod status;
mod stream;

use super::{Gpu, GpuError, Overhead, Pinned, Properties, Stream};
use context::Context;
use cudarc::driver::sys;
use pinned::DriverPinned;
use recurve_kernels::launch::Launch;
use status::check;
use std::ffi::c_int;
use std::sync::Arc;
use stream::{Configuration, DriverStream};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct DriverGpu {
    properties: Properties,
    context: Arc<Context>,
}

/// What the GPUs of this machine are, in the driver's order.
pub(crate) fn gpus() -> Result<Vec<Properties>, GpuError> {
    let version = Context::driver()?;
    (0..Context::count()?).map(|ordinal| Context::properties(ordinal, version)).collect()
}

impl DriverGpu {
    /// Opens GPU `ordinal` for kernels of the module that `module` gives for its compute capability.
    pub(crate) fn open(
        ordinal: usize,
        module: impl FnOnce((u32, u32)) -> Option<recurve_ptx::Module>,
    ) -> Result<Self, GpuError> {
        let version = Context::driver()?;
        let properties = Context::properties(ordinal, version)?;
        let (major, minor) = properties.capability;
        let module = module((major, minor)).ok_or(GpuError::NoModule { major, minor })?;
        Ok(Self { properties, context: Arc::new(Context::open(ordinal, module)?) })
    }
}

impl Gpu for DriverGpu {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn load_all(&self) -> Result<(), GpuError> {
        self.context.load_all()
    }

    fn overhead(&self) -> Overhead {
        self.context.overhead()
    }

    fn free_memory(&self) -> Result<usize, GpuError> {
        self.context.memory().map(|(free, _)| free)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        self.context.enter()?;
        let mut address = 0;
        // SAFETY: the context is current; the driver refuses 0 bytes, so that 1 is asked for.
        match unsafe { sys::cuMemAlloc_v2(&raw mut address, bytes.max(1)) } {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let free = self.free_memory().unwrap_or(0);
                Err(GpuError::OutOfMemory { requested: bytes, free })
            }
            code => check("cuMemAlloc", code).map(|()| address),
        }
    }

    fn release(&self, address: u64) {
        if self.context.enter().is_ok() {
            // SAFETY: `address` came from `allocate`, and by the trait's contract no work on it is under way. A lost
            // GPU refuses, and has nothing to give back.
            let _ = unsafe { sys::cuMemFree_v2(address) };
        }
    }

    fn pinned(&self, bytes: usize) -> Result<Box<dyn Pinned>, GpuError> {
        Ok(Box::new(DriverPinned::new(self.context.clone(), bytes)?))
    }

    fn stream(&self) -> Result<Box<dyn Stream>, GpuError> {
        Ok(Box::new(DriverStream::new(self.context.clone())?))
    }

    fn resident_blocks(&self, launch: &dyn Launch) -> Result<u32, GpuError> {
        let function = self.context.function(launch)?;
        self.context.enter()?;
        let geometry = launch.geometry();
        let mut blocks: c_int = 0;
        if geometry.cluster > 1 {
            let mut configuration = Configuration::new(geometry, std::ptr::null_mut());
            let filled = configuration.filled();
            // SAFETY: the function is of the loaded module; the configuration lives through the call.
            let code =
                unsafe { sys::cuOccupancyMaxActiveClusters(&raw mut blocks, function.0, &raw const filled) };
            check("cuOccupancyMaxActiveClusters", code)?;
            return Ok(u32::try_from(blocks).unwrap_or(0) * geometry.cluster);
        }
        let threads = c_int::try_from(geometry.threads()).unwrap_or(c_int::MAX);
        // SAFETY: the function is of the loaded module, and `blocks` is a place for an integer.
        let code = unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &raw mut blocks,
                function.0,
                threads,
                geometry.shared_bytes as usize,
            )
        };
        check("cuOccupancyMaxActiveBlocksPerMultiprocessor", code)?;
        Ok(u32::try_from(blocks).unwrap_or(0) * self.properties.multiprocessors)
    }
}
