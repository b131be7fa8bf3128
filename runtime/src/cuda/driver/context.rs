//! The primary context of one GPU and the module in it, shared by everything that works there.

use super::status::check;
use crate::cuda::{CudaVersion, GpuError, Properties};
use cudarc::driver::sys;
use recurve_kernels::launch::{DEFAULT_SHARED_BYTES, Launch};
use std::collections::HashMap;
use std::ffi::{CString, c_int};
use std::sync::{Mutex, PoisonError};

/// The least version: `cuLaunchKernelEx` with clusters, and PTX 8.0.
pub(super) const NEEDED: CudaVersion = CudaVersion { major: 12, minor: 0 };

/// A retained primary context. Handles of the driver are plain numbers to us; they may be used from any thread in
/// which the context is current, which [`Context::enter`] sees to.
#[derive(Debug)]
pub(super) struct Context {
    device: sys::CUdevice,
    handle: sys::CUcontext,
    module: sys::CUmodule,
    functions: Mutex<HashMap<&'static str, Function>>,
}

/// A kernel of the module. The driver guards what lies behind the handle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function(pub(super) sys::CUfunction);

// SAFETY: the driver's handles of contexts, modules and functions may be used from any thread.
unsafe impl Send for Function {}
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
        let found = CudaVersion::of_driver(number);
        if found < NEEDED {
            return Err(GpuError::DriverTooOld { found, needed: NEEDED });
        }
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

    /// Retains the primary context of GPU `ordinal` and loads `module`, PTX text, into it.
    pub(super) fn open(ordinal: usize, module: &str) -> Result<Self, GpuError> {
        let device = device(ordinal)?;
        let text = CString::new(module).map_err(|_| GpuError::Driver {
            call: "cuModuleLoadData",
            problem: "a module with a NUL".into(),
        })?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the device is the driver's own, and `handle` is a place for a handle.
        check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut handle, device) })?;
        // From here on dropping gives the context back.
        let mut context =
            Self { device, handle, module: std::ptr::null_mut(), functions: Mutex::new(HashMap::new()) };
        context.enter()?;
        // SAFETY: the context is current, and the text ends with 0.
        let code = unsafe { sys::cuModuleLoadData(&raw mut context.module, text.as_ptr().cast()) };
        check("cuModuleLoadData", code)?;
        Ok(context)
    }

    /// Makes the context current in this thread.
    pub(super) fn enter(&self) -> Result<(), GpuError> {
        // SAFETY: the context is retained as long as `self` lives.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.handle) })
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
            self.enter()?;
            let name = CString::new(entry).map_err(|_| refused("its name holds a NUL".into()))?;
            let mut handle = std::ptr::null_mut();
            // SAFETY: the module is loaded, and the name ends with 0.
            let code = unsafe { sys::cuModuleGetFunction(&raw mut handle, self.module, name.as_ptr()) };
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
        if self.enter().is_ok() && !self.module.is_null() {
            // SAFETY: nobody uses the module's functions any more: they are used through `self` alone.
            let _ = unsafe { sys::cuModuleUnload(self.module) };
        }
        // SAFETY: retained once, in `open`.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}
