//! Streams, events and captured graphs of the driver.

use super::context::Context;
use super::status::check;
use crate::cuda::{Event, GpuError, Replay, Stream};
use crate::exec::Interrupt;
use cudarc::driver::sys;
use recurve_kernels::launch::{Geometry, Launch};
use std::any::Any;
use std::ffi::c_void;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Waiting spins this long before it sleeps between looks.
const SPIN: Duration = Duration::from_millis(2);
/// Sleep between looks after that.
const NAP: Duration = Duration::from_micros(50);

/// See [`Stream`].
#[derive(Debug)]
pub(super) struct DriverStream {
    context: Arc<Context>,
    handle: sys::CUstream,
    /// Recorded and looked at by `finish`.
    end: DriverEvent,
}

/// See [`Event`].
#[derive(Debug)]
pub(super) struct DriverEvent {
    context: Arc<Context>,
    handle: sys::CUevent,
}

/// See [`Replay`].
#[derive(Debug)]
struct DriverGraph {
    context: Arc<Context>,
    handle: sys::CUgraphExec,
}

// SAFETY: the driver's handles may be used from any thread; a stream is used by one at a time, as `&mut self` has it.
unsafe impl Send for DriverStream {}
// SAFETY: as above; events are only recorded by the stream that makes them, and looked at by others.
unsafe impl Send for DriverEvent {}
// SAFETY: as above.
unsafe impl Sync for DriverEvent {}
// SAFETY: as above; an executable graph is launched only, and the driver orders launches of one.
unsafe impl Send for DriverGraph {}
// SAFETY: as above.
unsafe impl Sync for DriverGraph {}

/// A launch in the driver's form. The attributes must stay where they are while the form is used.
pub(super) struct Configuration {
    attributes: [sys::CUlaunchAttribute; 2],
    count: u32,
    form: sys::CUlaunchConfig,
}

impl Configuration {
    pub(super) fn new(geometry: &Geometry, stream: sys::CUstream) -> Self {
        use sys::CUlaunchAttributeID as Id;
        let none = || sys::CUlaunchAttribute {
            id: Id::CU_LAUNCH_ATTRIBUTE_IGNORE,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { pad: [0; 64] },
        };
        let mut attributes = [none(), none()];
        let mut count = 0;
        if geometry.cooperative {
            attributes[count].id = Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
            attributes[count].value.cooperative = 1;
            count += 1;
        }
        if geometry.cluster > 1 {
            attributes[count].id = Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
            attributes[count].value.clusterDim =
                sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: geometry.cluster, y: 1, z: 1 };
            count += 1;
        }
        let form = sys::CUlaunchConfig {
            gridDimX: geometry.grid[0],
            gridDimY: geometry.grid[1],
            gridDimZ: geometry.grid[2],
            blockDimX: geometry.block[0],
            blockDimY: geometry.block[1],
            blockDimZ: geometry.block[2],
            sharedMemBytes: geometry.shared_bytes,
            hStream: stream,
            attrs: std::ptr::null_mut(),
            numAttrs: 0,
        };
        Self { attributes, count: count as u32, form }
    }

    /// The form, which points into `self`.
    pub(super) fn filled(&mut self) -> sys::CUlaunchConfig {
        self.form.attrs = self.attributes.as_mut_ptr();
        self.form.numAttrs = self.count;
        self.form
    }
}

impl DriverStream {
    pub(super) fn new(context: Arc<Context>) -> Result<Self, GpuError> {
        let end = DriverEvent::new(context.clone(), sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        let mut handle = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: `DriverEvent::new` made the context current, and `handle` is a place for a handle.
        check("cuStreamCreate", unsafe { sys::cuStreamCreate(&raw mut handle, flags) })?;
        Ok(Self { context, handle, end })
    }

    fn record_into(&self, event: &DriverEvent) -> Result<(), GpuError> {
        // SAFETY: both are of this context, which is current.
        check("cuEventRecord", unsafe { sys::cuEventRecord(event.handle, self.handle) })
    }
}

impl DriverEvent {
    fn new(context: Arc<Context>, flags: sys::CUevent_flags) -> Result<Self, GpuError> {
        context.enter()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the context is current, and `handle` is a place for a handle.
        check("cuEventCreate", unsafe { sys::cuEventCreate(&raw mut handle, flags as u32) })?;
        Ok(Self { context, handle })
    }

    /// Waits until it is reached; its context is current.
    fn reached(&self, interrupt: &Interrupt) -> Result<(), GpuError> {
        let start = Instant::now();
        loop {
            // SAFETY: the event is alive.
            match unsafe { sys::cuEventQuery(self.handle) } {
                sys::CUresult::CUDA_ERROR_NOT_READY => {}
                code => return check("cuEventQuery", code),
            }
            interrupt.check().map_err(|_| GpuError::Interrupted)?;
            if start.elapsed() < SPIN {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(NAP);
            }
        }
    }

    fn of(event: &dyn Event) -> Result<&Self, GpuError> {
        event
            .as_any()
            .downcast_ref()
            .ok_or(GpuError::Driver { call: "event", problem: "of another GPU".into() })
    }
}

impl Stream for DriverStream {
    fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.enter()?;
        // SAFETY: by the trait's contract both ranges stay allocated; mapped host memory has a device address, and the
        // driver finds out which is which.
        check("cuMemcpyAsync", unsafe { sys::cuMemcpyAsync(to, from, bytes, self.handle) })
    }

    fn launch(&mut self, launch: &Arc<dyn Launch>) -> Result<(), GpuError> {
        let function = self.context.function(&**launch)?;
        self.context.enter()?;
        let mut configuration = Configuration::new(launch.geometry(), self.handle);
        let filled = configuration.filled();
        let mut parameter = launch.params_pointer().cast_mut().cast::<c_void>();
        // SAFETY: the function is of the loaded module; its one parameter is copied by the call and has the size that
        // the kernel declares, by the contract of `Launch`; what it points to stays allocated.
        let code = unsafe {
            sys::cuLaunchKernelEx(&raw const filled, function.0, &raw mut parameter, std::ptr::null_mut())
        };
        check("cuLaunchKernelEx", code).map_err(|error| match error {
            GpuError::Driver { problem, .. } => {
                GpuError::Launch { kernel: launch.kernel().entry.to_owned(), problem }
            }
            other => other,
        })
    }

    fn record(&mut self) -> Result<Box<dyn Event>, GpuError> {
        let event = DriverEvent::new(self.context.clone(), sys::CUevent_flags::CU_EVENT_DEFAULT)?;
        self.record_into(&event)?;
        Ok(Box::new(event))
    }

    fn wait(&mut self, event: &dyn Event) -> Result<(), GpuError> {
        let event = DriverEvent::of(event)?;
        self.context.enter()?;
        // SAFETY: both are alive; the driver refuses an event of another GPU's context.
        check("cuStreamWaitEvent", unsafe { sys::cuStreamWaitEvent(self.handle, event.handle, 0) })
    }

    fn write_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        self.context.enter()?;
        // SAFETY: the stream is alive, and the word is pinned memory that stays allocated, by the trait's contract. Without
        // flags the write comes behind all that was given before, seen by the host.
        match unsafe { sys::cuStreamWriteValue32_v2(self.handle, address, value, 0) } {
            sys::CUresult::CUDA_ERROR_NOT_SUPPORTED => Ok(false),
            code => check("cuStreamWriteValue32", code).map(|()| true),
        }
    }

    fn wait_word(&mut self, address: u64, value: u32) -> Result<bool, GpuError> {
        self.context.enter()?;
        let flags = sys::CUstreamWaitValue_flags::CU_STREAM_WAIT_VALUE_EQ as u32;
        // SAFETY: as for writing a word.
        match unsafe { sys::cuStreamWaitValue32_v2(self.handle, address, value, flags) } {
            sys::CUresult::CUDA_ERROR_NOT_SUPPORTED => Ok(false),
            code => check("cuStreamWaitValue32", code).map(|()| true),
        }
    }

    fn check(&mut self) -> Result<(), GpuError> {
        self.context.enter()?;
        // SAFETY: the stream is alive.
        match unsafe { sys::cuStreamQuery(self.handle) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(()),
            code => check("cuStreamQuery", code),
        }
    }

    fn capture(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Stream) -> Result<(), GpuError>,
    ) -> Result<Box<dyn Replay>, GpuError> {
        self.context.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(self.handle, mode) })?;
        let given = work(self);
        let mut graph = std::ptr::null_mut();
        // SAFETY: capture was begun, in this thread. It is ended whether or not the work succeeded.
        let ended =
            check("cuStreamEndCapture", unsafe { sys::cuStreamEndCapture(self.handle, &raw mut graph) });
        let made = given.and(ended).and_then(|()| {
            let mut handle = std::ptr::null_mut();
            // SAFETY: the graph is the one just captured, and `handle` is a place for a handle.
            let code = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut handle, graph, 0) };
            check("cuGraphInstantiate", code)?;
            Ok(Box::new(DriverGraph { context: self.context.clone(), handle }) as Box<dyn Replay>)
        });
        if !graph.is_null() {
            // SAFETY: the executable graph is independent of it.
            let _ = unsafe { sys::cuGraphDestroy(graph) };
        }
        made
    }

    fn replay(&mut self, graph: &dyn Replay) -> Result<(), GpuError> {
        let graph: &DriverGraph = graph
            .as_any()
            .downcast_ref()
            .ok_or(GpuError::Driver { call: "cuGraphLaunch", problem: "a graph of another GPU".into() })?;
        self.context.enter()?;
        // SAFETY: both are alive; what the graph's work points to stays allocated by the trait's contract.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(graph.handle, self.handle) })
    }

    fn reach(&mut self, event: &dyn Event, interrupt: &Interrupt) -> Result<(), GpuError> {
        let event = DriverEvent::of(event)?;
        self.context.enter()?;
        event.reached(interrupt)
    }

    fn finish(&mut self, interrupt: &Interrupt) -> Result<(), GpuError> {
        self.context.enter()?;
        self.record_into(&self.end)?;
        self.end.reached(interrupt)
    }
}

impl Event for DriverEvent {
    fn milliseconds_since(&self, earlier: &dyn Event) -> Result<f32, GpuError> {
        let earlier = DriverEvent::of(earlier)?;
        self.context.enter()?;
        let mut milliseconds = 0.0;
        // SAFETY: both are alive, and `milliseconds` is a place for a float.
        let code = unsafe { sys::cuEventElapsedTime(&raw mut milliseconds, earlier.handle, self.handle) };
        check("cuEventElapsedTime", code).map(|()| milliseconds)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Replay for DriverGraph {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for DriverStream {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made in `new`; the driver ends what is under way first.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.handle) };
        }
    }
}

impl Drop for DriverEvent {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made in `new`, destroyed once.
            let _ = unsafe { sys::cuEventDestroy_v2(self.handle) };
        }
    }
}

impl Drop for DriverGraph {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made in `capture`, destroyed once.
            let _ = unsafe { sys::cuGraphExecDestroy(self.handle) };
        }
    }
}
