//! The primary context of one GPU and the modules in it, shared by everything that works there.
//!
//! The driver compiles what it is given, which takes it seconds for all kernels: each family is a module of its own, loaded
//! when one of its kernels is first asked for.

use super::status::check;
use crate::cuda::{CudaVersion, GpuError, Overhead, Properties};
use cudarc::driver::sys;
use recurve_kernels::launch::{DEFAULT_SHARED_BYTES, Launch};
use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The least version: `cuLaunchKernelEx` with clusters, and PTX 8.0.
pub(super) const NEEDED: CudaVersion = CudaVersion { major: 12, minor: 0 };

/// A retained primary context. Handles of the driver are plain numbers to us; they may be used from any thread in
/// which the context is current, which [`Context::enter`] sees to.
#[derive(Debug)]
pub(super) struct Context {
    device: sys::CUdevice,
    handle: sys::CUcontext,
    module: recurve_ptx::Module,
    /// By family.
    loaded: Mutex<HashMap<&'static str, Loaded>>,
    functions: Mutex<HashMap<&'static str, Function>>,
    /// Bytes that were taken when it was opened, and that modules took since.
    opened: u64,
    modules: AtomicU64,
}

/// The kernels of one family, in the driver's hands.
#[derive(Clone, Copy, Debug)]
struct Loaded(sys::CUmodule);

/// A kernel of the module. The driver guards what lies behind the handle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function(pub(super) sys::CUfunction);

// SAFETY: the driver's handles of contexts, modules and functions may be used from any thread.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Send for Loaded {}
// SAFETY: as above; the driver synchronises calls itself.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// The version that the driver knows, once it is initialised.
    pub(super) fn driver() -> Result<CudaVersion, GpuError> {
        // SAFETY: it only tries to open the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoDriver);
        }
        let mut number = 0;
        // SAFETY: the library is there, and `number` is a place for an integer. Every driver has this call.
        check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&raw mut number) })?;
        let found = new_enough(CudaVersion::of_driver(number))?;
        // SAFETY: 0 is the only flag that there is.
        match unsafe { sys::cuInit(0) } {
            sys::CUresult::CUDA_ERROR_NO_DEVICE => Err(GpuError::NoSuchDevice { ordinal: 0, count: 0 }),
            code => check("cuInit", code).map(|()| found),
        }
    }

    /// GPUs that the initialised driver shows.
    pub(super) fn count() -> Result<usize, GpuError> {
        let mut count: c_int = 0;
        // SAFETY: `count` is a place for an integer.
        check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// What GPU `ordinal` is.
    pub(super) fn properties(ordinal: usize, driver: CudaVersion) -> Result<Properties, GpuError> {
        use sys::CUdevice_attribute as A;
        let device = device(ordinal)?;
        let attribute = |which: A| {
            let mut value: c_int = 0;
            // SAFETY: the device is the driver's own, and `value` is a place for an integer.
            check("cuDeviceGetAttribute", unsafe {
                sys::cuDeviceGetAttribute(&raw mut value, which, device)
            })?;
            Ok::<u32, GpuError>(u32::try_from(value).unwrap_or(0))
        };
        let mut name = [0_u8; 256];
        let length = c_int::try_from(name.len()).unwrap_or(c_int::MAX);
        // SAFETY: at most `length` bytes are written, the last one 0.
        check("cuDeviceGetName", unsafe { sys::cuDeviceGetName(name.as_mut_ptr().cast(), length, device) })?;
        let mut memory = 0;
        // SAFETY: `memory` is a place for a size.
        check("cuDeviceTotalMem", unsafe { sys::cuDeviceTotalMem_v2(&raw mut memory, device) })?;
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        Ok(Properties {
            name: String::from_utf8_lossy(&name[..end]).into_owned(),
            capability: (
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_per_block: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            memory: memory as u64,
            cooperative: attribute(A::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0,
            driver: Some(driver),
        })
    }

    /// Retains the primary context of GPU `ordinal`, for kernels of `module`.
    pub(super) fn open(ordinal: usize, module: recurve_ptx::Module) -> Result<Self, GpuError> {
        let device = device(ordinal)?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the device is the driver's own, and `handle` is a place for a handle.
        check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut handle, device) })?;
        // From here on dropping gives the context back.
        let (loaded, functions, modules) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        let mut context = Self { device, handle, module, loaded, functions, opened: 0, modules };
        let (free, total) = context.memory()?;
        context.opened = total.saturating_sub(free) as u64;
        Ok(context)
    }

    /// Loads every family.
    pub(super) fn load_all(&self) -> Result<(), GpuError> {
        self.module.families().try_for_each(|family| self.family(family).map(drop))
    }

    /// The kernels of one family, loaded when they are first asked for.
    fn family(&self, family: &'static str) -> Result<Loaded, GpuError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = loaded.get(family) {
            return Ok(*found);
        }
        let failed = |problem: String| GpuError::Driver { call: "cuModuleLoadData", problem };
        let text = self.module.text_of(family).map_err(|damaged| failed(damaged.to_string()))?;
        let text = CString::new(text).map_err(|_| failed("a module with a NUL".into()))?;
        let (before, _) = self.memory()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the context is current, and the text ends with 0.
        let code = unsafe { sys::cuModuleLoadData(&raw mut handle, text.as_ptr().cast()) };
        check("cuModuleLoadData", code)?;
        loaded.insert(family, Loaded(handle));
        let (after, _) = self.memory()?;
        self.modules.fetch_add(before.saturating_sub(after) as u64, Ordering::Relaxed);
        Ok(Loaded(handle))
    }

    /// Makes the context current in this thread.
    pub(super) fn enter(&self) -> Result<(), GpuError> {
        // SAFETY: the context is retained as long as `self` lives.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.handle) })
    }

    /// What it took of the device's memory, and its modules.
    pub(super) fn overhead(&self) -> Overhead {
        Overhead { context: self.opened, modules: self.modules.load(Ordering::Relaxed) }
    }

    /// Free and total bytes of the device's memory.
    pub(super) fn memory(&self) -> Result<(usize, usize), GpuError> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the context is current, and both are places for sizes.
        check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok((free, total))
    }

    /// The kernel that `launch` names, with leave for the shared memory that it asks for.
    pub(super) fn function(&self, launch: &dyn Launch) -> Result<Function, GpuError> {
        use sys::CUfunction_attribute as A;
        let (entry, geometry) = (launch.kernel().entry, launch.geometry());
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |problem: String| GpuError::Launch { kernel: entry.to_owned(), problem };
        let function = if let Some(found) = functions.get(entry) {
            *found
        } else {
            let module = self.family(recurve_ptx::family_of(entry))?;
            self.enter()?;
            let name = CString::new(entry).map_err(|_| refused("its name holds a NUL".into()))?;
            let mut handle = std::ptr::null_mut();
            // SAFETY: the module is loaded, and the name ends with 0.
            let code = unsafe { sys::cuModuleGetFunction(&raw mut handle, module.0, name.as_ptr()) };
            if code == sys::CUresult::CUDA_ERROR_NOT_FOUND {
                return Err(refused("the module has no such entry".into()));
            }
            check("cuModuleGetFunction", code)?;
            functions.insert(entry, Function(handle));
            Function(handle)
        };
        drop(functions);
        // More than every block gets is asked for.
        if geometry.shared_bytes > DEFAULT_SHARED_BYTES {
            self.enter()?;
            let bytes = c_int::try_from(geometry.shared_bytes)
                .map_err(|_| refused("shared memory overflows".into()))?;
            let which = A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function is of the loaded module.
            let code = unsafe { sys::cuFuncSetAttribute(function.0, which, bytes) };
            check("cuFuncSetAttribute", code).map_err(|e| refused(e.to_string()))?;
        }
        if geometry.cluster > 8 {
            self.enter()?;
            let which = A::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
            // SAFETY: the function is of the loaded module.
            let code = unsafe { sys::cuFuncSetAttribute(function.0, which, 1) };
            check("cuFuncSetAttribute", code).map_err(|e| refused(e.to_string()))?;
        }
        Ok(function)
    }
}

/// The driver's version, where the engine can work with it.
fn new_enough(found: CudaVersion) -> Result<CudaVersion, GpuError> {
    if found < NEEDED { Err(GpuError::DriverTooOld { found, needed: NEEDED }) } else { Ok(found) }
}

fn device(ordinal: usize) -> Result<sys::CUdevice, GpuError> {
    let count = Context::count()?;
    let number = c_int::try_from(ordinal).ok().filter(|_| ordinal < count);
    let number = number.ok_or(GpuError::NoSuchDevice { ordinal, count })?;
    let mut device = 0;
    // SAFETY: `device` is a place for an integer.
    check("cuDeviceGet", unsafe { sys::cuDeviceGet(&raw mut device, number) })?;
    Ok(device)
}

impl Drop for Context {
    fn drop(&mut self) {
        // What fails here fails because the GPU is lost; the process's end gives everything back.
        let loaded = std::mem::take(self.loaded.get_mut().unwrap_or_else(PoisonError::into_inner));
        if self.enter().is_ok() {
            for module in loaded.into_values() {
                // SAFETY: nobody uses the module's functions any more: they are used through `self` alone.
                let _ = unsafe { sys::cuModuleUnload(module.0) };
            }
        }
        // SAFETY: retained once, in `open`.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_is_too_old_is_an_error_that_says_what_to_do() {
        let version = CudaVersion::of_driver(11_080);
        assert_eq!(version, CudaVersion { major: 11, minor: 8 });
        let refused = new_enough(version).expect_err("too old");
        assert_eq!(refused, GpuError::DriverTooOld { found: version, needed: NEEDED });
        assert!(refused.to_string().contains("11.8, 12.0 is needed: install a newer one"), "{refused}");
        assert_eq!(new_enough(NEEDED), Ok(NEEDED));
    }

    #[test]
    fn without_a_driver_that_is_the_error() {
        // SAFETY: it only tries to open the library.
        if unsafe { sys::is_culib_present() } {
            return;
        }
        let absent = Context::driver().expect_err("there is none");
        assert_eq!(absent, GpuError::NoDriver);
        assert!(absent.to_string().contains("install NVIDIA's driver, or run on the CPU"), "{absent}");
    }
}
